"""The two sides of a call on one line of time: what the caller said, and what the caller heard.

The caller's audio sets the time: each piece has a position among the caller's samples, and the media clock says when it
was spoken. The agent's audio is played from the instant at which it was sent, one piece behind the other. Both are
placed only when they are taken out, :data:`HOLD_S` later: by then the clock has seen whether late audio was late or
missing, and most cuts have happened.

Times are seconds on the call's clock; positions are samples at 8 kHz since the track began; audio is mu-law.
"""

import math
from collections import deque
from typing import Final

import attrs

from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import SILENCE_BYTE
from patter_trio.audio.media_clock import MediaClock

# Judged: with the interval of writing, less than the second that a crash may cost.
HOLD_S: Final = 0.4
"""Seconds for which audio is kept back."""
# Judged: a call survives a network that stands still for 3 s (docs/robustness.md), and its audio comes later.
MAX_MISSING_S: Final = 5.0
"""Seconds for which the track waits for audio of the caller; then it takes silence for it."""
# Far more than the error of a sum of instants, far less than anything audible.
_TOLERANCE_SAMPLES: Final = 1e-3


@attrs.frozen
class Sides:
    """The next audio of both sides, equally long."""

    caller: bytes
    agent: bytes


@attrs.frozen
class Unheard:
    """The samples from ``begin`` to ``end``: they were taken out, and the caller did not hear their agent's side."""

    begin: int
    end: int


@attrs.define
class _Piece:
    """Audio of the agent; ``start`` is its position if what comes before it in its message was taken out."""

    at: float
    audio: bytes
    start: int | None = None


