"""Scripted servers that speak the protocols of vendors on loopback, one module each."""
