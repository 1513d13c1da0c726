"""Carriers, one per module."""
