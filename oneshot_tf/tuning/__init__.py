"""What does KerasTuner tune? Its trials, in one process or several."""
