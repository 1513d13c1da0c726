"""The lines of the package's log that name a call, in memory, for the pages of calls.

They are taken by a filter and not by a handler: a logger with a handler would no longer print its warnings in programs
that have not set up logging. So these are the lines that the program's levels let through.
"""

import logging
import re
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import attrs

from patter_trio.logs import LOGGERS, mask_logs
from patter_trio.user_code.context import NO_CALL, current_call

# Judged: a call has some dozens at most, unless something is wrong.
MAX_LINES: Final = 200
"""Newest lines of a call that are kept."""
# Judged: as many calls as a page of the list.
MAX_CALLS: Final = 500
"""Calls whose lines are kept; beyond, those of the call that was logged about longest ago are dropped."""
# Judged: some sixty lines of a traceback.
MAX_LINE_CHARACTERS: Final = 4000
"""Longest line, its traceback included."""
# Judged: 80 characters for each line of all calls: lines are short, and those with a traceback few. At most 32 MB.
MAX_CHARACTERS: Final = 8_000_000
"""Characters of all lines; beyond, the lines of the call that was logged about longest ago are dropped."""
_NAMES_A_CALL: Final = re.compile(r"call ([^\s:]{1,200}): ")


@attrs.define
class _OfCall:
    """The lines of one call."""

    lines: deque[dict[str, Any]] = attrs.field(factory=lambda: deque(maxlen=MAX_LINES))
    characters: int = 0

    def add(self, line: dict[str, Any]) -> int:
        """Add a line, in the place of the oldest one if there are enough; return by how many characters they grow."""
        grown = len(line["text"])
        if len(self.lines) == MAX_LINES:
            grown -= len(self.lines[0]["text"])
        self.lines.append(line)
        self.characters += grown
        return grown


class LogLines(logging.Filter):
    """Lines by call; as a filter, it lets every record pass."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[str, _OfCall] = {}
        self._characters = 0
        # Threads log, too.
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<LogLines of {len(self._calls)} calls>"

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect lines for the time of a block."""
        # First, because filters run in the order in which they were added: these lines have no whole number.
        mask_logs()
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self)
        try:
            yield
        finally:
            for name in LOGGERS:
                logging.getLogger(name).removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep a record if it names a call, or was made in one; return True."""
        text = record.getMessage()
        named = _NAMES_A_CALL.match(text)
        call_id = named[1] if named else current_call.get()
        if call_id == NO_CALL:
            return True
        trace = record.exc_text or ""
        if record.exc_info and not trace:
            # Nobody has formatted it yet: the filters of a logger run before its handlers.
            trace = logging.Formatter().formatException(record.exc_info)
        text = f"{text}\n{trace}" if trace else text
        line = {
            "time": record.created,
            "level": record.levelname,
            "logger": record.name,
            "text": text if len(text) <= MAX_LINE_CHARACTERS else f"{text[: MAX_LINE_CHARACTERS - 1]}…",
        }
        with self._lock:
            # To the end of the dict: the first one was logged about longest ago.
            kept = self._calls.pop(call_id, None) or _OfCall()
            self._characters += kept.add(line)
            self._calls[call_id] = kept
            # It ends: one call alone never has as many characters.
            while len(self._calls) > MAX_CALLS or self._characters > MAX_CHARACTERS:
                self._drop(next(iter(self._calls)))
        return True

    def of_call(self, call_id: str) -> Sequence[dict[str, Any]]:
        """Return the lines about a call, oldest first: ``time`` (Unix, in seconds), ``level``, ``logger``, ``text``."""
        with self._lock:
            kept = self._calls.get(call_id)
            return [] if kept is None else list(kept.lines)

    def forget(self, call_id: str) -> None:
        """Drop the lines about a call."""
        with self._lock:
            if call_id in self._calls:
                self._drop(call_id)

    def _drop(self, call_id: str) -> None:
        self._characters -= self._calls.pop(call_id).characters
