"""The playback ledger: it computes what the caller has heard of a reply, and what to send next.

The carrier plays audio in order from a buffer that we cannot inspect. Three sources give evidence about it. The clock:
we know how long the sent audio takes to play. The marks: the carrier returns each mark when it has played all audio
before it. The ``clear``: it empties the buffer, and the carrier returns all marks in the buffer at once, played or not.

* Audio is sent ahead of real time by at most :data:`SEND_AHEAD_S`. A longer lead would delay a ``clear`` behind it; a
  shorter one would turn every stall of our event loop into a gap in the speech.
* Audio is sent in messages of :data:`~patter_trio.conversation.playout.MESSAGE_SAMPLES`. A mark is sent after each
  :data:`MARK_INTERVAL_SAMPLES`, at the end of each sentence, and after the last audio.
* If more than :data:`MAX_UNMARKED_SAMPLES` are unacknowledged, the path is blocked and we stop sending, because the
  kernel alone would buffer 8 s of speech, which a ``clear`` could not reach. If the marks do not return, the clock
  alone counts after :data:`MARK_GRACE_S`, or after :data:`MISSING_MARK_S` if the carrier's other messages go on coming,
  and the rest is sent by it. A mark that returns later, even one sent before, shows where the carrier really is, and
  marks count again.
* Only the ledger ends a reply: when all of it was sent, and was played by the marks or, without them, by the clock.
* A mark that returns because of our own ``clear`` does not prove that its audio was heard.
* Audio cannot be heard before it can have been played. So a mark that returns more than :data:`CLOCK_SKEW_S` too early
  waits for the clock.
* A stream that is lost takes the carrier's buffer with it. The open queue is then rewound, and goes on over the next
  stream; what was heard of it before counts also if it is cut before it goes on.

Positions are samples (at 8 kHz) since the call's first; times are seconds on the call's clock.
"""

import math
from collections import deque
from typing import Final

import attrs

from patter_trio.audio.formats import RATE_HZ
from patter_trio.conversation.playout import MESSAGE_SAMPLES, HeardSpeech, PlayoutQueue
from patter_trio.conversation.relay import Relay

# Judged between the two failures in the module's docstring. Measured with 100 calls on one core, a turn of the event
# loop took 31 ms at most; a network may stall for longer.
SEND_AHEAD_S: Final = 0.4
"""Seconds of audio that the carrier may hold. Four messages: enough to bridge an ordinary stall of the event loop."""
# Simulated, with 20 to 80 ms of delay each way, stalls and gaps: 95 % of the errors of what was heard are below 60 ms,
# about as with marks every 500 ms; with one mark at the end they are below 264 ms, and by the clock alone below 300 ms.
# The shorter interval is for MAX_UNMARKED_SAMPLES: a blocked path is noticed sooner.
MARK_INTERVAL_SAMPLES: Final = 1600
"""Samples between marks: 200 ms. Between two marks, only the clock shows how much was heard."""
# Judged; without it, measured: a peer that stops reading takes 148 kB into the buffers of
# the two kernels, 8 s of speech.
MAX_UNMARKED_SAMPLES: Final = RATE_HZ
"""Largest number of unacknowledged samples: one second, enough for :data:`SEND_AHEAD_S` and a slow round trip."""
# Judged: a network that stood still for a second still counts as marks; longer, and the caller hears the pause.
MARK_GRACE_S: Final = 1.5
"""Seconds after the computed end of playback that the ledger waits for a missing mark."""
# Judged: more than a round trip, and less than a caller needs to interrupt a reply.
MISSING_MARK_S: Final = 0.3
"""Seconds by which a mark may be late while other messages of the carrier come. A later one counts as lost."""
# Judged: less than the 20 s after which the keep-alive gives up a silent carrier, and as long as a goodbye may take.
SILENT_GRACE_S: Final = 10.0
"""The same while nothing at all comes from the carrier: the network is held up, and more audio would only pile up in
it."""
# Judged: more than a slow way to the caller, so that a hang-up does not cut the last word.
LOST_MARK_GRACE_S: Final = 0.5
"""The same while the carrier returns no marks at all: only the way of the audio to the caller."""
MAX_UNRETURNED_MARKS: Final = 64
"""Marks that are remembered although the carrier does not return them: 13 s of speech. An older one proves nothing
new."""
CLOCK_TOLERANCE_S: Final = 1e-9
"""Seconds that count as zero. Adding less may not change a clock reading, and the writer would ask for the same sleep
again and again."""
# Judged: 0.2 % of half a minute of speech.
CLOCK_SKEW_S: Final = 0.05
"""Seconds by which the carrier's clock may be ahead of ours."""
NO_REPLY: Final = 0
"""The number, instead of a reply's, of audio that the agent does not speak: hold sound, or another party's voice."""


