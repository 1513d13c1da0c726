"""Simulated calls: the caller, its scenario, the timeline, and what must hold after every call."""
