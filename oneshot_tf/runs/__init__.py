"""What is kept of a run? Its directory, candidates and results."""
