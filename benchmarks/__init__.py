"""Measurements of the whole server, beside others and against the least that one must do. See docs/benchmarks.md."""
