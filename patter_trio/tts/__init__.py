"""Speech synthesis (TTS), one vendor or model per module."""
