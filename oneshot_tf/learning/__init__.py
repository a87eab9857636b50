"""How weights change: losses, one step, the loop around it, devices."""
