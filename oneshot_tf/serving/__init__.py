"""What is exported? The SavedModel and its checks."""
