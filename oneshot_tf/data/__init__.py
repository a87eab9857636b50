"""What is learnt from? Labelled images, in memory or on disk."""
