"""Synthesisers of speech, one per file."""
