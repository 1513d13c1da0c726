"""The conversation so far: what the caller said, and of the agent's words those that the caller heard."""

from collections.abc import Iterator
from typing import Any, Final, TypedDict

SHOWN: Final = 200
"""Entries handed to callbacks and hooks; the final transcript is whole."""


class Entry(TypedDict):
    """One entry of a history; ``timestamp`` is Unix time in seconds."""

    role: str
    text: str
    timestamp: float


class History:
    """Entries in the order in which they were said."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._asides: list[tuple[int, Any]] = []
        """What happened before which entry, and is none."""

    def __repr__(self) -> str:
        return f"<History of {len(self._entries)} entries>"

    def add(self, role: str, text: str, timestamp: float) -> Entry:
        """Append an entry, and return a copy of it."""
        entry = Entry(role=role, text=text, timestamp=timestamp)
        self._entries.append(entry)
        return entry.copy()

    def insert_user(self, place: int, text: str, timestamp: float, *, asides: int) -> None:
        """Put a user entry behind the first ``place`` entries and ``asides`` asides: where it would have been in time."""
        self._entries.insert(place, Entry(role="user", text=text, timestamp=timestamp))
        self._asides = [
            (at + (at > place or number >= asides), aside) for number, (at, aside) in enumerate(self._asides)
        ]

    def replace(self, place: int, text: str, timestamp: float) -> None:
        """Put a user entry in the place of that one."""
        self._entries[place] = Entry(role="user", text=text, timestamp=timestamp)

    @property
    def asides(self) -> int:
        """How many asides there are."""
        return len(self._asides)

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)

    def replace_user(self, text: str, timestamp: float) -> Entry:
        """Put ``text`` in the place of the newest user entry, or append it where there is none; return a copy."""
        for entry in reversed(self._entries):
            if entry["role"] == "user":
                entry["text"] = text
                return entry.copy()
        return self.add("user", text, timestamp)

    def remove_user(self) -> None:
        """Take the newest user entry out."""
        for index in range(len(self._entries) - 1, -1, -1):
            if self._entries[index]["role"] == "user":
                del self._entries[index]
                self._asides = [(place - (place > index), aside) for place, aside in self._asides]
                return

    def put_aside(self, aside: Any) -> None:
        """Remember something that was not said, such as what a tool gave, behind all that was said so far."""
        self._asides.append((len(self._entries), aside))

    def with_asides(self) -> Iterator[tuple[Entry | None, Any]]:
        """Yield copies of all entries, each as ``(entry, None)``, and between them the asides, each as ``(None, aside)``."""
        asides = list(self._asides)
        for place, entry in enumerate([*self._entries, None]):
            while asides and (asides[0][0] <= place or entry is None):
                yield None, asides.pop(0)[1]
            if entry is not None:
                yield entry.copy(), None

    def last_user(self) -> str:
        """Return the text of the newest user entry, or nothing."""
        return next((entry["text"] for entry in reversed(self._entries) if entry["role"] == "user"), "")

    def shown(self) -> list[Entry]:
        """Return copies of the newest :data:`SHOWN` entries."""
        return [entry.copy() for entry in self._entries[-SHOWN:]]

    def before_last_user(self) -> list[Entry]:
        """Return copies of the newest :data:`SHOWN` entries before the newest user entry."""
        for index in range(len(self._entries) - 1, -1, -1):
            if self._entries[index]["role"] == "user":
                return [entry.copy() for entry in self._entries[max(0, index - SHOWN) : index]]
        return self.shown()

    def whole(self) -> list[Entry]:
        """Return copies of all entries."""
        return [entry.copy() for entry in self._entries]
