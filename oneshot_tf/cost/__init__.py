"""The cost of models: parameters, arithmetic, and compiled graphs."""
