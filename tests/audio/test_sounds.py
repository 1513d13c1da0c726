"""The meter of a line's sound: levels and single tones."""

import numpy as np
import pytest

from patter_trio.audio import dtmf, g711
from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import Samples
from patter_trio.audio.sounds import SILENCE_DB, Sound, SoundMeter


def sine(hz: float, seconds: float, level_db: float = -12.0) -> Samples:
    """Return a tone as a line carries it: through mu-law."""
    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    samples = 32767 * 10 ** (level_db / 20) * np.sqrt(2) * np.sin(2 * np.pi * hz * at)
    return g711.decode(g711.encode(samples.astype(np.int16)))


def noise(seconds: float, level_db: float) -> Samples:
    """Return white noise, the same in each run."""
    samples = np.random.default_rng(3).normal(0, 32767 * 10 ** (level_db / 20), round(seconds * RATE_HZ))
    return samples.clip(-32768, 32767).astype(np.int16)


def heard(samples: Samples) -> list[Sound]:
    return SoundMeter().hear(samples)


@pytest.mark.parametrize("hz", [440.0, 1000.0, 1412.5, 2100.0])
def test_a_tone_has_its_frequency(hz: float) -> None:
    """A sine is one tone, in each step but the first, at its frequency and level."""
    [_, *steps] = heard(sine(hz, 0.3))
    assert [step.tone_hz for step in steps] == pytest.approx([hz] * len(steps), abs=6.0)
    assert [step.level_db for step in steps] == pytest.approx([-12.0] * len(steps), abs=0.3)


@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(g711.decode(dtmf.tone("5", 0.2)), id="key"),
        pytest.param(sine(480, 0.2) // 2 + sine(620, 0.2) // 2, id="busy"),
        pytest.param(noise(0.2, -20.0), id="noise"),
        pytest.param(np.zeros(1600, dtype=np.int16), id="silence"),
    ],
)
def test_other_sounds_are_no_tone(sound: Samples) -> None:
    """A key, a tone of two frequencies, noise and silence are not one tone."""
    assert {step.tone_hz for step in heard(sound)} == {0.0}


def test_tone_in_noise_is_a_tone() -> None:
    """A tone is found in noise that is 10 dB weaker."""
    mixed = (sine(1000, 0.4, -15.0).astype(np.int32) + noise(0.4, -25.0)).astype(np.int16)
    assert sum(step.tone_hz > 0 for step in heard(mixed)) >= 18


def test_pieces_of_any_size_are_the_same() -> None:
    """How the audio is cut into pieces changes nothing."""
    samples, meter = sine(1000, 0.1), SoundMeter()
    assert [sound for begin in range(0, 800, 7) for sound in meter.hear(samples[begin : begin + 7])] == heard(samples)


def test_digital_silence_has_a_level() -> None:
    """Digital silence has the lowest level, and not minus infinity."""
    assert heard(np.zeros(160, dtype=np.int16)) == [Sound(SILENCE_DB)]
