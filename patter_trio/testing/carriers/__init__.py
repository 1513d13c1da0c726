"""Simulated carriers: a line that is the same for all, and each carrier's webhooks and messages."""
