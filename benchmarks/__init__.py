"""Measurements of the complete server, beside other servers and beside the minimum work. See docs/benchmarks.md."""
