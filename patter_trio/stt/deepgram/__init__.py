"""Deepgram's speech recognition."""

from patter_trio.stt.deepgram._stt import DeepgramSTT

STT = DeepgramSTT
"""The same class by getpatter's name: ``from patter_trio.stt import deepgram; deepgram.STT()``."""

__all__ = [
    "STT",
    "DeepgramSTT",
]
