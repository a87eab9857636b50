"""What a run shows: rankings with intervals, plots, drawings, one page."""
