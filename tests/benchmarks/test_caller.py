"""The benchmark's caller: what it counts, from bytes and instants made up here."""

import base64
import json

import pytest
from websockets.frames import Frame, Opcode

from benchmarks.caller import ANSWER_TIMEOUT_S, Caller, media_frames

QUESTION = [b"q%d" % number for number in range(5)]
INTERRUPTION = [b"i%d" % number for number in range(4)]
SILENCE_BYTE = b"silence"


class TimedCaller:
    """A caller with its clock: a frame each 20 ms."""

    def __init__(self) -> None:
        self.caller = Caller("MZ1", QUESTION, INTERRUPTION, SILENCE_BYTE, first=2)
        self.now = 0.0
        self.sent: list[bytes] = []

    def runs(self, frames: int) -> None:
        for _ in range(frames):
            self.now += 0.02
            self.sent.append(self.caller.frame(self.now))

    def runs_until(self, frame: bytes) -> None:
        while not self.sent or self.sent[-1] != frame:
            self.runs(1)

    def gets(self, *messages: dict[str, object], at: int = 0) -> None:
        data = b"".join(
            bytes(Frame(Opcode.TEXT, json.dumps(message).encode()).serialize(mask=False)) for message in messages
        )
        cut = at or len(data)
        self.caller.feed(data[:cut], self.now)
        self.caller.feed(data[cut:], self.now)


def media(seconds: float, sound: bytes = b"\x10\x20") -> dict[str, object]:
    audio = (sound * round(seconds * 8000))[: round(seconds * 8000)]
    return {"event": "media", "streamSid": "MZ1", "media": {"payload": base64.b64encode(audio).decode()}}


def mark(name: str) -> dict[str, object]:
    return {"event": "mark", "streamSid": "MZ1", "mark": {"name": name}}


@pytest.fixture
def line() -> TimedCaller:
    return TimedCaller()


def test_a_round_measures_an_answer_and_a_clear(line: TimedCaller) -> None:
    """The benchmark caller measures an answer after 0.6 s and the clear 0.2 s after its interruption."""
    line.runs_until(b"q4")
    line.runs(30)
    line.gets(media(4.0), mark("end"), at=7)
    line.runs_until(b"i0")
    assert line.caller.tally.answers == [pytest.approx(0.6)]
    line.runs(10)
    assert line.sent[-10:] == [b"i1", b"i2", b"i3", *[SILENCE_BYTE] * 7]
    line.gets({"event": "clear", "streamSid": "MZ1"})
    assert line.caller.tally.clears == [pytest.approx(0.2)]
    assert b"end" in bytes(line.caller.out) or line.caller.out  # the mark is echoed, masked
    assert (line.caller.tally.turns, line.caller.tally.missed) == (2, 0)


def test_simulated_caller_echoes_marks_after_their_playout(line: TimedCaller) -> None:
    """The benchmark caller echoes a mark when the audio before the mark has played."""
    line.gets(media(1.0), mark("one"))
    line.runs(49)
    assert not line.caller.out
    line.runs(2)
    assert line.caller.out


def test_silence_counts_as_missed_answer(line: TimedCaller) -> None:
    """The benchmark caller counts silence as a missed answer when the answer timeout ends."""
    line.runs_until(b"q4")
    line.gets(media(1.0, b"\xff"))
    line.runs(round(ANSWER_TIMEOUT_S / 0.02) + 2)
    assert (line.caller.tally.turns, line.caller.tally.missed, line.caller.tally.answers) == (1, 1, [])


def test_audio_after_clear_or_during_question_is_stray(line: TimedCaller) -> None:
    """The benchmark caller counts audio after a clear or during a question as stray."""
    line.runs_until(b"q1")
    line.gets(media(0.1))
    assert line.caller.tally.stray == 1
    line.runs_until(b"q4")
    line.gets(media(4.0))
    line.runs_until(b"i1")
    line.gets({"event": "clear", "streamSid": "MZ1"}, media(0.1))
    assert line.caller.tally.stray == 2


def test_an_answer_that_runs_dry_is_a_gap(line: TimedCaller) -> None:
    """The benchmark caller counts one gap if the audio of an answer runs dry for 100 ms and then goes on."""
    line.runs_until(b"q4")
    line.gets(media(0.1))
    line.runs(10)
    line.gets(media(0.1))
    assert line.caller.tally.gaps == 1


def test_simulated_caller_answers_ping_and_counts_close(line: TimedCaller) -> None:
    """The benchmark caller answers a ping and counts a close as a lost call."""
    line.caller.feed(bytes(Frame(Opcode.PING, b"?").serialize(mask=False)), 0.0)
    assert line.caller.out[0] & 0x0F == Opcode.PONG
    line.caller.feed(bytes(Frame(Opcode.CLOSE, b"").serialize(mask=False)), 0.0)
    assert (line.caller.alive, line.caller.tally.lost) == (False, 1)


def test_frames_are_masked_messages_of_the_protocol() -> None:
    """media_frames() makes final text frames of the WebSocket protocol, masked as a client must mask them."""
    (frame,) = media_frames("MZ1", [b"\xff" * 160])
    assert frame[0] == 0x81
    assert frame[1] & 0x80
