"""The playout queue of one reply: its audio, the sentences in it, and how much of their text the caller has heard.

Samples are at 8 kHz and count from the first one of the reply.
"""

import math
import re
from collections import deque
from itertools import pairwise
from typing import Final

import attrs

from patter_trio.abc import Word
from patter_trio.audio.formats import RATE_HZ
from patter_trio.conversation.written import WrittenSentences
from patter_trio.scripts import gap_between, is_unspaced, weight, whole_units

# Measured: a second of speech cost 3.0 ms of processor time in messages of 20 ms, 1.2 ms in messages of 100 ms, and 0.7
# ms in messages of 200 ms. A clear takes effect within a message, so their length does not delay it.
MESSAGE_SAMPLES: Final = 800
"""Samples per message: 100 ms. Each message costs the same processor time, so smaller ones would cost more per call."""
# Telnyx documents 20 ms as the least that a message may have; the end of a sentence falls anywhere.
MIN_MESSAGE_SAMPLES: Final = 160
"""Samples of the shortest message, 20 ms, unless a whole sentence is shorter or the queue runs dry."""
WORD_END_TOLERANCE_SAMPLES: Final = 1e-3
"""Samples by which a word may end after its sentence, because of rounding when word times are added."""
SECONDS_PER_CHARACTER: Final = 0.06
"""Estimated seconds per letter of a sentence whose audio is not complete yet: about 1000 characters per minute, an
average speaking rate. :func:`~patter_trio.scripts.weight` counts the letters."""
# Judged: a sentence that was begun longer ago is tiresome to hear again from its beginning.
MAX_REPEATED_SAMPLES: Final = 5 * RATE_HZ
"""5 s: the most of what the caller has heard that is said again after the stream was lost."""
# A second more than the ledger sends without a mark (conversation/playback.py): what was not heard is always kept.
MAX_KEPT_SAMPLES: Final = MAX_REPEATED_SAMPLES + 2 * RATE_HZ
"""7 s of audio that are kept after they were sent."""


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
    gap: str | None = None
    """What was written between it and the sentence before; None if that is not known."""
    words: list[Word] = attrs.field(factory=list)


