"""How fast and how large is it on this device? Nets and units, timed in a fresh process."""
