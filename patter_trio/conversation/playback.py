"""The playback ledger: it computes what the caller has heard of a reply, and what to send next.

The carrier plays audio in order from a buffer that we cannot inspect. Three sources give evidence about it. The clock:
we know how long the sent audio takes to play. The marks: the carrier returns each mark when it has played all audio
before it. The ``clear``: it empties the buffer, and the carrier returns all marks in the buffer at once, played or not.

* Audio is sent ahead of real time by at most :data:`SEND_AHEAD_S`. A longer lead would delay a ``clear`` behind it; a
  shorter one would turn every stall of our event loop into a gap in the speech.
* Audio is sent in messages of :data:`MESSAGE_SAMPLES`. A mark is sent after each :data:`MARK_INTERVAL_SAMPLES`, at the
  end of each sentence, and after the last audio.
* If more than :data:`MAX_UNMARKED_SAMPLES` are unacknowledged, the path is blocked and we stop sending, because the
  kernel alone would buffer 8 s of speech, which a ``clear`` could not reach. If the marks do not return, the clock
  alone counts after :data:`MARK_GRACE_S`.
* A mark that returns because of our own ``clear`` does not prove that its audio was heard.
* Audio cannot be heard before it can have been played. So a mark that returns more than :data:`CLOCK_SKEW_S` too early
  waits for the clock.

Positions are samples (at 8 kHz) since the call's first; times are seconds on the call's clock.
"""

import math
from collections import deque
from itertools import pairwise
from typing import Final

import attrs

from patter_trio.abc import Word
from patter_trio.audio.formats import RATE_HZ

# Judged between the two failures in the module's docstring. Measured with 100 calls on one core, a turn of the event
# loop took 31 ms at most; a network may stall for longer.
SEND_AHEAD_S: Final = 0.4
"""Seconds of audio that the carrier may hold. Four messages: enough to bridge an ordinary stall of the event loop."""
# Measured: a second of speech cost 3.0 ms of processor time in messages of 20 ms, 1.2 ms in messages of 100 ms, and 0.7
# ms in messages of 200 ms. A clear takes effect within a message, so their length does not delay it.
MESSAGE_SAMPLES: Final = 800
"""Samples per message: 100 ms. Each message costs the same processor time, so smaller ones would cost more per call."""
# Simulated, with 20 to 80 ms of delay each way, stalls and gaps: 95 % of the errors of what was heard are below 60 ms,
# about as with marks every 500 ms; with one mark at the end they are below 264 ms, and by the clock alone below 300 ms.
# The shorter interval is for MAX_UNMARKED_SAMPLES: a blocked path is noticed sooner.
MARK_INTERVAL_SAMPLES: Final = 1600
"""Samples between marks: 200 ms. Between two marks, only the clock shows how much was heard."""
# Judged; without it, measured: a peer that stops reading takes 148 kB into the buffers of
# the two kernels, 8 s of speech.
MAX_UNMARKED_SAMPLES: Final = RATE_HZ
"""Largest number of unacknowledged samples: one second, enough for :data:`SEND_AHEAD_S` and a slow round trip."""
# Judged, and the same as TurnPolicy.drain_grace: a mark later than that would come too late for the turn machine.
MARK_GRACE_S: Final = 1.5
"""Seconds after the computed end of playback that the ledger waits for a missing mark."""
CLOCK_TOLERANCE_S: Final = 1e-9
"""Seconds that count as zero. Adding less may not change a clock reading, and the writer would ask for the same sleep
again and again."""
WORD_END_TOLERANCE_SAMPLES: Final = 1e-3
"""Samples by which a word may end after its sentence, because of rounding when word times are added."""
# Judged: 0.2 % of half a minute of speech.
CLOCK_SKEW_S: Final = 0.05
"""Seconds by which the carrier's clock may be ahead of ours."""
SECONDS_PER_CHARACTER: Final = 0.06
"""Estimated seconds per character of a sentence whose audio is not complete yet: about 1000 characters per minute, an
average speaking rate."""


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
class Close:
    """The end of the stream."""


Outgoing = Media | Mark | Clear | Close


@attrs.frozen
class HeardSpeech:
    """The part of a reply that the caller heard: its seconds, and its text rounded down to a whole word."""

    seconds: float
    text: str


@attrs.define
class _Span:
    """A sentence, and the sample of its reply at which its audio begins."""

    text: str
    start: int
    words: list[Word] = attrs.field(factory=list)


