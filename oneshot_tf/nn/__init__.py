"""What computes: layers, the one-shot model and stand-alone nets."""
