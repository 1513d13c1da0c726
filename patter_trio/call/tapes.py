"""The tapes of one call: its recording, and the ears of those who listen while it goes on.

The call puts the audio of both sides into each tape, without waiting. Without a recording and
listeners, a call has no tape.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import trio

from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.media_clock import MediaClock
from patter_trio.audio.stereo import Sides, StereoTrack

# Judged: an ear is emptied ten times a second (``server/live_audio.py``); more waits only while the loop is held up.
MAX_WAITING_S: Final = 10.0
"""Seconds of audio that may wait in an ear; then all of it is dropped."""


class Tape(Protocol):
    """A taker of a call's audio. No method waits or raises."""

    def said(self, audio: bytes) -> None:
        """Take the caller's newest audio, mu-law."""

    def opened(self) -> None:
        """Take the begin of a reply."""

    def sent(self, audio: bytes) -> None:
        """Take audio of the open reply that was sent to the carrier, mu-law."""

    def marked(self, round_trip: float) -> None:
        """Take how long a message takes to the carrier and back, in seconds, by the marks so far."""

    def cut(self, heard: int) -> None:
        """Keep the first ``heard`` samples of the open reply, because the caller heard no more of it."""


class Ear:
    """The tape of one listener, with both sides on one line of time, as in a recording.

    Args:
        media: the clock of the caller's audio.
        sent: samples of the open reply that were sent before.
        plays_until: the instant until which the carrier plays them.
    """

    def __init__(self, media: MediaClock, sent: int, plays_until: float) -> None:
        self._track = StereoTrack(media, trio.current_time())
        self._missed = sent
        """Samples of the open reply that were sent before there was this ear."""
        self._plays_until = plays_until

    def __repr__(self) -> str:
        return f"<Ear {self._track!r}>"

    def said(self, audio: bytes) -> None:
        """Take the caller's newest audio, mu-law."""
        self._track.said(audio)
        if self._track.waiting > MAX_WAITING_S * RATE_HZ:
            self._track.take(trio.current_time())

    def opened(self) -> None:
        """Take the begin of a reply."""
        self._missed = 0
        self._track.opened()

    def sent(self, audio: bytes) -> None:
        """Take audio of the open reply that was sent to the carrier, mu-law."""
        # Behind what this ear has missed: the carrier is sent audio ahead of time.
        self._track.sent(audio, max(trio.current_time(), self._plays_until))

    def marked(self, round_trip: float) -> None:
        """Take how long a message takes to the carrier and back, in seconds, by the marks so far."""
        self._track.marked(round_trip)

    def cut(self, heard: int) -> None:
        """Keep the first ``heard`` samples of the open reply, because the caller heard no more of it."""
        self._track.cut(max(0, heard - self._missed))
        self._missed, self._plays_until = 0, 0.0

    def take(self) -> list[Sides]:
        """Return the audio that is settled: 0.4 s after it was said or played, because of cuts and late audio."""
        # What turns out later not to have been heard, after more than that, has been listened to already.
        return [part for part in self._track.take(trio.current_time()) if isinstance(part, Sides)]


class Tapes:
    """All tapes of one call, as one.

    Args:
        media: the clock of the caller's audio.
        recording: our own recording; None: the call has none.
    """

    def __init__(self, media: MediaClock, recording: Tape | None = None) -> None:
        self._media = media
        self._tapes: tuple[Tape, ...] = () if recording is None else (recording,)
        self._sent = 0
        """Samples of the open reply that were sent."""
        self._plays_until = 0.0
        """The instant at which the carrier has played all that was sent."""

    def __repr__(self) -> str:
        return f"<Tapes {len(self._tapes)}>"

    def said(self, audio: bytes) -> None:
        """Take the caller's newest audio, mu-law."""
        for tape in self._tapes:
            tape.said(audio)

    def opened(self) -> None:
        """Take the begin of a reply."""
        self._sent = 0
        for tape in self._tapes:
            tape.opened()

    def sent(self, audio: bytes) -> None:
        """Take audio of the open reply that was sent to the carrier, mu-law."""
        self._sent += len(audio)
        # Audio is sent ahead of time: each piece is played behind those before it.
        self._plays_until = max(self._plays_until, trio.current_time()) + len(audio) / RATE_HZ
        for tape in self._tapes:
            tape.sent(audio)

    def marked(self, round_trip: float) -> None:
        """Take how long a message takes to the carrier and back, in seconds, by the marks so far."""
        for tape in self._tapes:
            tape.marked(round_trip)

    def cut(self, heard: int) -> None:
        """Keep the first ``heard`` samples of the open reply, because the caller heard no more of it."""
        self._plays_until = 0.0
        for tape in self._tapes:
            tape.cut(heard)

    @contextmanager
    def listening(self) -> Iterator[Ear]:
        """Yield an ear that hears the call from now on, for the time of the block."""
        ear = Ear(self._media, self._sent, self._plays_until)
        self._tapes = (*self._tapes, ear)
        try:
            yield ear
        finally:
            self._tapes = tuple(tape for tape in self._tapes if tape is not ear)
