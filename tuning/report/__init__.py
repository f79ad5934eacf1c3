"""What is told of a search, while it runs and when it is over."""
