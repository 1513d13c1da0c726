"""The audio of another call that is passed on to the carrier as it comes, in real time.

It is neither paced nor stretched: the other carrier sends it in real time, and gaps in it stay gaps. What waits is
bounded instead, because each second that waits would delay the rest of the conversation: here by dropping the oldest,
and at the carrier, which takes in a burst what the network held up, by emptying its buffer. Marks tell of that backlog.
"""

import math
from collections import deque
from typing import Final

from patter_trio.audio.formats import RATE_HZ

# Carriers send a message each 20 ms. Judged: as long as a network may pause without a word being lost.
MAX_WAITING_MESSAGES: Final = 10
"""Messages that may wait to be sent: 200 ms. Beyond it, the oldest is dropped."""
# Judged: a jitter of that size is heard as a delay, and a larger one as a conversation over a satellite.
MAX_AHEAD_S: Final = 0.2
"""Seconds of audio that the carrier may have in its buffer, by the clock, when more is sent."""
MARK_INTERVAL_S: Final = 1.0
"""Seconds of audio between two marks: a backlog is noticed within that time."""
# Judged: the jitter of a mark's way is less, and a conversation that is delayed by more is tiresome.
MAX_BACKLOG_S: Final = 0.5
"""Seconds by which a mark may come later than the quickest one so far; then the carrier's buffer is emptied."""
MAX_UNRETURNED_MARKS: Final = 16
"""Marks that are remembered; a carrier that returns none keeps its backlog."""
_TOLERANCE_S: Final = 1e-9


class Relay:
    """The audio that waits to be passed on."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque(maxlen=MAX_WAITING_MESSAGES)
        self._end = -math.inf  # instant at which the carrier will have played all sent audio
        self._unmarked = 0.0  # seconds of audio since the newest mark
        self._marks: dict[str, float] = {}
        """The instant at which each mark is to be reached, by the clock."""
        self._sequence = 0
        self._quickest = math.inf
        self.dropped: int = 0
        """The number of messages that were dropped because too many waited."""

    def __repr__(self) -> str:
        return f"<Relay, {len(self._waiting)} messages wait, {self.dropped} dropped>"

    def put(self, audio: bytes) -> None:
        """Add the newest audio, mu-law; the oldest is dropped if too much waits."""
        self.dropped += len(self._waiting) == MAX_WAITING_MESSAGES
        self._waiting.append(audio)

    def next_audio(self, now: float) -> bytes | float:
        """Return the audio to send now, or the seconds until there may be some if nothing changes."""
        if not self._waiting:
            return math.inf
        ahead = max(self._end, now) - now
        if ahead > MAX_AHEAD_S + _TOLERANCE_S:
            return ahead - MAX_AHEAD_S
        audio = self._waiting.popleft()
        self._end = max(self._end, now) + len(audio) / RATE_HZ
        self._unmarked += len(audio) / RATE_HZ
        return audio

    def next_mark(self) -> str:
        """Return the name of a mark to send behind the audio that was sent; empty: none is due."""
        if self._unmarked < MARK_INTERVAL_S - _TOLERANCE_S:
            return ""
        self._unmarked = 0.0
        self._sequence += 1
        name = f"b{self._sequence}"
        self._marks[name] = self._end
        if len(self._marks) > MAX_UNRETURNED_MARKS:
            del self._marks[next(iter(self._marks))]
        return name

    def is_behind(self, mark: str, now: float) -> bool:
        """Return True if a mark that the carrier has returned shows a backlog; its buffer is to be emptied then."""
        due = self._marks.pop(mark, None)
        if due is None:
            return False
        self._quickest = min(self._quickest, now - due)
        if now - due <= self._quickest + MAX_BACKLOG_S:
            return False
        # The carrier may return the others because its buffer is emptied: they would tell nothing.
        self._marks.clear()
        self._end = now
        return True
