"""Providers that follow a script, and the sound that carries their words."""
