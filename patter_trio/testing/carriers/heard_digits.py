"""The DTMF digits in the audio that a caller has heard."""

from typing import Final

import numpy as np

from patter_trio.audio import g711
from patter_trio.audio.dtmf import FREQUENCIES_HZ, HIGH_HZ, LOW_HZ
from patter_trio.audio.formats import FRAME_SAMPLES, RATE_HZ
from patter_trio.audio.g711 import Samples

# One frame: its resolution of 50 Hz keeps the frequencies of the keypad apart.
_WAVES: Final = np.exp(-2j * np.pi * np.outer((*LOW_HZ, *HIGH_HZ), np.arange(FRAME_SAMPLES)) / RATE_HZ)
_KEYS: Final = {pair: key for key, pair in FREQUENCIES_HZ.items()}
# A pure pair has all of it; the least that speech seldom has.
_MIN_SHARE: Final = 0.7
"""Smallest share of a frame's energy in the two frequencies of a key."""
_MIN_FRAMES: Final = 2
"""Shortest tone, in frames of 20 ms: receivers accept 40 ms (ITU-T Q.24)."""


def digits_in(mulaw: bytes) -> str:
    """Return the digits whose tones are in mu-law audio at 8 kHz, in order."""
    samples = g711.decode(mulaw)
    found, before, length = [], "", 0
    for begin in range(0, len(samples) - FRAME_SAMPLES + 1, FRAME_SAMPLES):
        key = _key_of(samples[begin : begin + FRAME_SAMPLES])
        length = length + 1 if key == before else 1
        before = key
        # Once for each tone: the pause behind it makes the same key count again.
        if key and length == _MIN_FRAMES:
            found.append(key)
    return "".join(found)


def _key_of(frame: Samples) -> str:
    """Return the key whose tone fills a frame; empty for any other sound."""
    samples = frame.astype(np.float64)
    energy = float(samples @ samples)
    if energy == 0:
        return ""
    # A sine of amplitude a has the energy a*a*n/2, and a part of a*n/2 at its frequency.
    parts = 2 * np.abs(_WAVES @ samples) ** 2 / FRAME_SAMPLES
    low, high = int(parts[: len(LOW_HZ)].argmax()), len(LOW_HZ) + int(parts[len(LOW_HZ) :].argmax())
    if parts[low] + parts[high] < _MIN_SHARE * energy or min(parts[low], parts[high]) < 0.1 * energy:
        return ""
    return _KEYS[LOW_HZ[low], HIGH_HZ[high - len(LOW_HZ)]]
