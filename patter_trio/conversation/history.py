"""The conversation so far: the caller's words, the agent's words that the caller heard, and the tools that were called.

A history is one list, in the order of the conversation. The words of the caller can be known later than their position:
an engine transcribes an utterance while, or after, it answers. So the position is reserved when the utterance ends, as an
empty :class:`Spoken`, and filled when the words arrive. Readers skip what is still empty.
"""

from collections.abc import Iterator
from typing import Final, Protocol, TypedDict

import attrs

from patter_trio.abc import Message

MAX_SHOWN_ENTRIES: Final = 200
"""Entries that a callback or hook gets. It bounds the payload in a call of hours; the final transcript is complete."""


class Entry(TypedDict):
    """One entry of a history; ``timestamp`` is Unix time in seconds."""

    role: str
    text: str
    timestamp: float


class ToolRound(Protocol):
    """The tools that one step of a reply called, as the history keeps them: something that can be sent to an LLM."""

    def messages(self) -> list[Message]:
        """Return the calls and their results so far, as messages."""


# Compared by identity: two utterances with equal words are two entries.
@attrs.define(eq=False)
class Spoken:
    """One position in the history: what one side said there, or None while that is not known."""

    role: str
    text: str | None = None
    timestamp: float = 0.0

    def fill(self, text: str, timestamp: float) -> None:
        """Enter the words, or replace the ones that are there."""
        self.text, self.timestamp = text, timestamp

    def clear(self) -> None:
        """Take the words out of the history; the position stays, and is skipped."""
        self.text = None

    def messages(self) -> list[Message]:
        """Return the words as a message; nothing while they are not known."""
        return [] if self.text is None else [{"role": self.role, "content": self.text}]


class History:
    """What was said and which tools were called, in the order in which it happened."""

    def __init__(self) -> None:
        # Unbounded, because the final transcript is complete. It grows by one small object per utterance, reply or tool
        # round, and ends with the call.
        self._items: list[Spoken | ToolRound] = []

    def __repr__(self) -> str:
        return f"<History of {len(self.whole())} entries>"

    def reserve(self, role: str) -> Spoken:
        """Append a position for words that are not known yet, and return it."""
        spoken = Spoken(role)
        self._items.append(spoken)
        return spoken

    def add(self, role: str, text: str, timestamp: float) -> Spoken:
        """Append words, and return their position, so that they can be replaced."""
        spoken = self.reserve(role)
        spoken.fill(text, timestamp)
        return spoken

    def add_tool_round(self, tool_round: ToolRound) -> None:
        """Append a tool round. It is not an entry: LLMs get it, callbacks and transcripts do not."""
        self._items.append(tool_round)

    def items(self) -> Iterator[Spoken | ToolRound]:
        """Yield, in order, the words that are known and the tool rounds."""
        return (item for item in self._items if not isinstance(item, Spoken) or item.text is not None)

    def last_user(self) -> str:
        """Return the text of the newest user entry, or an empty text."""
        return next((entry["text"] for entry in reversed(self.whole()) if entry["role"] == "user"), "")

    def shown(self) -> list[Entry]:
        """Return copies of the newest :data:`SHOWN` entries."""
        return self.whole()[-MAX_SHOWN_ENTRIES:]

    def before_last_user(self) -> list[Entry]:
        """Return copies of the newest :data:`SHOWN` entries before the newest user entry."""
        entries = self.whole()
        if any(entry["role"] == "user" for entry in entries):
            while entries.pop()["role"] != "user":
                pass  # what came after it is dropped, too
        return entries[-MAX_SHOWN_ENTRIES:]

    def whole(self) -> list[Entry]:
        """Return copies of all entries."""
        return [
            Entry(role=item.role, text=item.text, timestamp=item.timestamp)
            for item in self._items
            if isinstance(item, Spoken) and item.text is not None
        ]
