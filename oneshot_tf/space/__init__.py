"""What can be searched? Architectures, decisions and spaces. This package uses only NumPy."""
