"""The features: right shape, right band, right scale."""

import numpy as np
import pytest

from patter_trio.audio.logmel import BANDS, log_mel


def tone(hertz: float, seconds: float = 1.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(16000 * seconds)) / 16000)).astype(np.float32)


def test_ten_ms_are_one_frame_of_eighty_bands() -> None:
    assert log_mel(tone(440, 8.0)).shape == (BANDS, 800)


@pytest.mark.parametrize(("hertz", "band"), [(200, 4), (500, 12), (1000, 26), (2000, 43), (4000, 61)])
def test_a_tone_is_loudest_in_its_band(hertz: float, band: int) -> None:
    """Bands are 55.8 Hz... wide below 1 kHz, and grow by the same factor above."""
    middle = log_mel(tone(hertz))[:, 50]
    assert int(middle.argmax()) == pytest.approx(band, abs=1)


def test_ten_times_the_power_is_a_quarter_more() -> None:
    quiet, loud = log_mel(tone(500, level=0.1)), log_mel(tone(500, level=0.1 * 10**0.5))
    assert loud.max() - quiet.max() == pytest.approx(0.25, abs=1e-3)


def test_silence_is_finite_and_flat() -> None:
    features = log_mel(np.zeros(16000, np.float32))
    assert np.allclose(features, -1.5, atol=1e-6)
