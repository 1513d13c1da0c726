"""The tools of a call: when they run, what they are given, and what becomes of their answers."""
