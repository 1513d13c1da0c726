"""DTMF tones in audio, found by the Goertzel algorithm: a second account of what ``patter_trio.audio.dtmf`` makes."""

from __future__ import annotations

import math

import numpy as np

from patter_trio.audio import g711
from patter_trio.audio.formats import RATE_HZ

# Written down here once more (ITU-T Q.23): a wrong table in the package must not agree with itself.
KEYPAD = {
    (697, 1209): "1",
    (697, 1336): "2",
    (697, 1477): "3",
    (697, 1633): "A",
    (770, 1209): "4",
    (770, 1336): "5",
    (770, 1477): "6",
    (770, 1633): "B",
    (852, 1209): "7",
    (852, 1336): "8",
    (852, 1477): "9",
    (852, 1633): "C",
    (941, 1209): "*",
    (941, 1336): "0",
    (941, 1477): "#",
    (941, 1633): "D",
}
LOW, HIGH = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
BLOCK = 160
"""Samples of a block, 20 ms: its resolution of 50 Hz keeps the frequencies apart."""
# The level of a sine of the largest amplitude (ITU-T G.711), and that amplitude in mu-law.
FULL_SCALE_DBM0, FULL_SCALE = 3.17, 32124


def level(samples: np.ndarray, hertz: float) -> float:
    """Return the level of one frequency in a block, in dBm0."""
    coefficient = 2 * math.cos(2 * math.pi * hertz / RATE_HZ)
    one = two = 0.0
    for sample in samples.tolist():
        one, two = sample + coefficient * one - two, one
    power = one * one + two * two - coefficient * one * two
    amplitude = 2 * math.sqrt(max(power, 0.0)) / len(samples)
    return 20 * math.log10(max(amplitude, 1e-9) / FULL_SCALE) + FULL_SCALE_DBM0


def key_of(samples: np.ndarray) -> str:
    """Return the key whose tone fills a block; empty if there is none."""
    low, high = ({hertz: level(samples, hertz) for hertz in group} for group in (LOW, HIGH))
    pair = max(low, key=lambda hertz: low[hertz]), max(high, key=lambda hertz: high[hertz])
    # Judged, as a receiver behind a lossy line: 11 dB below the weakest tone of BT SIN 351, section 4.1 (-13 dBm), and
    # 1 dB more between the two than that allows a sender.
    strong = min(low[pair[0]], high[pair[1]]) >= -24 and abs(low[pair[0]] - high[pair[1]]) <= 5
    # No other frequency of a group near the one that counts.
    clear = all(best - second > 6 for *_, second, best in map(sorted, (low.values(), high.values())))
    return KEYPAD[pair] if strong and clear else ""


def keys_in(mulaw: bytes) -> list[tuple[str, float, float]]:
    """Return the keys whose tones are in the audio, each with its begin and end in seconds, in blocks of 20 ms."""
    samples = g711.decode(mulaw).astype(float)
    found: list[tuple[str, float, float]] = []
    before = ""
    for start in range(0, len(samples) - BLOCK + 1, BLOCK):
        key = key_of(samples[start : start + BLOCK])
        at, until = start / RATE_HZ, (start + BLOCK) / RATE_HZ
        if key and key == before:
            found[-1] = (key, found[-1][1], until)
        elif key:
            found.append((key, at, until))
        before = key
    return found
