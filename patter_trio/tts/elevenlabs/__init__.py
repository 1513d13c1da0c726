"""ElevenLabs' speech synthesis."""

from patter_trio.tts.elevenlabs._tts import ElevenLabsTTS

__all__ = [
    "ElevenLabsTTS",
]
