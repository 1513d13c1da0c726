"""When a sample was spoken, learned from when it arrived."""

import pytest

from patter_trio.audio.media_clock import MediaClock


def arrivals(clock: MediaClock, *times: float) -> None:
    for at in times:
        clock.arrived(160, at)


def test_time_runs_from_the_first_samples_own_instant() -> None:
    """The clock starts 20 ms before the first frame of 20 ms arrives, when its first sample was spoken."""
    clock = MediaClock()
    arrivals(clock, 10.02, 10.04, 10.06)
    assert clock.start == pytest.approx(10.0)
    assert clock.time_of(160) == pytest.approx(10.02)


def test_a_late_frame_moves_nothing() -> None:
    """A frame that arrives 300 ms late leaves the times of all samples as they are."""
    clock = MediaClock()
    arrivals(clock, 10.02, 10.34, 10.34)
    assert clock.time_of(320) == pytest.approx(10.04)


def test_punctual_frames_correct_late_first_frame() -> None:
    """Punctual frames correct the media clock after a late first frame."""
    clock = MediaClock()
    arrivals(clock, 10.12, 10.12, 10.12, 10.12, 10.12, 10.14)
    assert clock.time_of(0) == pytest.approx(10.02)


def test_a_gap_starts_the_clock_anew() -> None:
    """After a gap of 3 s the next frame's arrival sets the clock anew."""
    clock = MediaClock()
    arrivals(clock, 10.02, 13.02)
    assert clock.time_of(160) == pytest.approx(13.0)
