"""How good is it? Shared weights, divergence, racing."""
