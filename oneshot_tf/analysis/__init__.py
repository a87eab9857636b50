"""The report of a run: rankings with intervals, plots, drawings and one HTML page."""
