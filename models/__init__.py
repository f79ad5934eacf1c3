"""Architectures: a file in here is a family, a function returns an uncompiled keras.Model."""