class StereoTrack:
    """The two sides of one call.

    Args:
        media: the clock of the caller's audio; the track only reads it.
        began: the instant from which on there may be audio.
    """

    def __init__(self, media: MediaClock, began: float) -> None:
        self._media = media
        self._began = began
        self._said: deque[tuple[int, bytes]] = deque()
        """The caller's audio that was not taken out, each piece with its place among the caller's samples."""
        self._said_samples = 0
        self._anchor: tuple[int, float] | None = None
        """A position, and its instant; None before the first audio."""
        self._placed = bytearray()
        """The caller's audio that was placed and not taken out."""
        self._taken = 0
        self._played: deque[_Piece] = deque()
        """The agent's audio that was not taken out."""
        self._played_samples = 0
        self._played_end = 0
        """The end of the agent's audio that was placed."""
        self._taken_end = 0
        """The end of the agent's audio that was taken out."""
        self._reply_samples = 0
        """Samples of the open reply that were sent."""
        self._unheard: list[Unheard] = []
        self._round_trip = 0.0

    def __repr__(self) -> str:
        return f"<StereoTrack {self._taken / RATE_HZ:.2f} s taken, {self.waiting / RATE_HZ:.2f} s waiting>"

    @property
    def waiting(self) -> int:
        """The number of samples of the longer side that wait to be taken out."""
        return max(self._said_samples, self._played_samples)

    # What happens in the call -----------------------------------------------------------------------------------------
    def begin(self, now: float) -> None:
        """Begin anew at this instant: drop what was said and played before. Nothing may have been taken yet."""
        self._began = now
        # Of a piece that is just arriving, a part may be from after the instant; it is cut when it is placed.
        self._said.clear()
        self._played.clear()
        self._said_samples = self._played_samples = self._reply_samples = 0
        self._anchor = (0, now)

    def said(self, audio: bytes) -> None:
        """Add the caller's newest audio; the clock has counted it."""
        self._said.append((self._media.samples - len(audio), audio))
        self._said_samples += len(audio)

    def opened(self) -> None:
        """Note that another reply begins."""
        self._reply_samples = 0

    def sent(self, audio: bytes, now: float) -> None:
        """Add audio of the open reply that has been sent."""
        self._played.append(_Piece(now, audio))
        self._played_samples += len(audio)
        self._reply_samples += len(audio)

    def marked(self, round_trip: float) -> None:
        """Take how long a message takes to the carrier and back, in seconds.

        The caller hears audio half of that after it was sent, and the caller's audio comes half of it after it was
        spoken: on the caller's own line of time, the audio stands later by the whole.
        """
        self._round_trip = round_trip

    def cut(self, heard: int) -> None:
        """Keep the first ``heard`` samples of the open reply, because the caller heard no more of it."""
        excess = self._reply_samples - heard
        self._reply_samples = 0
        while excess > 0 and self._played:
            piece = self._played.pop()
            kept = piece.audio[: max(0, len(piece.audio) - excess)]
            gone = len(piece.audio) - len(kept)
            excess -= gone
            self._played_samples -= gone
            if kept:
                self._played.append(attrs.evolve(piece, audio=kept))
        self._played_end = self._taken_end
        # Only the first can have a place: a part of it was taken out.
        if self._played and self._played[0].start is not None:
            self._played_end = self._played[0].start + len(self._played[0].audio)
        if excess > 0:
            begin = max(0, self._taken_end - excess)
            self._unheard.append(Unheard(begin, self._taken_end))
            self._taken_end = self._played_end = begin

    # What is taken out ------------------------------------------------------------------------------------------------
    def take(self, now: float) -> list[Sides | Unheard]:
        """Return what is settled: corrections of what was taken out before, then the next audio, if any."""
        return self._take(now, now - HOLD_S)

    def finish(self, now: float) -> list[Sides | Unheard]:
        """Return the rest, because the call is over."""
        taken = self._take(now, math.inf)
        # What was sent and would have been played later was not heard.
        end = self._played_end
        for piece in self._played if self._anchor else ():
            end = self._start_of(piece, end) + len(piece.audio)
        rest = min(end, self._position(now) if self._anchor else 0) - self._taken
        return [*taken, self._sides(rest)] if rest > 0 else taken

    def _take(self, now: float, until: float) -> list[Sides | Unheard]:
        unheard, self._unheard = self._unheard, []
        while self._said and (at := self._media.time_of(self._said[0][0])) <= until:
            # With the first piece that is settled: a late one would begin the track too late.
            if self._anchor is None:
                self._anchor = (0, at)
            self._place(*self._said.popleft())
        if self._anchor is None:
            if self._said or now - self._began <= MAX_MISSING_S:
                return [*unheard]
            self._anchor = (0, self._began)
        end = self._taken + len(self._placed)
        missing = self._position(now) - round(MAX_MISSING_S * RATE_HZ) - end
        if missing > 0 and not self._said:
            self._placed += bytes([SILENCE_BYTE]) * missing
        return [*unheard, self._sides(len(self._placed))] if self._placed else [*unheard]

    def _position(self, at: float) -> int:
        """Return the position of an instant."""
        assert self._anchor is not None  # noqa: S101 (callers have checked it)
        position, instant = self._anchor
        # Rounded up: what arrives within a sample's time is played with the next one.
        return position + math.ceil((at - instant) * RATE_HZ - _TOLERANCE_SAMPLES)

    def _start_of(self, piece: _Piece, end: int) -> int:
        """Return the position of a piece of the agent's audio; the piece before it ends at ``end``."""
        return (
            max(end, self._position(piece.at + self._round_trip), self._taken) if piece.start is None else piece.start
        )

    def _place(self, sample: int, audio: bytes) -> None:
        """Place a piece of the caller's audio behind the one before it, or where the clock says that it was spoken."""
        self._said_samples -= len(audio)
        end = self._taken + len(self._placed)
        at = self._media.time_of(sample)
        gap = self._position(at) - end
        if gap > 0:
            self._placed += bytes([SILENCE_BYTE]) * gap
        # What was spoken before the track began; later it is ahead of the clock only by what was late.
        elif not end:
            audio = audio[-gap:]
            at -= gap / RATE_HZ
        self._anchor = (self._taken + len(self._placed), at)
        self._placed += audio

    def _sides(self, count: int) -> Sides:
        """Take out the next samples of both sides."""
        begin, end = self._taken, self._taken + count
        agent = bytearray([SILENCE_BYTE]) * count
        while self._played:
            piece = self._played[0]
            # Not kept if it lies behind the end: until the next time, the clock may learn more.
            start = self._start_of(piece, self._played_end)
            if start >= end:
                break
            self._played_end = start + len(piece.audio)
            part = piece.audio[: end - start]
            agent[start - begin : start - begin + len(part)] = part
            self._played_samples -= len(part)
            self._taken_end = start + len(part)
            self._played.popleft()
            if len(part) < len(piece.audio):
                self._played.appendleft(_Piece(piece.at, piece.audio[len(part) :], end))
                break
        caller = bytes(self._placed[:count]).ljust(count, bytes([SILENCE_BYTE]))
        del self._placed[:count]
        self._taken = end
        return Sides(caller, bytes(agent))
