"""Architectures and the spaces that they belong to. This package uses only NumPy."""
