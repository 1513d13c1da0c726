"""The history of a conversation: the caller's words, the agent's words that the caller heard, and the tool rounds.

A history is one list, in the order of the conversation, in which a model reads it. Entries that are shown have the
order of the sound. The two differ where the caller's words are committed behind speech of the agent that began later: a
person who is called says "Hello?" before the greeting, and is answered behind it.

The caller's words may arrive after their position is known, because an engine transcribes an utterance while or after
it answers. So the session reserves the position when the utterance ends, as an empty :class:`Spoken`, and fills it when
the words arrive. Readers skip empty positions.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Final, Protocol, TypedDict

import attrs

from patter_trio.abc import Message

# Judged: about half an hour of talk. Each callback gets a copy of its own, so the number is also what an event costs.
MAX_SHOWN_ENTRIES: Final = 200
"""Number of entries that a callback or hook receives. It bounds the payload in a call of hours; the final transcript is
complete."""


class Entry(TypedDict):
    """One entry of a history; ``timestamp`` is Unix time in seconds."""

    role: str
    text: str
    timestamp: float


class ToolMessages(Protocol):
    """The calls of tools in one step of a reply, with their results, as messages for the LLM."""

    def messages(self) -> list[Message]:
        """Return the calls and their results so far, as messages."""


# Compared by identity: two utterances with equal words are two entries.
@attrs.define(eq=False)
class Spoken:
    """One position in the history: the words of one side, or None while they are not known."""

    role: str
    text: str | None = None
    timestamp: float = 0.0
    began: float = math.inf
    """The begin of its sound, in seconds on the call's clock; infinite if it is not known."""

    def fill(self, text: str, timestamp: float) -> None:
        """Set the words, or replace them."""
        self.text, self.timestamp = text, timestamp

    def clear(self) -> None:
        """Remove the words from the history; the empty position stays."""
        self.text = None

    def messages(self) -> list[Message]:
        """Return the words as a list of one message; the list is empty while they are not known."""
        return [] if self.text is None else [{"role": self.role, "content": self.text}]


class History:
    """The words of both sides and the tool rounds, in the order of the conversation."""

    def __init__(self) -> None:
        # Unbounded, because the final transcript is complete. It grows by one small object per utterance, reply or tool
        # round, and ends with the call.
        self._items: list[Spoken | ToolMessages] = []

    def __repr__(self) -> str:
        return f"<History of {len(self.whole())} entries>"

    def reserve(self, role: str, *, began: float = math.inf) -> Spoken:
        """Append a position for words that are not known yet, and return it; ``began`` is the begin of their sound."""
        spoken = Spoken(role, began=began)
        self._items.append(spoken)
        return spoken

    def add(self, role: str, text: str, timestamp: float, *, began: float = math.inf) -> Spoken:
        """Append words, and return their position, so that they can be replaced."""
        spoken = self.reserve(role, began=began)
        spoken.fill(text, timestamp)
        return spoken

    def add_tool_round(self, tool_round: ToolMessages) -> None:
        """Append a tool round. It is not an entry: LLMs get it, callbacks and transcripts do not."""
        self._items.append(tool_round)

    def items(self) -> Iterator[Spoken | ToolMessages]:
        """Yield, in order, the words that are known and the tool rounds."""
        return (item for item in self._items if not isinstance(item, Spoken) or item.text is not None)

    def last_user(self) -> str:
        """Return the text of the newest user entry, or an empty text."""
        return next((spoken.text or "" for spoken in reversed(self._known()) if spoken.role == "user"), "")

    def newest(self) -> Entry | None:
        """Return a copy of the newest entry; None: nobody has said anything."""
        spoken = (item for item in reversed(self._items) if isinstance(item, Spoken) and item.text is not None)
        found = next(spoken, None)
        # ``or``: the type checker does not know that the text is there.
        return None if found is None else Entry(role=found.role, text=found.text or "", timestamp=found.timestamp)

    def shown(self) -> list[Entry]:
        """Return copies of the newest :data:`MAX_SHOWN_ENTRIES` entries."""
        return self.whole()[-MAX_SHOWN_ENTRIES:]

    def before_last_user(self) -> list[Entry]:
        """Return copies of the newest :data:`MAX_SHOWN_ENTRIES` entries before the newest user entry."""
        known = self._known()
        if any(spoken.role == "user" for spoken in known):
            while known.pop().role != "user":
                pass  # the entries after it are dropped, too
        return _by_sound(known)[-MAX_SHOWN_ENTRIES:]

    def whole(self) -> list[Entry]:
        """Return copies of all entries, in the order in which their sound began."""
        return _by_sound(self._known())

    def _known(self) -> list[Spoken]:
        return [item for item in self._items if isinstance(item, Spoken) and item.text is not None]


def _by_sound(known: Iterable[Spoken]) -> list[Entry]:
    """Return entries in the order in which their sound began.

    An entry whose begin is unknown keeps its place, and what is behind it stays behind it.
    """
    ordered: list[tuple[float, Entry]] = []
    for spoken in known:
        place = len(ordered)
        while place and spoken.began < ordered[place - 1][0] < math.inf:
            place -= 1
        timestamp = spoken.timestamp
        if place < len(ordered):
            # Entered behind what it stands before: timestamps never decrease.
            timestamp = min(timestamp, ordered[place][1]["timestamp"])
        ordered.insert(place, (spoken.began, Entry(role=spoken.role, text=spoken.text or "", timestamp=timestamp)))
    return [entry for _, entry in ordered]
