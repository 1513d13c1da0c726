"""Helpers around a phone and its calls."""
