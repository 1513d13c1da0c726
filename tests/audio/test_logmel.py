"""The features: right shape, right band, right scale."""

import numpy as np
import pytest

from patter_trio.audio.logmel import BANDS, log_mel


def tone(hertz: float, seconds: float = 1.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(16000 * seconds)) / 16000)).astype(np.float32)


def test_ten_ms_are_one_frame_of_eighty_bands() -> None:
    """Eight seconds of audio give 800 frames, one for each 10 ms, with 80 bands each."""
    assert log_mel(tone(440, 8.0)).shape == (BANDS, 800)


@pytest.mark.parametrize(("hertz", "band"), [(200, 4), (500, 12), (1000, 26), (2000, 43), (4000, 61)])
def test_a_tone_is_loudest_in_its_band(hertz: float, band: int) -> None:
    """A tone is loudest in the band of its frequency, to one band: 1 kHz in band 26, 4 kHz in band 61."""
    middle = log_mel(tone(hertz))[:, 50]
    assert int(middle.argmax()) == pytest.approx(band, abs=1)


def test_ten_times_the_power_is_a_quarter_more() -> None:
    """Ten times the power of a tone raises its loudest feature by 0.25."""
    quiet, loud = log_mel(tone(500, level=0.1)), log_mel(tone(500, level=0.1 * 10**0.5))
    assert loud.max() - quiet.max() == pytest.approx(0.25, abs=1e-3)


def test_silence_is_finite_and_flat() -> None:
    """One second of silence has the value -1.5 in each band and frame."""
    features = log_mel(np.zeros(16000, np.float32))
    assert np.allclose(features, -1.5, atol=1e-6)
