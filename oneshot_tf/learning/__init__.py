"""How do weights change? Losses, the training step, the loop, checkpoints."""
