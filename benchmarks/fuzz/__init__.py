"""Coverage-guided fuzzing of everything that accepts bytes from outside: ``python -m benchmarks.fuzz --seconds 60``."""
