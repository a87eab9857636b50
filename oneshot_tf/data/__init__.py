"""What is learnt from: images in memory or on disk."""
