"""Voice activity detectors: when the caller speaks and when not."""