class PlayoutQueue:
    """The playout queue of one reply. After a cut it discards all audio that still arrives."""

    def __init__(self, reply: int) -> None:
        self.reply = reply
        self.is_open: bool = False
        self.is_cut: bool = False
        self.produced: bool = False
        self.put_samples: int = 0
        self.sent_samples: int = 0
        self._queue: deque[bytes] = deque()
        self._spans: list[_Span] = []

    def __repr__(self) -> str:
        state = "cut" if self.is_cut else "open" if self.is_open else "closed"
        return f"<PlayoutQueue of reply {self.reply}, {state}, {self.waiting / RATE_HZ:.2f} s waiting>"

    @property
    def waiting(self) -> int:
        """The number of samples that were put in and not taken yet."""
        return self.put_samples - self.sent_samples

    def end(self) -> None:
        """Record that all of the reply's audio was produced."""
        self.produced = True

    def put(self, audio: bytes, text: str = "", words: tuple[Word, ...] = ()) -> None:
        """Add mu-law audio. ``text`` is the sentence that begins with it; times in ``words`` count from its start."""
        if self.is_cut:
            return
        if text:
            self._spans.append(_Span(text, self.put_samples))
        if words and self._spans:
            span = self._spans[-1]
            offset = (self.put_samples - span.start) / RATE_HZ
            span.words += [attrs.evolve(w, start=w.start + offset, end=w.end + offset) for w in words]
        if audio:
            self._queue.append(audio)
            self.put_samples += len(audio)

    def begin(self) -> None:
        """Begin a stretch of speech whose text is not known yet."""
        self._spans.append(_Span("", self.put_samples))

    def add_text(self, text: str) -> None:
        """Add text to the newest stretch. An engine delivers text in pieces, roughly along with the audio."""
        if not self._spans:
            self.begin()
        self._spans[-1].text += text

    def cut(self) -> None:
        """Discard the queued audio, and all audio that still arrives."""
        self.is_cut = True
        self._queue.clear()

    def take(self) -> tuple[bytes, bool]:
        """Return the audio of the next message, empty if the queue is, and True if the audio ends a sentence."""
        # A message ends where a sentence does, so that the mark after it proves that the sentence was heard.
        limit = min(
            [MESSAGE_SAMPLES, *(s.start - self.sent_samples for s in self._spans if s.start > self.sent_samples)]
        )
        taken = bytearray()
        while self._queue and len(taken) < limit:
            audio = self._queue.popleft()
            room = limit - len(taken)
            taken += audio[:room]
            if len(audio) > room:
                self._queue.appendleft(audio[room:])
        self.sent_samples += len(taken)
        at_boundary = any(s.start == self.sent_samples for s in self._spans)
        return bytes(taken), at_boundary or (self.produced and not self._queue)

    def heard(self, samples: int) -> HeardSpeech:
        """Return the speech in the first ``samples`` of this reply, rounded down to a whole word."""
        ends = [later.start for _, later in pairwise(self._spans)] + [self.put_samples] * bool(self._spans)
        said: list[str] = []
        for index, (span, end) in enumerate(zip(self._spans, ends, strict=True)):
            last = index == len(self._spans) - 1
            # The last sentence is complete only once the reply is: more of its audio may be on the way.
            if samples >= end and (self.produced or not last):
                said.append(" ".join(span.text.split()))
                continue
            if samples > span.start:
                unfinished = last and not self.produced
                said.append(_begun(span, samples - span.start, end - span.start, unfinished=unfinished))
            break
        return HeardSpeech(samples / RATE_HZ, " ".join(part for part in said if part))


