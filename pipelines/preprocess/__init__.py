"""Decoding, scaling, resizing and tokenising, the same in training and serving."""
