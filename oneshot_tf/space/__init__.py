"""What can be searched: architectures, spaces of them, their costs. NumPy only."""
