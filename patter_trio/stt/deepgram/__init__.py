"""Deepgram's speech recognition."""

from patter_trio.stt.deepgram._stt import DeepgramSTT

__all__ = [
    "DeepgramSTT",
]
