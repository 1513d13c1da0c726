"""Recognisers of speech, one per file."""
