"""Where a turn begins and ends, told from a call's events and facts. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from patter_trio.events.kinds import PatterEventType, TurnEndReason

_END_REASONS: Final[Mapping[str, TurnEndReason]] = {
    "barge-in": "interrupted",
    "say": "interrupted",
    "failed": "failed",
    "leg down": "call_ended",
    "goodbye": "call_ended",
}
"""What the end of a reply, by its reason, is for its turn, where that is not ``completed``."""
_OPEN_REASONS: Final = frozenset({"retracted", "amended"})
"""Reasons that leave the turn open: its question is still to be answered."""


class Turns:
    """The turns of one call, one open at a time.

    A turn begins with the end of an utterance, turn 0 with the first reply that nobody asked for. It ends with its
    reply; a reply that failed is followed by an apology, with which the turn ends then. What ``say`` adds to a turn
    that is over does not open it again.
    """

    def __init__(self) -> None:
        self.turn_idx: int = 0
        self._open = False
        self._begun = False
        self._reply: tuple[Any, str] = (0, "")
        """The newest reply's number, and what made it."""

    def __repr__(self) -> str:
        return f"<Turns {self.turn_idx}, {'open' if self._open else 'closed'}>"

    def thought(self, reply: int) -> bool:
        """Return whether a reply is thought, by a model or by the application, and not a fixed text."""
        return self._reply[0] == reply and self._reply[1] in ("llm", "on_message")

    def step(self, name: str, about: Mapping[str, Any]) -> Iterator[tuple[PatterEventType, dict[str, Any]]]:
        """Take an event or a fact; yield what begins and ends with it."""
        match name:
            case "user_speech_eos":
                yield from self._end("continued")
                self.turn_idx += 1
                yield self._start()
            case "reply_started":
                self._reply = (about["reply"], about["source"])
                if not self._begun:
                    yield self._start()
            case "reply_ended" if about["reason"] not in _OPEN_REASONS:
                apologised = about["reason"] == "failed" and self._reply[1] != "error"
                if not apologised:
                    yield from self._end(_END_REASONS.get(about["reason"], "completed"))
            case "call_end":
                yield from self._end("call_ended")

    def _start(self) -> tuple[PatterEventType, dict[str, Any]]:
        self._open = self._begun = True
        return PatterEventType.TURN_STARTED, {"turn_idx": self.turn_idx}

    def _end(self, reason: TurnEndReason) -> Iterator[tuple[PatterEventType, dict[str, Any]]]:
        if self._open:
            self._open = False
            yield PatterEventType.TURN_ENDED, {"turn_idx": self.turn_idx, "reason": reason}
