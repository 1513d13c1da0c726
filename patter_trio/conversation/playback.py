"""The playback ledger: what was sent, what was played, and what to send next. It makes "heard" a fact.

The carrier plays what it gets, in order, from a buffer that we cannot look into. Three sources tell about it. The
clock: we know how long the audio that was sent takes to play. The marks: each comes back when all audio before it was
played. The ``clear``: it empties the buffer and makes every mark in it come back at once, played or not.

* Audio is sent ahead of real time by at most :data:`SEND_AHEAD_S`. More would delay a ``clear`` behind it and would not bridge
  a longer stall of the sender; less would turn every stall of ours into a gap in the voice.
* Audio goes out in messages of :data:`MESSAGE_SAMPLES`. A mark follows after every :data:`MARK_INTERVAL_SAMPLES`, at the end of each
  sentence, and after the last audio there is.
* If more than :data:`MAX_UNMARKED_SAMPLES` is unacknowledged, the path is stuck and sending stops: the kernel alone would buffer 8 s
  of speech that no ``clear`` could reach. If a carrier's marks do not come back, the clock counts after :data:`MARK_GRACE_S`.
* Marks that come back because of our own ``clear`` say nothing about what was heard.
* Audio cannot be heard before it can have been played: a mark that comes more than :data:`CLOCK_SKEW_S` too soon waits for the
  clock.

Positions are samples (at 8 kHz) since the call's first; times are seconds on the call's clock.
"""

import math
from collections import deque
from itertools import pairwise
from typing import Final

import attrs

from patter_trio.abc import Word
from patter_trio.audio.formats import RATE

SEND_AHEAD_S: Final = 0.4
"""Seconds of audio that the carrier may hold. Four messages: enough to bridge an ordinary stall of the event loop."""
MESSAGE_SAMPLES: Final = 800
"""Samples per message: 100 ms. Each message costs the same processor time, so smaller ones raise the cost of a call."""
MARK_INTERVAL_SAMPLES: Final = 1600
"""Samples between marks: 200 ms. Between two of them only the clock tells what was heard."""
MAX_UNMARKED_SAMPLES: Final = RATE
"""Samples that may be unacknowledged: one second, that is :data:`SEND_AHEAD_S` and a generous round trip."""
MARK_GRACE_S: Final = 1.5
"""Seconds after the computed end of playback that the ledger waits for a missing mark."""
CLOCK_TOLERANCE_S: Final = 1e-9
"""Seconds that count as zero. Adding less may not move a clock, and a sleep until then would be asked for again and again."""
WORD_END_TOLERANCE_SAMPLES: Final = 1e-3
"""Samples by which the end of a word may lie behind the end of its sentence, from adding up word times."""
CLOCK_SKEW_S: Final = 0.05
"""Seconds by which the carrier's clock may be ahead of ours."""
SECONDS_PER_CHARACTER: Final = 0.06
"""Estimated length of a sentence whose audio is not complete yet.

About 1000 characters a minute, an average speaking rate.
"""


@attrs.frozen
class Media:
    """Audio to send to the carrier now, of the reply numbered ``reply``."""

    audio: bytes
    reply: int


@attrs.frozen
class Mark:
    """A request to the carrier to report once it has played everything before."""

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
    """How much of a reply the caller heard: seconds, and the text down to the last whole word."""

    seconds: float
    text: str


@attrs.define
class _Span:
    """A sentence, and the sample of its reply at which its audio begins."""

    text: str
    start: int
    words: list[Word] = attrs.field(factory=list)


class PlayoutQueue:
    """The playout queue of one reply. Once it is cut, it swallows whatever still comes."""

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
        return f"<Lane of reply {self.reply}, {state}, {self.waiting / RATE:.2f} s waiting>"

    @property
    def waiting(self) -> int:
        """Samples that were put in and not taken yet."""
        return self.put_samples - self.sent_samples

    def end(self) -> None:
        """Record that all of the reply's audio was produced."""
        self.produced = True

    def put(self, audio: bytes, text: str = "", words: tuple[Word, ...] = ()) -> None:
        """Add mu-law audio. ``text`` is the sentence that begins with it; ``words`` have times from its first sample."""
        if self.is_cut:
            return
        if text:
            self._spans.append(_Span(text, self.put_samples))
        if words and self._spans:
            span = self._spans[-1]
            offset = (self.put_samples - span.start) / RATE
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
        """Drop what waits, and everything that still comes."""
        self.is_cut = True
        self._queue.clear()

    def take(self) -> tuple[bytes, bool]:
        """Return the audio of the next message, and True if it ends a sentence; empty if no audio waits."""
        # A message ends where a sentence does, so that the mark behind it tells that the sentence was heard.
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
        """Return what the first ``samples`` of this reply say, rounded down to a whole word."""
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
        return HeardSpeech(samples / RATE, " ".join(part for part in said if part))