class PlayoutQueue:
    """The playout queue of one reply. After a cut it discards all audio that still arrives."""

    def __init__(self, reply: int) -> None:
        self.reply = reply
        self.is_open: bool = False
        self.is_cut: bool = False
        self.produced: bool = False
        self.is_broken: bool = False
        """True if the newest sentence broke off: not all of its text has audio."""
        self.put_samples: int = 0
        self.sent_samples: int = 0
        self._queue: deque[bytes] = deque()
        self._kept: deque[bytes] = deque()
        """The newest audio that was sent, oldest first."""
        self._kept_samples = 0
        self._spans: list[_Span] = []
        self._written = WrittenSentences()

    def __repr__(self) -> str:
        state = "cut" if self.is_cut else "open" if self.is_open else "closed"
        return f"<PlayoutQueue of reply {self.reply}, {state}, {self.waiting / RATE_HZ:.2f} s waiting>"

    @property
    def waiting(self) -> int:
        """The number of samples that were put in and not taken yet."""
        return self.put_samples - self.sent_samples

    def open(self) -> None:
        """Record that the queue's audio is sent to the carrier from now on."""
        self.is_open = True

    def end(self, *, broken: bool = False) -> None:
        """Record that all of the reply's audio was produced; with ``broken``, its newest sentence broke off."""
        self.produced = True
        self.is_broken = self.is_broken or broken

    def expect(self, sentence: str, gap: str | None) -> None:
        """Note a sentence that will be spoken, and what was written between it and the one before (None: unknown)."""
        self._written.add(sentence, gap)

    def put(self, audio: bytes, text: str = "", words: tuple[Word, ...] = ()) -> None:
        """Add mu-law audio. ``text`` is the sentence that begins with it; times in ``words`` count from its start."""
        if self.is_cut:
            return
        if text:
            gap, written = self._written.take(text)
            self._spans.append(_Span(written, self.put_samples, gap))
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

    def discard_waiting(self) -> None:
        """Discard the queued audio; what arrives from now on is played."""
        self.put_samples -= self.waiting
        self._queue.clear()
        self._spans = [span for span in self._spans if span.start <= self.put_samples]

    def shorten_text(self) -> None:
        """Keep only as much text of the newest stretch as its audio so far can have: no more of that audio comes."""
        if self._spans:
            span = self._spans[-1]
            length = self.put_samples - span.start
            span.text = _begun(" ".join(span.text.split()), span.words, length, length, unfinished=True)

    def cut(self) -> None:
        """Discard the queued audio, and all audio that still arrives."""
        self.is_cut = True
        self._queue.clear()

    def drop_unfinished(self) -> bool:
        """Drop the waiting audio of the newest sentence, which broke off.

        Return True if a finished one is before it.
        """
        start = self._spans[-1].start if self._spans else 0
        excess = min(self.waiting, self.put_samples - start)
        self.put_samples -= excess
        while excess > 0:
            audio = self._queue.pop()
            if len(audio) > excess:
                self._queue.append(audio[:-excess])
            excess -= len(audio)
        # The caller hears nothing of a sentence that was not begun.
        self._spans = [span for span in self._spans if span.start < self.put_samples]
        self.is_broken = bool(self._spans) and self._spans[-1].start == start
        return start > 0

    def take(self) -> tuple[bytes, bool]:
        """Return the audio of the next message, empty if the queue is, and True if the audio ends a sentence."""
        # A message ends where a sentence does, so that the mark after it proves that the sentence was heard.
        end = min([self.waiting, *(s.start - self.sent_samples for s in self._spans if s.start > self.sent_samples)])
        # The message before a sentence's last one is shorter, so that the last one is not too short.
        rest = MIN_MESSAGE_SAMPLES if MESSAGE_SAMPLES < end < MESSAGE_SAMPLES + MIN_MESSAGE_SAMPLES else 0
        limit = min(MESSAGE_SAMPLES, end - rest)
        taken = bytearray()
        while self._queue and len(taken) < limit:
            audio = self._queue.popleft()
            room = limit - len(taken)
            taken += audio[:room]
            if len(audio) > room:
                self._queue.appendleft(audio[room:])
        self.sent_samples += len(taken)
        self._keep(bytes(taken))
        at_boundary = any(s.start == self.sent_samples for s in self._spans)
        return bytes(taken), at_boundary or (self.produced and not self._queue)

    def _keep(self, audio: bytes) -> None:
        self._kept.append(audio)
        self._kept_samples += len(audio)
        while self._kept_samples - len(self._kept[0]) >= MAX_KEPT_SAMPLES:
            self._kept_samples -= len(self._kept.popleft())

    def rewind(self, heard: int) -> None:
        """Put back what was sent of the reply and is to be sent again, because the caller heard only ``heard`` samples.

        The reply goes on with the sentence in which it was broken off, from its beginning; with the last word, if the
        sentence began more than :data:`MAX_REPEATED_SAMPLES` before and its words have times; else where it broke off.
        """
        if self.is_cut:
            return
        start = max(self._resumption(heard), self.sent_samples - self._kept_samples)
        again = b"".join(self._kept)[self._kept_samples - (self.sent_samples - start) :]
        self._kept.clear()
        self._kept_samples = 0
        if again:
            self._queue.appendleft(again)
        self.sent_samples = start

    def _resumption(self, heard: int) -> int:
        """Return the sample from which on the reply is said again."""
        # All that there is so far was heard: nothing was broken off.
        if heard >= self.put_samples:
            return heard
        earliest = heard - MAX_REPEATED_SAMPLES
        sentences = [span.start for span in self._spans if span.start <= heard]
        if sentences and sentences[-1] >= earliest:
            return sentences[-1]
        words = [
            start
            for span in self._spans
            for word in span.words
            if earliest <= (start := span.start + round(word.start * RATE_HZ)) <= heard
        ]
        return max(words, default=heard)

    def heard(self, samples: int) -> HeardSpeech:
        """Return the speech in the first ``samples`` of this reply, rounded down to a whole word."""
        ends = [later.start for _, later in pairwise(self._spans)] + [self.put_samples] * bool(self._spans)
        said: list[str] = []
        before = ""
        for index, (span, end) in enumerate(zip(self._spans, ends, strict=True)):
            last = index == len(self._spans) - 1
            # The last sentence is complete only once the reply is: more of its audio may be on the way.
            unfinished = last and (self.is_broken or not self.produced)
            whole = samples >= end and not unfinished
            part = " ".join(span.text.split())
            if not whole:
                part = _begun(part, span.words, samples - span.start, end - span.start, unfinished=unfinished)
            if part:
                said += [gap_between(before, part) if span.gap is None or not before else span.gap, part]
                before = part
            if not whole:
                break
        return HeardSpeech(samples / RATE_HZ, "".join(said))


