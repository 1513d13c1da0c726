"""The tools of a call: their start, their arguments and their results."""
