"""What experiments are made of: a network by hand, digits as arrays, the report."""
