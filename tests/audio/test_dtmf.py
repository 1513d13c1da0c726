"""DTMF tones: frequencies, levels and durations, by a decoder of the tests' own."""

from __future__ import annotations

import numpy as np
import pytest

from patter_trio.audio import dtmf, g711
from tests.kit.tones import HIGH, KEYPAD, LOW, keys_in, level


@pytest.mark.parametrize("key", KEYPAD.values())
def test_tone_has_its_two_frequencies(key: str) -> None:
    """Each key's tone is decoded as that key, for all of its 100 ms."""
    silence = g711.silence(0.1)
    assert keys_in(silence + dtmf.tone(key) + silence) == [(key, 0.1, 0.2)]


@pytest.mark.parametrize("key", KEYPAD.values())
def test_levels_are_those_of_all_receivers(key: str) -> None:
    """The two frequencies are at -10 and -8 dBm0, and nothing else of the keypad is within 20 dB of them."""
    samples = g711.decode(dtmf.tone(key)).astype(float)
    low, high = dtmf.FREQUENCIES_HZ[key]
    assert level(samples, low) == pytest.approx(-10, abs=0.3)
    assert level(samples, high) == pytest.approx(-8, abs=0.3)
    assert all(level(samples, other) < -30 for other in {*LOW, *HIGH} - {low, high})


def test_tone_does_not_clip() -> None:
    """The loudest sample is well below the largest that mu-law has."""
    assert max(np.abs(g711.decode(dtmf.tone(key)).astype(int)).max() for key in KEYPAD.values()) < 20_000


def test_unknown_key_has_no_tone() -> None:
    """A key that no keypad has raises KeyError."""
    with pytest.raises(KeyError):
        dtmf.tone("E")
