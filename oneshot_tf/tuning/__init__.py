"""What KerasTuner tunes, and by what."""
