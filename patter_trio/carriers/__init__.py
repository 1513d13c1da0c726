"""Carriers, one file each."""
