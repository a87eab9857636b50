"""Labelled images for training and evaluation, in memory or on disk."""
