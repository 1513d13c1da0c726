"""Lines of ``patter-trio test``: colours where they help, and values that fit the window."""

import os
import shutil
import textwrap
from collections.abc import Mapping
from typing import TextIO

import attrs

from patter_trio.cli.terminal import printable


def shortened(value: object, used: int) -> str:
    """Return arguments or a result of a tool in one line of the terminal, behind ``used`` characters."""
    text = ", ".join(f"{name}={part!r}" for name, part in value.items()) if isinstance(value, Mapping) else str(value)
    # Asked each time: the window may have another width by now.
    width = shutil.get_terminal_size((100, 24)).columns - used
    return textwrap.shorten(printable(text), max(20, width), placeholder=" ...")


@attrs.frozen
class Paint:
    """The colours of a stream; without colour every method returns its text.

    Args:
        is_on: True if the stream takes escape sequences.
    """

    is_on: bool

    def caller(self, text: str) -> str:
        """Return a text in the caller's colour."""
        return self._painted(text, "34")

    def agent(self, text: str) -> str:
        """Return a text in the agent's colour."""
        return self._painted(text, "33")

    def dim(self, text: str) -> str:
        """Return a text that is less important."""
        return self._painted(text, "2")

    def bad(self, text: str) -> str:
        """Return a text about a failure."""
        return self._painted(text, "31")

    def _painted(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.is_on else text


def paint_of(stream: TextIO) -> Paint:
    """Return the colours for a stream: none if it is not a terminal, or NO_COLOR (https://no-color.org) is set."""
    return Paint(
        stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}
    )
