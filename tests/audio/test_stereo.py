"""The track of a call's two sides: order, alignment, late and missing audio, and cuts that come late."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import SILENCE_BYTE
from patter_trio.audio.media_clock import MediaClock
from patter_trio.audio.stereo import HOLD_S, MAX_MISSING_S, Sides, StereoTrack, Unheard

FRAME = 160
FRAME_S = FRAME / RATE_HZ


class Line:
    """A track, and the two sides as they were taken out, with the corrections applied."""

    def __init__(self, began: float = 0.0) -> None:
        self.media = MediaClock()
        self.track = StereoTrack(self.media, began)
        self.caller = bytearray()
        self.agent = bytearray()

    def hear(self, audio: bytes, now: float) -> None:
        self.media.arrived(len(audio), now)
        self.track.said(audio)

    def keep(self, parts: list[Sides | Unheard]) -> None:
        for part in parts:
            if isinstance(part, Unheard):
                self.agent[part.begin : part.end] = bytes([SILENCE_BYTE]) * (part.end - part.begin)
            else:
                assert len(part.caller) == len(part.agent)
                self.caller += part.caller
                self.agent += part.agent

    def frames(self, first: int, last: int, audio: bytes = b"\x01" * FRAME) -> None:
        """Let frames arrive on time, and take what is settled after each."""
        for number in range(first, last):
            now = (number + 1) * FRAME_S
            self.hear(audio, now)
            self.keep(self.track.take(now))


def sounding(side: bytes | bytearray) -> bytes:
    return bytes(side).replace(bytes([SILENCE_BYTE]), b"")


def test_audio_is_kept_back_for_a_while() -> None:
    """What is taken out lags by the time that the track keeps audio back, and no more than a frame."""
    line = Line()
    line.frames(0, 100)
    lag = 100 * FRAME_S - len(line.caller) / RATE_HZ
    assert HOLD_S - FRAME_S - 0.001 <= lag <= HOLD_S + FRAME_S


def test_late_audio_keeps_its_place() -> None:
    """Frames that a stalled network delivers at once, 3 s late, stand where they were spoken."""
    line = Line()
    line.frames(0, 50)
    for number in range(50, 200):
        line.hear(bytes([number]) * FRAME, 4.0)
    line.keep(line.track.take(4.0))
    line.keep(line.track.finish(4.0))
    assert len(line.caller) == 4 * RATE_HZ
    assert line.caller[100 * FRAME] == 100


def test_missing_audio_becomes_silence() -> None:
    """If the carrier leaves out audio, silence takes its time, and what follows is aligned again."""
    line = Line()
    line.frames(0, 50)
    for number in range(50, 100):
        now = 3.0 + (number + 1) * FRAME_S
        line.hear(b"\x02" * FRAME, now)
        line.keep(line.track.take(now))
    line.keep(line.track.finish(5.0))
    assert line.caller.find(b"\x02") == 4 * RATE_HZ
    assert len(line.caller) == 5 * RATE_HZ


def test_agent_is_recorded_without_any_caller_audio() -> None:
    """A carrier that sends nothing costs the agent's side nothing."""
    line = Line(began=1.0)
    line.track.opened()
    line.track.sent(b"\x03" * RATE_HZ, 2.0)
    line.keep(line.track.take(2.0 + MAX_MISSING_S))
    line.keep(line.track.finish(2.0 + MAX_MISSING_S))
    assert line.agent.find(b"\x03") == RATE_HZ
    assert sounding(line.agent) == b"\x03" * RATE_HZ


def test_late_cut_corrects_what_was_taken_out() -> None:
    """If the network had stalled and the caller heard less than the clock allowed, the rest is silenced afterwards."""
    line = Line()
    line.frames(0, 1)
    line.track.opened()
    line.track.sent(b"\x03" * (2 * RATE_HZ), FRAME_S)
    line.frames(1, 100)
    assert len(sounding(line.agent)) > RATE_HZ
    line.track.cut(400)
    line.frames(100, 150)
    line.keep(line.track.finish(150 * FRAME_S))
    assert sounding(line.agent) == b"\x03" * 400


@given(
    frames=st.lists(st.integers(0, 15), min_size=1, max_size=150),
    replies=st.lists(
        st.tuples(st.integers(0, 140), st.lists(st.integers(1, 900), min_size=1, max_size=8), st.integers(0, 9000)),
        max_size=6,
    ),
    writes=st.sets(st.integers(0, 149)),
    cuts=st.sets(st.integers(0, 5)),
)
def test_all_that_was_heard_is_there_once(
    frames: list[int], replies: list[tuple[int, list[int], int]], writes: set[int], cuts: set[int]
) -> None:
    """Whatever the jitter, the cuts and the writes: the caller's frames are whole, and of each reply what was heard."""
    line, expected = Line(), b""
    due = sorted(enumerate(replies), key=lambda entry: entry[1][0])
    now = 0.0
    said = b""
    for number, jitter in enumerate(frames):
        # Never before it was spoken, and in order.
        now = max(now, (number + 1) * FRAME_S + jitter / 100)
        audio = bytes([number % 200 + 1]) * FRAME
        line.hear(audio, now)
        said += audio
        while due and due[0][1][0] <= number:
            place, (_, sizes, heard) = due.pop(0)
            line.track.opened()
            sent = b""
            for size in sizes:
                sent += bytes([place + 1]) * size
                line.track.sent(bytes([place + 1]) * size, now)
            if place in cuts:
                kept = min(heard, len(sent))
                line.track.cut(kept)
                sent = sent[:kept]
            expected += sent
        if number in writes:
            line.keep(line.track.take(now))
    line.keep(line.track.finish(now + 60.0))
    assert bytes(line.caller[: len(said)]) == said
    assert sounding(line.agent) == expected
    assert not np.frombuffer(bytes(line.caller[len(said) :]), np.uint8).tolist().count(1)
