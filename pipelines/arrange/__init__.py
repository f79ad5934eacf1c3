"""What only fitting does to examples: augmentation, pairs, windows, buckets."""