@attrs.frozen
class Media:
    """Audio of the reply numbered ``reply``, to be sent to the carrier now."""

    audio: bytes
    reply: int


@attrs.frozen
class Mark:
    """A request to the carrier to report when it has played all audio before the mark."""

    name: str


@attrs.frozen
class Clear:
    """A request to the carrier to empty its buffer."""


@attrs.frozen
class Command:
    """A message in the carrier's own words, to be sent before more audio."""

    message: str


@attrs.frozen
class Close:
    """The end of the stream."""


Outgoing = Media | Mark | Clear | Command | Close


@attrs.define
class _Sent:
    """A mark that was sent: its name, and its position in the audio."""

    name: str
    position: int
    early: bool = False
    """True if the mark returned before its audio can have been played."""


class Playback:
    """The playback ledger of one leg."""

    def __init__(self) -> None:
        # Needs no bound: each entry is caused by one message of audio or by one cut, and is sent before the next audio.
        self._control: deque[Mark | Clear | Command | Close] = deque()
        self._playout: PlayoutQueue | None = None
        self._playout_start = 0  # position of the queue's first sample
        self._heard_before = 0  # samples of the queue that were heard before the stream was lost
        self._stream_start = 0  # position of the queue's first sample in the present stream
        self._position = 0  # end of the audio that was sent
        self._marked = 0  # end of the audio that is covered by a mark
        self._acknowledged = 0  # end of the audio that valid marks report as played
        self._written_off = 0  # end of the audio that counts as played although its marks did not return
        self._on_wire = 0  # end of the audio whose sending has ended
        self._alive_at = -math.inf  # instant of the carrier's newest message
        self._held_up_until = -math.inf  # end of the newest gap in the carrier's messages
        self._acknowledged_at = 0.0
        self._round_trip = math.inf
        self._end = -math.inf  # instant at which all sent audio will have been played
        self._marks: deque[_Sent] = deque()
        self._probes: dict[str, float] = {}
        self._relay: Relay | None = None
        self._sequence = 0
        self.marks_lost: bool = False
        """True if the carrier did not return the marks of audio that it must have played. Until it returns a mark, only
        the clock counts."""

    def __repr__(self) -> str:
        unplayed = (self._position - self._acknowledged) / RATE_HZ
        return f"<Playback {self._position / RATE_HZ:.2f} s sent, {unplayed:.2f} s unacknowledged, {self._playout!r}>"

    @property
    def end(self) -> float:
        """The instant at which the carrier will have played all sent audio."""
        return self._end

    @property
    def round_trip(self) -> float:
        """The shortest time, in seconds, from the end of a mark's audio to the mark; 0 without marks.

        That is how long a message takes to the carrier and back.
        """
        return self._round_trip if self._round_trip < math.inf else 0.0

    @property
    def drained(self) -> bool:
        """True if all audio of the open queue was sent and reported as played."""
        playout = self._playout
        return playout is not None and playout.waiting == 0 and self._settled == self._position

    @property
    def _settled(self) -> int:
        """The end of the audio that was reported as played, or counts as played because its marks are lost."""
        return max(self._acknowledged, self._written_off)

    def _overdue(self, now: float) -> float:
        """Return the seconds until all sent audio counts as played, although its marks have not returned."""
        # A carrier that was held up plays what it then receives: no earlier than that, and than its last mark allows.
        since_gap = self._held_up_until + (self._position - self._settled) / RATE_HZ
        since_mark = self._acknowledged_at + (self._position - self._acknowledged) / RATE_HZ
        grace = MARK_GRACE_S
        if now - self._alive_at > MISSING_MARK_S and self._alive_at > -math.inf:
            grace = SILENT_GRACE_S
        elif self._written_off:
            grace, since_mark = LOST_MARK_GRACE_S, -math.inf
        return max(self._end, since_gap, since_mark) + grace - now

    def open(self, playout: PlayoutQueue) -> None:
        """Start sending a reply's audio to the carrier, after the audio that was sent before."""
        playout.open()
        # At the present end of what was sent, which may still be playing: the carrier plays replies one after another.
        self._playout, self._heard_before = playout, 0
        self._playout_start = self._stream_start = self._position

    def close(self) -> HeardSpeech:
        """Close the open queue, which was played completely, and return what was heard."""
        playout, self._playout = self._playout, None
        return playout.heard(playout.sent_samples) if playout else HeardSpeech(0.0, "")

    def heard(self, now: float) -> HeardSpeech:
        """Return what was heard so far of the open queue."""
        if self._playout is None:
            return HeardSpeech(0.0, "")
        samples = max(self._heard_before, self.played(now) - self._playout_start)
        return self._playout.heard(min(samples, self._playout.sent_samples))

    def cut(self, now: float) -> HeardSpeech:
        """Cut the open queue at once, and return what was heard. The next message is ``clear``."""
        playout, self._playout = self._playout, None
        if playout is None:
            return HeardSpeech(0.0, "")
        # Before the queue is cut, because the marks and the end of playback are reset below.
        heard = max(self._heard_before, self.played(now) - self._playout_start)
        playout.cut()
        # The marks in the control queue are not sent, because their audio is discarded.
        self._control = deque(item for item in self._control if not isinstance(item, Mark))
        self._sequence += 1
        probe = f"c{self._sequence}"
        self._probes[probe] = now
        # The probe is a mark after the clear. The carrier returns it when it has emptied its buffer.
        self._control += [Clear(), Mark(probe)]
        # Twilio returns all pending marks after a clear, and nothing in them tells why
        # (https://www.twilio.com/docs/voice/media-streams/websocket-messages). They prove nothing, so forget them.
        self._marks.clear()
        self._marked = self._acknowledged = self._position
        self._acknowledged_at = self._end = now
        return playout.heard(max(self._heard_before, min(heard, playout.sent_samples)))

    def lose_stream(self, now: float) -> None:
        """Rewind the open queue, because the stream is lost. Nothing must be sent until :meth:`begin_stream`."""
        playout = self._playout
        if playout is not None:
            heard = min(max(self._heard_before, self.played(now) - self._playout_start), playout.sent_samples)
            playout.rewind(heard)
            self._heard_before = max(self._heard_before, heard)
        self._forget_buffer(now)

    def begin_stream(self, now: float) -> None:
        """Go on over a new stream, whose buffer is empty."""
        self._forget_buffer(now)

    def _forget_buffer(self, now: float) -> None:
        # Neither marks nor clears of the old stream come back, and those that wait have nothing to do in the new one.
        self._control = deque(item for item in self._control if isinstance(item, Command | Close))
        self._marks.clear()
        self._probes.clear()
        self._marked = self._acknowledged = self._on_wire = self._position
        self._acknowledged_at = self._end = now
        self._written_off, self.marks_lost = 0, False
        self._relay = None if self._relay is None else Relay()
        self._alive_at = self._held_up_until = -math.inf
        self._stream_start = self._position
        if self._playout is not None:
            self._playout_start = self._position - self._playout.sent_samples

    def command(self, message: str) -> None:
        """Send a message of the carrier's own next."""
        self._control.append(Command(message))

    def relay(self, audio: bytes) -> None:
        """Pass on audio of another call, mu-law; from the first one on, nothing else is played."""
        if self._relay is None:
            self._relay = Relay()
        self._relay.put(audio)

    def hang_up(self) -> None:
        """End the stream with the next message."""
        self._control.append(Close())

    def alive(self, now: float) -> bool:
        """Record that a message has come from the carrier (the caller's audio is one every 20 ms).

        Return True if it ends a gap: then the times that :meth:`next_message` returned are no longer right.
        """
        ends_gap = now - self._alive_at > MISSING_MARK_S
        if ends_gap:
            self._held_up_until = now
        self._alive_at = now
        return ends_gap

    def _mark_is_missing(self) -> bool:
        """Return True if the carrier has not returned a mark, although later messages of it have come.

        Its messages come in order, so the mark is not on its way. Either the carrier returns none, or it has not got
        the audio yet; after a gap in its messages that is likely, and it has some time.
        """
        if not self._marks or self._marks[0].early:
            return False
        mark = self._marks[0]
        since_gap = self._held_up_until + (mark.position - self._settled) / RATE_HZ
        since_mark = self._acknowledged_at + (mark.position - self._acknowledged) / RATE_HZ
        return self._alive_at > max(self._due(mark), since_gap, since_mark) + MISSING_MARK_S

    def sent(self) -> None:
        """Record that the newest message has left. Until then its audio cannot have been heard."""
        self._on_wire = self._position

    def played(self, now: float) -> int:
        """Return the position up to which the caller has certainly heard the audio."""
        by_clock = min(self._position - max(0.0, self._end - now) * RATE_HZ, self._on_wire)
        if self.marks_lost or self._mark_is_missing():
            return max(self._acknowledged, int(by_clock + 1e-6))
        # The least of three: what the clock allows, what can have been played since the last mark, and the next mark,
        # which has not returned.
        since_mark = self._acknowledged + (now - self._acknowledged_at) * RATE_HZ
        next_mark = self._marks[0].position if self._marks else self._position
        return max(self._acknowledged, int(min(by_clock, since_mark, next_mark) + 1e-6))

    def played_of_queue(self, now: float) -> int:
        """Return the samples of the open queue that the caller has heard over the present stream.

        What was rewound and is said again counts again.
        """
        return 0 if self._playout is None else max(0, self.played(now) - self._stream_start)

    def next_message(self, now: float) -> Outgoing | float:
        """Return the message to send now, or the seconds until the next one is due if nothing changes."""
        # Before the ledger is asked for audio: a clear, or the close, must not wait behind speech.
        if self._control:
            return self._control.popleft()
        if self._relay is not None:
            audio = self._relay.next_audio(now)
            if isinstance(audio, float):
                return audio
            if mark := self._relay.next_mark():
                self._control.append(Mark(mark))
            return Media(audio, NO_REPLY)
        return self._next_media(now, self._settle(now))

    def _next_media(self, now: float, ahead: float) -> Outgoing | float:
        playout = self._playout
        if playout is None:
            return math.inf
        # A due mark goes before more audio, so that playback is acknowledged every MARK_INTERVAL_SAMPLES.
        if self._position > self._marked and (
            playout.waiting == 0 or self._position - self._marked >= MARK_INTERVAL_SAMPLES
        ):
            return self._mark(playout)
        overdue = self._overdue(now)
        if self._settled < self._position and overdue <= CLOCK_TOLERANCE_S:
            self.marks_lost, self._written_off = True, self._position
        elif self._mark_is_missing():
            self.marks_lost = True
        if playout.waiting == 0:
            return min(overdue, ahead) if self._settled < self._position else math.inf
        # Too much is unacknowledged: wait for marks, at most until the clock alone counts.
        if self._position - self._acknowledged > MAX_UNMARKED_SAMPLES and not self.marks_lost:
            return min(overdue, ahead)
        ahead = max(self._end, now) - now
        # The lead is used up: sleep until one more message fits into it.
        if ahead + MESSAGE_SAMPLES / RATE_HZ > SEND_AHEAD_S + CLOCK_TOLERANCE_S:
            return ahead + MESSAGE_SAMPLES / RATE_HZ - SEND_AHEAD_S
        if (
            playout.waiting < MESSAGE_SAMPLES
            and not playout.produced
            and ahead > MESSAGE_SAMPLES / RATE_HZ + CLOCK_TOLERANCE_S
        ):
            return ahead - MESSAGE_SAMPLES / RATE_HZ  # wait for a full message while the carrier has audio
        return self._media(playout, now)

    def _media(self, playout: PlayoutQueue, now: float) -> Media:
        audio, ends_sentence = playout.take()
        if self._acknowledged == self._position:  # the buffer was empty, so playback begins now
            self._acknowledged_at = now
        self._position += len(audio)
        self._end = max(self._end, now) + len(audio) / RATE_HZ
        if ends_sentence:
            self._control.append(self._mark(playout))
        return Media(audio, playout.reply)

    def _mark(self, playout: PlayoutQueue) -> Mark:
        self._sequence += 1
        name = f"r{playout.reply}.{self._sequence}"
        self._marks.append(_Sent(name, self._position))
        if len(self._marks) > MAX_UNRETURNED_MARKS:
            self._marks.popleft()
        self._marked = self._position
        return Mark(name)

    def reached(self, name: str, now: float) -> float | None:
        """Record a mark that the carrier returned. Unknown marks, and those before a ``clear``, change nothing.

        Return the round-trip time of a clear if the mark is its probe: the seconds from the decision to the report that
        the buffer is empty.
        """
        if name in self._probes:
            return now - self._probes.pop(name)
        if self._relay is not None and self._relay.is_behind(name, now):
            self._control.append(Clear())
        # Not only the first: marks may be lost, or come out of order (docs/robustness.md).
        mark = next((mark for mark in self._marks if mark.name == name), None)
        if mark is None:
            return None
        self._round_trip = min(self._round_trip, max(0.0, now - self._due(mark)))
        if self._due(mark) > now + CLOCK_SKEW_S:
            mark.early = True
        else:
            self._acknowledge(mark, now)
        return None

    def _due(self, mark: _Sent) -> float:
        """Return the earliest instant at which the audio before a mark can have been played."""
        return self._end - (self._position - mark.position) / RATE_HZ

    def _acknowledge(self, mark: _Sent, now: float) -> None:
        """Count the audio before a mark as played."""
        while self._marks.popleft() is not mark:
            pass  # a later mark also covers the audio of lost ones
        # The carrier returns marks again, so they count again; what was written off has to be proved like the rest.
        self.marks_lost, self._written_off = False, 0
        self._acknowledged, self._acknowledged_at = mark.position, now

    def _settle(self, now: float) -> float:
        """Acknowledge the early marks that are due, and return the seconds until the next one is due."""
        for mark in [mark for mark in self._marks if mark.early]:
            left = self._due(mark) - now
            if left > CLOCK_TOLERANCE_S:
                return left
            self._acknowledge(mark, now)
        return math.inf
