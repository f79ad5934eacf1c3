"""Diagnosis: which error of a trained model to work on next."""
