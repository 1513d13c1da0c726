"""Audio formats: encodings and sampling rates."""

from enum import StrEnum
from typing import Final

import attrs

RATE_HZ = 8000
"""Samples per second on every leg; the telephone network carries no more (ITU-T G.711)."""

FRAME_SAMPLES = 160
"""Samples of one 20 ms frame, the unit in which carriers send."""

# Positions are counted in samples; this is only for deadlines.
FRAME_S = FRAME_SAMPLES / RATE_HZ

RATES_HZ: Final = (8000, 16000, 22050, 24000, 44100, 48000)
"""Sampling rates (Hz) that a provider may use; 20 ms are a whole number of samples at each of them."""


class Encoding(StrEnum):
    """Encoding of one sample."""

    MULAW = "mulaw"
    """One byte per sample, ITU-T G.711 mu-law."""
    PCM16 = "pcm_s16le"
    """Two bytes per sample, signed, little-endian."""


@attrs.frozen
class AudioFormat:
    """Encoding and sampling rate (Hz) of mono audio."""

    encoding: Encoding
    rate: int = RATE_HZ

    @property
    def width(self) -> int:
        """Bytes of one sample."""
        return 1 if self.encoding is Encoding.MULAW else 2

    def samples(self, audio: bytes) -> int:
        """Return the number of samples in some audio."""
        # Whole samples: half of one at the end is not audio yet.
        return len(audio) // self.width

    def seconds(self, audio: bytes) -> float:
        """Return the duration of some audio in seconds."""
        return self.samples(audio) / self.rate


MULAW_8K = AudioFormat(Encoding.MULAW)
PCM16_8K = AudioFormat(Encoding.PCM16)
