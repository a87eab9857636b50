"""What computes? Layers, the one-shot model and stand-alone models."""
