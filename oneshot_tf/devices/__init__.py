"""Where does it run? Accelerators, threads and workers."""
