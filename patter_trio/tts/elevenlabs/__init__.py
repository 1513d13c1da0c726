"""ElevenLabs' speech synthesis."""

from patter_trio.tts.elevenlabs._tts import ElevenLabsTTS

TTS = ElevenLabsTTS
"""The same class by getpatter's name: ``from patter_trio.tts import elevenlabs; elevenlabs.TTS()``."""

__all__ = [
    "TTS",
    "ElevenLabsTTS",
]
