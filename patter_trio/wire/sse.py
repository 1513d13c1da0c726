"""Server-sent events, decoded from bytes as they arrive (WHATWG HTML, section 9.2.6).

The decoder is more lenient than the standard in one point: at the very end, an event without its blank line counts,
because some servers leave the blank line out after their last event.
"""

import re
from collections.abc import Iterator
from typing import Final

import attrs

from patter_trio.errors import WireError

# Judged. Beyond it the stream is given up: an event that never ends would fill memory.
MAX_EVENT_BYTES: Final = 1 << 20
"""Most bytes of one event: many times the size of a tool call with all its arguments."""

# The three line ends of the standard. WARNING: "\r\n" first, else it would count as two lines, and end an event.
_ENDS: Final = re.compile(rb"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"


@attrs.frozen
class ServerEvent:
    """One event: its type, and its data lines joined by newlines."""

    data: str
    event: str = "message"


class EventDecoder:
    """Decoder of one stream; the events do not depend on how the bytes are split. ``max_bytes`` limits one event."""

    def __init__(self, *, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_bytes
        # Pieces, joined at the end of a line: adding to one buffer would copy it for each piece.
        self._line: list[bytes] = []  # pieces of the unfinished line
        self._size = 0
        self._after_cr = False  # the next byte, if a newline, belongs to the previous line
        self._first = True
        self._data: list[str] = []
        self._event = ""

    def __repr__(self) -> str:
        return f"<EventDecoder, {self._size} bytes of an event>"

    def feed(self, data: bytes) -> list[ServerEvent]:
        """Take the next bytes; return the events that they complete.

        Raises:
            WireError: an event is too long.
        """
        # A piece may end between CR and LF. The CR has ended the line already, so that an event is not held back for a
        # byte.
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if not data:
            return []
        self._after_cr = data.endswith(b"\r")
        *whole, rest = _ENDS.split(data)
        events: list[ServerEvent] = []
        for piece in whole:
            self._add(piece)
            events.extend(self._end_line())
        self._add(rest)
        return events

    def finish(self) -> list[ServerEvent]:
        """Return the event left unfinished at the end of the stream, if it has data."""
        # The order matters: the unfinished line belongs to the unfinished event.
        events = [*self._end_line(), *self._end_event()]
        self._after_cr = False
        return events

    def _add(self, piece: bytes) -> None:
        # Counts all bytes since the last event, comments included: a stream of comments must not fill memory, either.
        self._size += len(piece)
        if self._size > self._max_bytes:
            raise WireError(f"a server-sent event must have at most {self._max_bytes} bytes")
        if piece:
            self._line.append(piece)

    def _end_line(self) -> Iterator[ServerEvent]:
        line, self._line = b"".join(self._line), []
        if self._first:
            # Only at the very beginning of the stream, as the standard says.
            line, self._first = line.removeprefix(_BOM), False
        # An empty line ends the event.
        if not line:
            yield from self._end_event()
            return
        # ``replace``, as the standard says: one broken byte must not end the answer.
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        # ``id`` and ``retry`` are about reconnecting, which an answer of a model does not do.
        elif name == "event":
            self._event = value

    def _end_event(self) -> Iterator[ServerEvent]:
        data, event = self._data, self._event
        self._data, self._event, self._size = [], "", 0
        # An event without data does not count: keep-alives are comments or empty events.
        if data:
            yield ServerEvent("\n".join(data), event or "message")
