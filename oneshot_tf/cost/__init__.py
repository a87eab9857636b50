"""What does it cost? Parameters, arithmetic, limits and compiled graphs."""
