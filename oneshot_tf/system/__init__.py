"""How is nothing lost? Files, locks, interrupts, output."""
