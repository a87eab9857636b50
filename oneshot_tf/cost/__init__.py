"""What does it cost? Parameters, arithmetic, compiled graphs."""
