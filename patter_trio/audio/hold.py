"""The sound that a caller on hold hears, as mu-law at 8 kHz: a soft tone made here, or a WAV file."""

from functools import cache
from typing import Final

import numpy as np

from patter_trio.audio import g711
from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.wav import WavError, read_wav

# Judged: two notes, because dial tone, busy tone and the beep of an answering machine are steady; softer than speech,
# and seldom enough to wait with.
NOTES_HZ: Final = (523.25, 659.25)
"""The two notes of the tone, C5 and E5."""
NOTE_S: Final = 0.6
"""Seconds that a note lasts; it fades in and out."""
PERIOD_S: Final = 4.0
"""Seconds from one pair of notes to the next."""
PEAK: Final = 1600
"""The largest 16-bit sample of the tone: 26 dB below the largest possible one."""
# Judged: longer than anybody holds the line; 4.8 MB of memory.
MAX_HOLD_SOUND_S: Final = 600.0
"""Longest hold sound that is read from a file, in seconds."""


@cache
def hold_tone() -> bytes:
    """Return one period of the tone."""
    at = np.arange(round(NOTE_S * RATE_HZ)) / RATE_HZ
    # A half sine: no click at either end.
    fade = np.sin(np.pi * at / NOTE_S)
    notes = [PEAK * fade * np.sin(2 * np.pi * frequency * at) for frequency in NOTES_HZ]
    sound = np.concatenate([*notes, np.zeros(round(PERIOD_S * RATE_HZ) - sum(map(len, notes)))])
    return g711.encode(sound.astype(np.int16))


def hold_sound_of(wav: bytes) -> bytes:
    """Return the sound of a WAV.

    Raises:
        WavError: it is not a WAV that :func:`~patter_trio.audio.wav.read_wav` takes, is empty, or is too long.
    """
    samples = read_wav(wav)
    if not len(samples) or len(samples) > MAX_HOLD_SOUND_S * RATE_HZ:
        raise WavError(
            f"a hold sound must last up to {MAX_HOLD_SOUND_S:g} s, and not be empty; got {len(samples) / RATE_HZ:g} s"
        )
    return g711.encode(samples)
