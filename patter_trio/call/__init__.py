"""A call: its tasks, in the order in which a voice travels. Read ``session.py`` first."""
