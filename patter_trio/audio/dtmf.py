"""DTMF tones as mu-law audio: two sines for each key (ITU-T Q.23), at levels and durations that receivers accept."""

from functools import cache
from typing import Final

import numpy as np

from patter_trio.audio import g711
from patter_trio.audio.formats import RATE_HZ

# ITU-T Q.23, table 1: the rows of the keypad have the low frequencies, its columns the high ones.
LOW_HZ: Final = (697, 770, 852, 941)
HIGH_HZ: Final = (1209, 1336, 1477, 1633)
_ROWS: Final = ("123A", "456B", "789C", "*0#D")
FREQUENCIES_HZ: Final = {
    key: (low, high) for low, row in zip(LOW_HZ, _ROWS, strict=True) for key, high in zip(row, HIGH_HZ, strict=True)
}
"""The low and the high frequency of each key."""

# Judged. Networks promise to recognise 40 ms of tone and of silence (BT SIN 351, section 4.1); a sender has to give at
# least 65 ms of each (3GPP TS 26.114, annex G.2, after ETSI ES 201 235-2). Browsers send 100 ms by default (W3C WebRTC,
# insertDTMF). So long a tone survives a lost packet of 20 ms and the codecs of mobile networks.
TONE_S: Final = 0.1
"""Seconds that a tone lasts."""
GAP_S: Final = 0.1
"""Seconds of silence behind a tone, unless the application gives another gap."""
# Judged within BT SIN 351, section 4.1: each tone from -13 to -7 dBm, and the high one stronger by 1 to 4 dB, because a
# line dampens it more.
LOW_LEVEL_DBM0: Final = -10.0
HIGH_LEVEL_DBM0: Final = -8.0
# ITU-T G.711: the load capacity of mu-law. A sine of this level has the largest amplitude that a sample can have.
_FULL_SCALE_DBM0: Final = 3.17
_FULL_SCALE: Final = 32124
"""The largest 16-bit sample that mu-law has."""


def _amplitude(level_dbm0: float) -> float:
    return float(_FULL_SCALE * 10 ** ((level_dbm0 - _FULL_SCALE_DBM0) / 20))


@cache
def tone(key: str, seconds: float = TONE_S) -> bytes:
    """Return the tone of a key as mu-law at 8 kHz.

    Raises:
        KeyError: the key is not one of 0-9, ``*``, ``#`` and A-D.
    """
    low, high = FREQUENCIES_HZ[key]
    at = 2 * np.pi * np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    sound = _amplitude(LOW_LEVEL_DBM0) * np.sin(low * at) + _amplitude(HIGH_LEVEL_DBM0) * np.sin(high * at)
    return g711.encode(sound.astype(np.int16))
