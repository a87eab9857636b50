"""Where does it run? Accelerators, threads, distribution."""
