"""How are weights trained? Losses, the training step, the loop, checkpoints."""
