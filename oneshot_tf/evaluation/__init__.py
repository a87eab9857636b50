"""How good is it? Scores with shared weights, divergences and races."""
