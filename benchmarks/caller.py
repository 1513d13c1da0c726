"""One simulated caller on the wire: a script of prebuilt frames, and a stopwatch. No I/O and no clock of its own.

Every 20 ms the caller is asked for the frame to send; the server's data is fed to it. Its script, repeated: ask a
question; after hearing the answer for a while, interrupt it; hear the answer to *that* to its end.
"""

import base64
import json
import os
import random
import struct
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

import attrs
import msgspec
from websockets.frames import Frame, Opcode

from patter_trio.testing.carriers.protocol import CarrierProtocol

# The caller is a state machine with a method for each state: ``frame`` calls that of the current one, every 20 ms.
# Frames are made once, mask and base64 included, and the server's data is taken apart by hand: the callers' process has
# one core for all calls, and every microsecond that it is late counts as latency of the server.
#
# Only what a person on the line could notice is measured: when the answer begins, when the agent stops, and whether
# either fails to come. Nothing is asked of the server.

# Of the 4 s that an answer lasts: late enough for it to be in full flow, early enough to cut most of it.
HEARD_BEFORE_INTERRUPTING_S: Final = 1.5
"""Seconds of an answer that the caller hears before interrupting it."""
# Judged: a person would have said "hello?" by then.
ANSWER_TIMEOUT_S: Final = 4.0
"""Seconds without an answer, or without ``clear``, after which a turn counts as missed."""
# Judged: longer than a pause within an answer, also of a server that is late.
QUIET_AFTER_ANSWER_S: Final = 0.7
"""Seconds of silence after which the caller takes an answer for finished."""
MULAW_RATE_HZ: Final = 8000


# Only the fields that are used: msgspec skips the others while it parses.
class _Payload(msgspec.Struct):
    payload: bytes


class _Name(msgspec.Struct):
    name: str


class _Message(msgspec.Struct):
    event: str
    media: _Payload | None = None
    mark: _Name | None = None
    # Plivo's mark has it at the top.
    name: str = ""


_decode: Final = msgspec.json.Decoder(_Message).decode


def text_frame(message: object) -> bytes:
    """Return a message as a client sends it: a masked text frame."""
    data = message if isinstance(message, bytes) else json.dumps(message, separators=(",", ":")).encode()
    # Masked, as the protocol demands of clients. Made in advance, so that it takes no time at the instant of sending.
    return bytes(Frame(Opcode.TEXT, data).serialize(mask=True))


def media_frames(sid: str, frames: list[bytes]) -> list[bytes]:
    """Return 20 ms frames of mu-law as the client's WebSocket frames, with the fields that Twilio sends."""
    return [
        text_frame(
            {
                "event": "media",
                "sequenceNumber": str(number + 2),
                "media": {
                    "track": "inbound",
                    "chunk": str(number + 1),
                    "timestamp": str(20 * number),
                    "payload": base64.b64encode(frame).decode(),
                },
                "streamSid": sid,
            }
        )
        for number, frame in enumerate(frames)
    ]


@attrs.define
class Tally:
    """The measurements of one caller, or of all; times in seconds."""

    answers: list[float] = attrs.field(factory=list)
    """Times from the last voiced frame that was sent to the first audio of the answer."""
    clears: list[float] = attrs.field(factory=list)
    """Times from the first voiced frame of an interruption to ``clear``."""
    turns: int = 0
    """Number of utterances that require an answer or a ``clear``."""
    missed: int = 0
    """Number of turns without the required answer or ``clear``."""
    stray: int = 0
    """Media messages of a reply that came after its ``clear``, or while the caller asked a question."""
    gaps: int = 0
    """Number of times that an answer ran dry for more than 20 ms before its end."""
    lost: int = 0
    """Number of calls that the server ended."""

    def add(self, other: "Tally") -> None:
        self.answers += other.answers
        self.clears += other.clears
        self.turns += other.turns
        self.missed += other.missed
        self.stray += other.stray
        self.gaps += other.gaps
        self.lost += other.lost


