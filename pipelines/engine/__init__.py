"""The machinery that every application runs on; the only place that fits a model."""