def _begun(span: _Span, heard: int, length: int, *, unfinished: bool) -> str:
    """Return the words of a sentence that have ended after ``heard`` of its ``length`` samples."""
    words = span.text.split()
    # Word times arrive with their audio. While more audio is to come, a word without a time cannot have been heard.
    if span.words and (unfinished or len(span.words) >= len(words)):
        return " ".join(
            words[: sum(w.end * RATE_HZ <= heard + WORD_END_TOLERANCE_SAMPLES for w in span.words[: len(words)])]
        )
    if unfinished:
        length = max(length, round(len(span.text) * SECONDS_PER_CHARACTER * RATE_HZ))
    reached = len(span.text) * heard / length if length else 0.0
    said, position = 0, 0
    for word in words:
        position += len(word)
        # 1e-9 allows for rounding in the division; without it, a word that ends exactly here would be missing.
        if position > reached + 1e-9:
            break
        said += 1
        position += 1
    return " ".join(words[:said])


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
        self._control: deque[Mark | Clear | Close] = deque()
        self._playout: PlayoutQueue | None = None
        self._playout_start = 0  # position of the queue's first sample
        self._position = 0  # end of the audio that was sent
        self._marked = 0  # end of the audio that is covered by a mark
        self._acknowledged = 0  # end of the audio that valid marks report as played
        self._acknowledged_at = 0.0
        self._end = -math.inf  # instant at which all sent audio will have been played
        self._marks: deque[_Sent] = deque()
        # Names of marks whose audio was cleared. Twilio returns all pending marks after a clear, and nothing in them
        # tells why (https://www.twilio.com/docs/voice/media-streams/websocket-messages).
        self._cleared: set[str] = set()
        self._probes: dict[str, float] = {}
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
    def drained(self) -> bool:
        """True if all audio of the open queue was sent and reported as played."""
        playout = self._playout
        return playout is not None and playout.waiting == 0 and self._acknowledged == self._position

    def open(self, playout: PlayoutQueue) -> None:
        """Start sending a reply's audio to the carrier, after the audio that was sent before."""
        playout.is_open = True
        # At the present end of what was sent, which may still be playing: the carrier plays replies one after another.
        self._playout, self._playout_start = playout, self._position

    def close(self) -> HeardSpeech:
        """Close the open queue, which was played completely, and return what was heard."""
        playout, self._playout = self._playout, None
        return playout.heard(playout.sent_samples) if playout else HeardSpeech(0.0, "")

    def cut(self, now: float) -> HeardSpeech:
        """Cut the open queue at once, and return what was heard. The next message is ``clear``."""
        playout, self._playout = self._playout, None
        if playout is None:
            return HeardSpeech(0.0, "")
        # Before the queue is cut, because the marks and the end of playback are reset below.
        heard = max(0, self.played(now) - self._playout_start)
        playout.cut()
        # The marks in the control queue are not sent, because their audio is discarded.
        self._control = deque(item for item in self._control if not isinstance(item, Mark))
        self._sequence += 1
        probe = f"c{self._sequence}"
        self._probes[probe] = now
        # The probe is a mark after the clear. The carrier returns it when it has emptied its buffer.
        self._control += [Clear(), Mark(probe)]
        # These marks return because of the clear, so they do not prove that their audio was heard.
        self._cleared.update(mark.name for mark in self._marks)
        self._marks.clear()
        self._marked = self._acknowledged = self._position
        self._acknowledged_at = self._end = now
        return playout.heard(min(heard, playout.sent_samples))

    def hang_up(self) -> None:
        """End the stream with the next message."""
        self._control.append(Close())

    def played(self, now: float) -> int:
        """Return the position up to which the caller has certainly heard the audio."""
        by_clock = self._position - max(0.0, self._end - now) * RATE_HZ
        if self.marks_lost:
            return max(0, int(by_clock))
        # The least of three: what the clock allows, what can have been played since the last mark, and the next mark,
        # which has not returned.
        since_mark = self._acknowledged + (now - self._acknowledged_at) * RATE_HZ
        next_mark = self._marks[0].position if self._marks else self._position
        return max(self._acknowledged, int(min(by_clock, since_mark, next_mark) + 1e-6))

    def next_message(self, now: float) -> Outgoing | float:
        """Return the message to send now, or the seconds until the next one is due if nothing changes."""
        # Before the ledger is asked for audio: a clear, or the close, must not wait behind speech.
        if self._control:
            return self._control.popleft()
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
        overdue = self._end + MARK_GRACE_S - now
        if self._acknowledged < self._position and overdue <= CLOCK_TOLERANCE_S:
            self._acknowledge_by_clock(now)
        if playout.waiting == 0:
            return min(overdue, ahead) if self._acknowledged < self._position else math.inf
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
        self._marked = self._position
        return Mark(name)

    def _acknowledge_by_clock(self, now: float) -> None:
        """Count all sent audio as played, because the carrier does not return its marks."""
        self.marks_lost = True
        self._marks.clear()
        self._acknowledged, self._acknowledged_at = self._position, now

    def reached(self, name: str, now: float) -> float | None:
        """Record a mark that the carrier returned. Unknown and cleared marks change nothing.

        Return the round-trip time of a clear if the mark is its probe: the seconds from the decision to the report that
        the buffer is empty.
        """
        if name in self._probes:
            return now - self._probes.pop(name)
        if name in self._cleared:
            # The carrier returns a mark once, so removing it bounds the set.
            self._cleared.discard(name)
            return None
        # Not only the first: marks may be lost, or come out of order (docs/robustness.md).
        mark = next((mark for mark in self._marks if mark.name == name), None)
        if mark is None:
            return None
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
        # The carrier returns marks again, so they count again.
        self.marks_lost = False
        self._acknowledged, self._acknowledged_at = mark.position, now

    def _settle(self, now: float) -> float:
        """Acknowledge the early marks that are due, and return the seconds until the next one is due."""
        for mark in [mark for mark in self._marks if mark.early]:
            left = self._due(mark) - now
            if left > CLOCK_TOLERANCE_S:
                return left
            self._acknowledge(mark, now)
        return math.inf
