"""What does it show? The report of a run: rankings with intervals, plots and drawings."""
