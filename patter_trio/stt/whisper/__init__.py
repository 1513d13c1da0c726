"""Whisper, embedded: speech recognition without an account."""

from patter_trio.stt.whisper._stt import WhisperSTT

__all__ = [
    "WhisperSTT",
]