def _begun(text: str, words: list[Word], heard: int, length: int, *, unfinished: bool) -> str:
    """Return the words of a sentence that have ended after ``heard`` of its ``length`` samples."""
    if heard <= 0:
        return ""
    anchors = _anchors(text, words)
    if anchors and unfinished:
        # Word times arrive with their audio. While more audio is to come, a word without a time cannot have been heard.
        anchors.append((math.inf, anchors[-1][1]))
    elif unfinished:
        anchors = [(max(length, round(weight(text) * SECONDS_PER_CHARACTER * RATE_HZ)), len(text))]
    else:
        anchors.append((length, len(text)))
    time, place = 0.0, 0
    for until, reached in anchors:
        # A thousandth of a sample and a billionth of a character: word times are added, and shares divided.
        if heard + WORD_END_TOLERANCE_SAMPLES < until:
            # Between two known times, the text is spread evenly over the sound.
            share = (heard - time) / (until - time) if math.isfinite(until) else 0.0
            return whole_units(text, place + _reached(text[place:reached], share))
        time, place = max(time, until), max(place, reached)
    return whole_units(text, place)


def _reached(text: str, share: float) -> int:
    """Return the number of characters of a text that have sounded after a share of its sound."""
    left = weight(text) * share + 1e-9
    for place, character in enumerate(text):
        left -= weight(character)
        if left < 0:
            return place
    return len(text)


def _anchors(text: str, words: list[Word]) -> list[tuple[float, int]]:
    """Return the samples at which timed words begin and end, with the number of characters that have sounded by then.

    Empty if there are no times, or if they are those of other words.
    """
    bare, places = _letters(text)
    found: list[tuple[float, int]] = []
    position = 0
    for word in words:
        letters, _ = _letters(word.text)
        if not bare.startswith(letters, position):
            return _counted(text, words)
        begin, position = position, position + len(letters)
        # A word's punctuation sounds with it.
        start = places[begin - 1] if begin else 0
        end = places[position - 1] if position else 0
        found += [(word.start * RATE_HZ, start), (word.end * RATE_HZ, end)]
    return found


def _letters(text: str) -> tuple[str, list[int]]:
    """Return the letters and digits of a text, and where the sign behind each of them ends."""
    places = [place for place, character in enumerate(text) if character.isalnum()]
    ends = [*places[1:], len(text)] if places else []
    bare = "".join(text[place].lower()[0] for place in places)
    return bare, [end - (text[end - 1] == " ") for end in ends]


def _counted(text: str, words: list[Word]) -> list[tuple[float, int]]:
    """Return the anchors of words that are spelled differently: the n-th timed word is the n-th word of the text."""
    if any(map(is_unspaced, text)):
        return []  # nobody knows how many words it has
    ends = [match.end() for match in re.finditer(r"\S+", text)][: len(words)]
    begins = [0, *ends]
    timed = zip(words, begins, ends, strict=False)
    return [
        anchor for word, begin, end in timed for anchor in ((word.start * RATE_HZ, begin), (word.end * RATE_HZ, end))
    ]
