"""Piper, embedded: speech without an account."""

from patter_trio.tts.piper._tts import PiperTTS, write_wav

__all__ = [
    "PiperTTS",
    "write_wav",
]
