"""How fast and how large is it on this device? Nets and their units, as files that are timed."""
