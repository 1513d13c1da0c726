"""Voice activity detection (VAD): when the caller speaks."""