def _begun(span: _Span, heard: int, length: int, *, unfinished: bool) -> str:
    """Return the words of a sentence that were over after ``heard`` of its ``length`` samples."""
    words = span.text.split()
    # Times come with their audio: while the rest is on its way, what has none yet cannot have been heard.
    if span.words and (unfinished or len(span.words) >= len(words)):
        return " ".join(
            words[: sum(w.end * RATE <= heard + WORD_END_TOLERANCE_SAMPLES for w in span.words[: len(words)])]
        )
    if unfinished:
        length = max(length, round(len(span.text) * SECONDS_PER_CHARACTER * RATE))
    reached = len(span.text) * heard / length if length else 0.0
    said, position = 0, 0
    for word in words:
        position += len(word)
        # Tolerance for the rounding of the division, or a word that ended exactly here would be missing.
        if position > reached + 1e-9:
            break
        said += 1
        position += 1
    return " ".join(words[:said])


@attrs.define
class _Sent:
    """A mark that was sent: its name, and the position that it stands for."""

    name: str
    position: int
    early: bool = False
    """True if it came back before the audio can have been played."""


class Playback:
    """The playback ledger of one leg."""

    def __init__(self) -> None:
        self._control: deque[Mark | Clear | Close] = deque()
        self._playout: PlayoutQueue | None = None
        self._playout_start = 0  # position at which the lane's first sample was, or will be, sent
        self._position = 0  # sent
        self._marked = 0  # covered by a mark
        self._acknowledged = 0  # honestly reported as played
        self._acknowledged_at = 0.0
        self._end = -math.inf  # when the carrier will have played all that was sent
        self._marks: deque[_Sent] = deque()
        self._cleared: set[str] = set()
        self._probes: dict[str, float] = {}
        self._sequence = 0
        self.marks_lost: bool = False
        """True if the carrier failed to report what it must have played. Until its next mark, the clock alone counts.
        """
        self.clear_seconds: list[float] = []
        """Round trip times of ``clear``: from the decision to the report that the buffer is empty."""

    def __repr__(self) -> str:
        unplayed = (self._position - self._acknowledged) / RATE
        return f"<Playback {self._position / RATE:.2f} s sent, {unplayed:.2f} s unacknowledged, {self._playout!r}>"

    @property
    def end(self) -> float:
        """When the carrier will have played all that was sent."""
        return self._end

    @property
    def drained(self) -> bool:
        """True if all audio of the open queue was sent and reported as played."""
        playout = self._playout
        return playout is not None and playout.waiting == 0 and self._acknowledged == self._position

    def open(self, playout: PlayoutQueue) -> None:
        """Let a reply's audio go to the carrier, after what was sent before."""
        playout.is_open = True
        self._playout, self._playout_start = playout, self._position

    def close(self) -> HeardSpeech:
        """End the open queue, which was played completely. Return what was heard."""
        playout, self._playout = self._playout, None
        return playout.heard(playout.sent_samples) if playout else HeardSpeech(0.0, "")

    def cut(self, now: float) -> HeardSpeech:
        """Silence the open queue at once; return what was heard. The next message is ``clear``."""
        playout, self._playout = self._playout, None
        if playout is None:
            return HeardSpeech(0.0, "")
        # Before the queue is cut, because the marks and the end of playback are reset below.
        heard = max(0, self.played(now) - self._playout_start)
        playout.cut()
        # Marks that were not sent would ask about audio that is dropped now.
        self._control = deque(item for item in self._control if not isinstance(item, Mark))
        self._sequence += 1
        probe = f"c{self._sequence}"
        self._probes[probe] = now
        # The probe comes back when the carrier has emptied its buffer.
        self._control += [Clear(), Mark(probe)]
        # These marks come back because of the clear. They do not prove that their audio was heard.
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
        by_clock = self._position - max(0.0, self._end - now) * RATE
        if self.marks_lost:
            return max(0, int(by_clock))
        # The least of three: what the clock allows, what can have been played since the last mark, and the next mark,
        # which has not come back.
        since_mark = self._acknowledged + (now - self._acknowledged_at) * RATE
        next_mark = self._marks[0].position if self._marks else self._position
        return max(self._acknowledged, int(min(by_clock, since_mark, next_mark) + 1e-6))

    def next_message(self, now: float) -> Outgoing | float:
        """Return what to send now, or the seconds until something is to be sent if nothing changes."""
        if self._control:
            return self._control.popleft()
        return self._next_media(now, self._settle(now))

    def _next_media(self, now: float, ahead: float) -> Outgoing | float:
        playout = self._playout
        if playout is None:
            return math.inf
        # A mark goes before more audio: what is heard is to be known every MARK_INTERVAL_SAMPLES samples.
        if self._position > self._marked and (
            playout.waiting == 0 or self._position - self._marked >= MARK_INTERVAL_SAMPLES
        ):
            return self._mark(playout)
        overdue = self._end + MARK_GRACE_S - now
        if self._acknowledged < self._position and overdue <= CLOCK_TOLERANCE_S:
            self._acknowledge_by_clock(now)
        if playout.waiting == 0:
            return min(overdue, ahead) if self._acknowledged < self._position else math.inf
        # The carrier reports too little: wait for its marks, at most until the clock counts.
        if self._position - self._acknowledged > MAX_UNMARKED_SAMPLES and not self.marks_lost:
            return min(overdue, ahead)
        ahead = max(self._end, now) - now
        # Far enough ahead: sleep until there is room for one more message.
        if ahead + MESSAGE_SAMPLES / RATE > SEND_AHEAD_S + CLOCK_TOLERANCE_S:
            return ahead + MESSAGE_SAMPLES / RATE - SEND_AHEAD_S
        if (
            playout.waiting < MESSAGE_SAMPLES
            and not playout.produced
            and ahead > MESSAGE_SAMPLES / RATE + CLOCK_TOLERANCE_S
        ):
            return ahead - MESSAGE_SAMPLES / RATE  # a fuller message is worth the wait
        return self._media(playout, now)

    def _media(self, playout: PlayoutQueue, now: float) -> Media:
        audio, ends_sentence = playout.take()
        if self._acknowledged == self._position:  # nothing was under way: playing begins now
            self._acknowledged_at = now
        self._position += len(audio)
        self._end = max(self._end, now) + len(audio) / RATE
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
        """Count everything sent as played, because the carrier's marks do not come back."""
        self.marks_lost = True
        self._marks.clear()
        self._acknowledged, self._acknowledged_at = self._position, now

    def reached(self, name: str, now: float) -> None:
        """Take a mark that the carrier reported. Unknown marks and cleared ones change nothing."""
        if name in self._probes:
            self.clear_seconds.append(now - self._probes.pop(name))
            return
        if name in self._cleared:
            # A mark comes back once; forgetting it bounds the set.
            self._cleared.discard(name)
            return
        mark = next((mark for mark in self._marks if mark.name == name), None)
        if mark is None:
            return
        if self._due(mark) > now + CLOCK_SKEW_S:
            mark.early = True
            return
        self._acknowledge(mark, now)

    def _due(self, mark: _Sent) -> float:
        """Return the earliest instant at which the audio before a mark can have been played."""
        return self._end - (self._position - mark.position) / RATE

    def _acknowledge(self, mark: _Sent, now: float) -> None:
        """Count the audio before a mark as played."""
        while self._marks.popleft() is not mark:
            pass  # a mark that got lost is covered by the next one
        # The carrier reports again, so its marks count again.
        self.marks_lost = False
        self._acknowledged, self._acknowledged_at = mark.position, now

    def _settle(self, now: float) -> float:
        """Take early marks whose time has come. Return the seconds until the next one is due."""
        for mark in [mark for mark in self._marks if mark.early]:
            left = self._due(mark) - now
            if left > CLOCK_TOLERANCE_S:
                return left
            self._acknowledge(mark, now)
        return math.inf
