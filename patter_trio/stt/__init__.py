"""Speech recognition (STT), one vendor or model per module."""
