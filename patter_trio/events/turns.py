"""The beginnings and ends of turns, found from a call's events. Pure."""

from collections.abc import Iterator, Mapping
from typing import Final, Literal

import attrs

from patter_trio.metrics.internal_events import AnswerKind, CallEvent, ReplyEnded, ReplyStarted
from patter_trio.metrics.public_events import CallOver, UserSpeechEos

TurnEndReason = Literal["completed", "interrupted", "continued", "failed", "call_ended"]
"""Why a turn ended.

``completed``: its reply was played, or there was nothing to say. ``interrupted``: the caller or ``say`` cut the reply.
``continued``: the caller went on before the reply was heard; the next turn answers both. ``failed``: the reply failed,
and so did the apology. ``call_ended``: the call ended.
"""

_END_REASONS: Final[Mapping[str, TurnEndReason]] = {
    "barge-in": "interrupted",
    "say": "interrupted",
    "failed": "failed",
    "leg down": "call_ended",
    "goodbye": "call_ended",
}
"""The reason for the end of a turn by the reason for the end of its reply; ``completed`` for the others."""
_OPEN_REASON: Final = "retracted"
"""The reason that leaves the turn open, because its question has not been answered."""


@attrs.frozen
class TurnStarted:
    """A turn began."""

    turn_idx: int


@attrs.frozen
class TurnEnded:
    """A turn ended."""

    turn_idx: int
    reason: TurnEndReason


class Turns:
    """The turns of one call, one open at a time.

    A turn begins with the end of an utterance; turn 0 begins with the first reply without an utterance before it. A
    turn ends with its reply, or, if the reply failed, with the apology after it. A text that ``say`` adds to a turn
    that is over does not open it again.
    """

    def __init__(self) -> None:
        self.turn_idx: int = 0
        self._open = False
        # Not turn_idx == 0: a text from say() after the greeting's turn must not begin turn 0 again.
        self._begun = False
        self._reply: tuple[int, AnswerKind] = (0, "text")
        """The number and the kind of the newest reply."""

    def __repr__(self) -> str:
        return f"<Turns {self.turn_idx}, {'open' if self._open else 'closed'}>"

    def thought(self, reply: int) -> bool:
        """Return True if the LLM or the application generated a reply, which is not a fixed text then."""
        return self._reply[0] == reply and self._reply[1] in ("llm", "on_message")

    def step(self, event: CallEvent) -> Iterator[TurnStarted | TurnEnded]:
        """Yield the turns that begin and end with an event."""
        match event:
            case UserSpeechEos():
                # Only if the turn before is still open: its answer was retracted, because the caller went on.
                yield from self._end("continued")
                self.turn_idx += 1
                yield self._start()
            case ReplyStarted():
                self._reply = (event.reply, event.source)
                if not self._begun:
                    yield self._start()
            case ReplyEnded() if event.reason != _OPEN_REASON:
                # The apology is about to start, and the turn ends with that; an apology that fails ends it at once.
                apologised = event.reason == "failed" and self._reply[1] != "error"
                if not apologised:
                    yield from self._end(_END_REASONS.get(event.reason, "completed"))
            case CallOver():
                yield from self._end("call_ended")

    def _start(self) -> TurnStarted:
        self._open = self._begun = True
        return TurnStarted(self.turn_idx)

    def _end(self, reason: TurnEndReason) -> Iterator[TurnEnded]:
        # Idempotent, because a turn may be ended by its reply and again by the end of the call.
        if self._open:
            self._open = False
            yield TurnEnded(self.turn_idx, reason)
