"""The peaks of a recording."""

import numpy as np
import pytest

from patter_trio.timeline.waveform import MAX_STEPS, STEP_MS, peaks_of


def test_peak_is_the_loudest_sample_of_each_step() -> None:
    """Each step has its loudest sample, of 0 to 255; the shorter side is silent at its end."""
    caller = np.zeros(600, np.int16)
    caller[[0, 250]] = (-32768, 16384)
    peaks = peaks_of(caller, np.full(100, 128, np.int16))
    assert (peaks.step_ms, peaks.caller, peaks.agent) == (25.0, (255, 128, 0), (1, 0, 0))


def test_no_audio_has_no_steps() -> None:
    """A call without audio has peaks without steps."""
    nothing = np.zeros(0, np.int16)
    assert (peaks_of(nothing, nothing).caller, peaks_of(nothing, nothing).agent) == ((), ())


@pytest.mark.parametrize(("minutes", "step_ms"), [(10, STEP_MS), (11, 2 * STEP_MS), (60, 8 * STEP_MS)])
def test_long_calls_have_longer_steps(minutes: int, step_ms: int) -> None:
    """Ten minutes have steps of 25 ms; those of a longer call double, so that there are at most 24,000."""
    sound = np.zeros(minutes * 60 * 8000, np.int16)
    peaks = peaks_of(sound, sound[:1])
    assert peaks.step_ms == step_ms
    assert len(peaks.caller) == len(peaks.agent) == minutes * 60_000 // step_ms <= MAX_STEPS
