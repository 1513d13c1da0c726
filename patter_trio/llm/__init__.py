"""Language models, one vendor per file."""
