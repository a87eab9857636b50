"""How is a budget spent? What `auto` finds in the data, decides, and remembers."""
