"""What goes on inside a network that reads pictures."""
