"""The two ways in which telephone speech is written down here."""

from enum import StrEnum

import attrs

RATE = 8000
"""Samples per second on every leg; the telephone network carries no more (ITU-T G.711)."""

FRAME_SAMPLES = 160
"""Samples of one 20 ms frame, the unit in which carriers send."""

FRAME_SECONDS = FRAME_SAMPLES / RATE


class Encoding(StrEnum):
    """How one sample is written."""

    MULAW = "mulaw"
    """One byte per sample, ITU-T G.711 mu-law."""
    PCM16 = "pcm_s16le"
    """Two bytes per sample, signed, little-endian."""


@attrs.frozen
class AudioFormat:
    """Encoding and sampling rate (Hz) of mono audio."""

    encoding: Encoding
    rate: int = RATE


MULAW_8K = AudioFormat(Encoding.MULAW)
PCM16_8K = AudioFormat(Encoding.PCM16)
