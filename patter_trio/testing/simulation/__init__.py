"""Simulated calls: the caller, scenarios, the timeline, and the invariants of every call."""
