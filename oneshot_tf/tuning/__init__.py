"""How are settings tuned? Trials of KerasTuner, by one process or several."""
