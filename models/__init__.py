"""Architectures: a file directly in here is a family; every function returns an uncompiled keras.Model."""
