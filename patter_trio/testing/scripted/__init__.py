"""Scripted providers, and the simulated voices that carry their words in the audio."""
