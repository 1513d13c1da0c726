"""Copies of values that JSON can represent, bounded: what an application's tools return may have any size.

The copy is made on the event loop, beside the audio of all calls, so its work must not grow with the value.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final

import attrs

from patter_trio.conversation.text import is_sayable
from patter_trio.metrics.results import CallMetrics, CostBreakdown, TurnMetrics
from patter_trio.user_code.invoke import ApplicationError, contained

# Judged: deeper than any schema of a tool; a value that contains itself ends there.
MAX_DEPTH: Final = 20
"""Levels of a tool's arguments or result that are recorded; of what is below, type and size are."""
# Judged: the transcript of a call of some hours; the copy takes less than a frame of 20 ms.
MAX_ITEMS: Final = 5_000
"""Items of lists and dicts, at all levels together, that are recorded of one value."""
MAX_CHARACTERS: Final = 262_144
"""Characters of texts and keys, at all levels together, that are recorded of one value: as many as the call log keeps
of an event."""
# Judged: what a person reads of a repr.
MAX_SHOWN_ITEMS: Final = 1000
"""Longest set or bytes that are recorded as their ``repr``; of longer ones, type and size are."""
# Judged: longer than any key of a cipher. json refuses integers from 4300 digits on (sys.int_info).
MAX_INT_BITS: Final = 8192
"""Longest integer that is recorded as a number."""
_SIZED: Final = (Mapping, list, tuple, set, frozenset, bytes, bytearray)


@attrs.define
class Room:
    """The room of one value in a record, with the counts of what did not fit.

    Attributes:
        items: items of lists and dicts that still fit.
        characters: characters that still fit.
        items_left_out: items that did not fit; those within them are not counted.
        characters_left_out: characters of texts that did not fit.
    """

    items: int = MAX_ITEMS
    characters: int = MAX_CHARACTERS
    items_left_out: int = 0
    characters_left_out: int = 0

    @property
    def is_full(self) -> bool:
        """True if no further item fits."""
        return self.items <= 0 or self.characters <= 0

    @property
    def left_out(self) -> dict[str, int]:
        """The counts of items and characters that did not fit; empty without any."""
        found = {"items": self.items_left_out, "characters": self.characters_left_out}
        return {what: count for what, count in found.items() if count}

    def text(self, value: str) -> str:
        """Return as much of a text as fits, with a question mark for each lone surrogate, which UTF-8 cannot have."""
        # By str's own methods, because a subclass of the application's may be written as it likes.
        size = str.__len__(value)
        kept = min(size, self.characters)
        self.characters -= kept
        self.characters_left_out += size - kept
        text = value if type(value) is str and kept == size else str.__getitem__(value, slice(kept))
        return text if is_sayable(text) else text.encode(errors="replace").decode()

    def share(self, among: int) -> "Room":
        """Return an equal share of the room."""
        return Room(max(0, self.items) // among, max(0, self.characters) // among)

    def used(self, share: "Room", given: "Room") -> None:
        """Subtract what was used of a share, so that the rest is for the others."""
        self.items -= given.items - share.items
        self.characters -= given.characters - share.characters
        self.items_left_out += share.items_left_out
        self.characters_left_out += share.characters_left_out


def plain(value: Any, room: Room | None = None, depth: int = 0) -> Any:
    """Return a copy of a value that JSON can represent, as much as there is room for.

    Each part that JSON has no form for is there as its ``repr``.
    """
    room = Room() if room is None else room
    # By exact type, because a subclass of the application's may be written as it likes.
    if value is None or type(value) is bool:
        return value
    if type(value) is int:
        return value if value.bit_length() <= MAX_INT_BITS else f"<int of {value.bit_length()} bits>"
    if type(value) is float:
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, TurnMetrics | CostBreakdown | CallMetrics):
        return value.to_dict()
    # An enum of strings has its text.
    if isinstance(value, str):
        return room.text(value)
    if depth < MAX_DEPTH and isinstance(value, Mapping | list | tuple):
        try:
            return _dict(value, room, depth) if isinstance(value, Mapping) else _list(value, room, depth)
        except ApplicationError:
            return f"<{type(value).__name__}>"
    return room.text(_shown(value, is_below=depth >= MAX_DEPTH))


def plain_calls(calls: Iterable[Mapping[str, Any]], room: Room) -> list[dict[str, Any]]:
    """Return a copy of the summaries of tool calls, in which one long result leaves room for the others."""
    given = list(calls)
    copies = []
    for place, call in enumerate(given):
        if room.is_full:
            room.items_left_out += len(given) - place
            break
        of_call = room.share(len(given) - place)
        whole = attrs.evolve(of_call)
        copy = {}
        for number, (key, value) in enumerate(call.items()):
            of_value = of_call.share(len(call) - number)
            before = attrs.evolve(of_value)
            copy[key] = plain(value, of_value)
            of_call.used(of_value, before)
        # The summary itself is an item, too, so that their number is bounded.
        of_call.items -= 1
        room.used(of_call, whole)
        copies.append(copy)
    return copies


def _dict(value: Mapping[Any, Any], room: Room, depth: int) -> dict[str, Any]:
    size, pairs = _first(value, value.items, room.items)
    copy: dict[str, Any] = {}
    taken = 0
    for key, item in pairs:
        if room.items <= 0 or room.characters <= 0:
            break
        taken += 1
        room.items -= 1
        name = room.text(key if isinstance(key, str) else _shown(key))
        copy[name] = plain(item, room, depth + 1)
    room.items_left_out += size - taken
    return copy


def _list(value: list[Any] | tuple[Any, ...], room: Room, depth: int) -> list[Any]:
    size, items = _first(value, lambda: value, room.items)
    copy: list[Any] = []
    for item in items:
        if room.items <= 0 or room.characters <= 0:
            break
        room.items -= 1
        left_out = room.items_left_out
        entry = plain(item, room, depth + 1)
        # The last row is left out whole rather than cut, so that all rows have the same keys.
        if copy and room.items_left_out > left_out:
            room.items_left_out = left_out
            break
        copy.append(entry)
    room.items_left_out += size - len(copy)
    return copy


def _first(value: Any, items: Callable[[], Iterable[Any]], count: int) -> tuple[int, list[Any]]:
    """Return the size of a container, and its first items.

    Raises:
        ApplicationError: it is of a class of the application's, which raised.
    """
    if type(value) in (dict, list, tuple):
        return len(value), list(islice(items(), max(0, count)))
    with contained(type(value).__name__):
        first = list(islice(items(), max(0, count)))
        return max(len(value), len(first)), first


def _shown(value: Any, *, is_below: bool = False) -> str:
    """Return the ``repr`` of a value of the application's, or its type if that fails or is long."""
    try:
        with contained("repr"):
            if isinstance(value, _SIZED) and (is_below or len(value) > MAX_SHOWN_ITEMS):
                return f"<{type(value).__name__} of {len(value)} items>"
            return str.__str__(repr(value))
    except ApplicationError:
        return f"<{type(value).__name__}>"
