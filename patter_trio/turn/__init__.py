"""Turn detectors: whether the caller has finished, or only pauses. The rules are in ``conversation/``."""
