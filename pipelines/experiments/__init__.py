"""Teaching experiments: a file is one, run as python -m pipelines.experiments <name>."""
