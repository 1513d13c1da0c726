"""Language models (LLMs), one vendor per module."""