class State(Enum):
    """What a caller is doing."""

    QUIET = auto()
    ASKING = auto()
    WAITING = auto()
    HEARING = auto()
    INTERRUPTING = auto()
    UNCLEARED = auto()


class Caller:
    """A caller: call :meth:`frame` every 20 ms, and :meth:`feed` with all data of the server."""

    def __init__(
        self,
        sid: str,
        question: list[bytes],
        interruption: list[bytes],
        silence: bytes,
        first: int,
        *,
        protocol: CarrierProtocol | None = None,
    ) -> None:
        self._sid = sid
        # Of another carrier than Twilio.
        self._protocol = protocol
        self._question = question
        self._interruption = interruption
        self._silence = silence
        self._wait = first  # frames of silence before the next question
        self._state = State.QUIET
        self._at = 0
        self._interrupts = True
        self._voice_ended = self._onset = 0.0
        self._answered: float | None = None
        self._cleared: float | None = None
        self._play_end = 0.0
        # Each with the time at which the audio before it has been played, as at Twilio.
        self._marks: deque[tuple[float, str]] = deque()
        self._buffer = bytearray()
        self.out: bytearray = bytearray()
        """Data to send besides the frames: echoes of marks, answers to pings."""
        self.tally: Tally = Tally()
        self.alive: bool = True
        self._frame_of: dict[State, Callable[[float], bytes]] = {
            State.QUIET: self._quiet,
            State.ASKING: self._asking,
            State.WAITING: self._waiting,
            State.HEARING: self._hearing,
            State.INTERRUPTING: self._interrupting,
            State.UNCLEARED: self._uncleared,
        }

    # Output -----------------------------------------------------------------------------------------------------------
    def frame(self, now: float) -> bytes:
        """Return the frame to send now."""
        # Up to 20 ms late: marks are looked at once a frame. A server's ledger gets them
        # with any carrier's jitter, too.
        while self._marks and self._marks[0][0] <= now:
            self._echo(self._marks.popleft()[1])
        return self._frame_of[self._state](now)

    def _quiet(self, now: float) -> bytes:
        del now
        self._wait -= 1
        if self._wait <= 0:
            self._state, self._at = State.ASKING, 0
        return self._silence

    def _asking(self, now: float) -> bytes:
        frame = self._question[self._at]
        self._at += 1
        # The clock starts with the last voiced frame: the recording is trimmed to the voice.
        if self._at == len(self._question):
            self._expect_answer(now)
        return frame

    def _expect_answer(self, now: float) -> None:
        self._state, self._voice_ended, self._answered = State.WAITING, now, None
        self.tally.turns += 1

    def _waiting(self, now: float) -> bytes:
        if self._answered is not None:
            self._state = State.HEARING
        elif now - self._voice_ended > ANSWER_TIMEOUT_S:
            self.tally.missed += 1
            self._rest()
        return self._silence

    def _hearing(self, now: float) -> bytes:
        if self._interrupts and self._answered is not None and now - self._answered >= HEARD_BEFORE_INTERRUPTING_S:
            self._state, self._at, self._onset, self._cleared = State.INTERRUPTING, 0, now, None
            self.tally.turns += 1
            return self._interrupting(now)
        if now - self._play_end > QUIET_AFTER_ANSWER_S:
            if self._interrupts:  # an answer too short to be interrupted
                self.tally.missed += 1
            self._rest()
        return self._silence

    def _interrupting(self, now: float) -> bytes:
        frame = self._interruption[self._at]
        self._at += 1
        if self._at == len(self._interruption):
            self._interrupts = False
            # The rest of the interruption was said after the agent had stopped; its
            # answer can be distinguished from the old one.
            if self._cleared is not None:
                self._expect_answer(now)
            else:
                self._state = State.UNCLEARED
        return frame

    def _uncleared(self, now: float) -> bytes:
        """Wait for a late ``clear``: until then new audio may be the old answer's, so no answer is measured."""
        if now - self._onset > ANSWER_TIMEOUT_S and now - self._play_end > QUIET_AFTER_ANSWER_S:
            if self._cleared is None:
                self.tally.missed += 1
            self._rest()
        return self._silence

    def _rest(self) -> None:
        # 0.2 to 1 s, at random: callers that were in step drift apart.
        self._state, self._wait, self._interrupts = State.QUIET, random.randint(10, 50), True

    def _echo(self, name: str) -> None:
        if self._protocol is not None:
            self.out += text_frame(self._protocol.played(name).encode())
            return
        self.out += text_frame({"event": "mark", "streamSid": self._sid, "mark": {"name": name}})

    # Input ------------------------------------------------------------------------------------------------------------
    def feed(self, data: bytes, now: float) -> None:
        """Handle bytes from the server."""
        buffer = self._buffer
        buffer += data
        at = 0
        # A frame's head has 2, 4 or 10 bytes (RFC 6455 section 5.2); servers do not mask.
        while len(buffer) - at >= 2:
            size, head = buffer[at + 1] & 0x7F, 2
            if size == 126:
                if len(buffer) - at < 4:
                    break
                (size,), head = struct.unpack_from("!H", buffer, at + 2), 4
            elif size == 127:
                if len(buffer) - at < 10:
                    break
                (size,), head = struct.unpack_from("!Q", buffer, at + 2), 10
            if len(buffer) - at < head + size:
                break
            self._frame_came(buffer[at] & 0x0F, bytes(buffer[at + head : at + head + size]), now)
            at += head + size
        # Once for all frames: each removal copies the rest.
        del buffer[:at]

    def _frame_came(self, opcode: int, data: bytes, now: float) -> None:
        if opcode == Opcode.PING:
            self.out += Frame(Opcode.PONG, data).serialize(mask=True)
        elif opcode == Opcode.CLOSE:
            self.alive = False
            self.tally.lost += 1
        elif opcode in (Opcode.TEXT, Opcode.BINARY):
            message = _decode(data)
            if message.media is not None:
                self._media(message.media.payload, now)
            elif message.mark is not None:
                # Behind the audio that is still to be played, or at once on an empty buffer.
                self._marks.append((max(now, self._play_end), message.mark.name))
            elif message.event == "checkpoint":
                self._marks.append((max(now, self._play_end), message.name))
            elif message.event in ("clear", "clearAudio"):
                self._clear(now)

    def _media(self, audio: bytes, now: float) -> None:
        # A message of one byte over and over is silence, which some servers send between answers.
        sounds = audio.count(audio[0]) != len(audio)
        if not sounds:
            return
        if self._state is State.WAITING and self._answered is None:
            self._answered = now
            self.tally.answers.append(now - self._voice_ended)
        # The agent talks into a new question, or goes on after its own clear.
        elif self._state is State.ASKING or (self._state is State.INTERRUPTING and self._cleared is not None):
            self.tally.stray += 1
        # A frame's length of tolerance; after QUIET_AFTER_ANSWER_S it is a new answer, not a gap in this one.
        elif self._state is State.HEARING and 0.02 < now - self._play_end < QUIET_AFTER_ANSWER_S:
            self.tally.gaps += 1
        self._play_end = max(now, self._play_end) + len(audio) / MULAW_RATE_HZ

    def _clear(self, now: float) -> None:
        # The buffer is empty: what comes from here on is played at once.
        self._play_end = now
        if self._protocol is not None and not self._protocol.cleared_marks_return:
            self._marks.clear()
            confirmation = self._protocol.cleared()
            if confirmation is not None:
                self.out += text_frame(confirmation.encode())
        while self._marks:
            self._echo(self._marks.popleft()[1])
        # Also if it comes late: the time is what it is, and the turn is not missed.
        if self._state in (State.INTERRUPTING, State.UNCLEARED) and self._cleared is None:
            self._cleared = now
            self.tally.clears.append(now - self._onset)


def stream_sid() -> str:
    return "MZ" + os.urandom(16).hex()
