"""The launcher's output on a terminal: colours, tables and live views, by rich; plain lines everywhere else."""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.traceback import Stack, Trace

# The colours of the lanes in the pictures of calls.
STYLES: Final[Mapping[str, str]] = {"caller": "#2b78b8", "agent": "#d9822b", "call": "bold"}
"""How the speakers of a call are written."""
ALERT: Final = "bold red"
FAINT: Final = "dim"
_SPACE: Final = re.compile(r"[\t\n\r]+")
# C0, C1 and DEL, which command a terminal; the characters that turn the direction of text; halves of surrogate pairs,
# which a stream of UTF-8 refuses.
_COMMANDS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_COMMANDS_IN_LINES: Final = re.compile(r"(?![\n\t])" + _COMMANDS.pattern)


def printable(text: str) -> str:
    r"""Return a text of others in one line, its control characters as escapes such as ``\x1b``.

    A caller's words must not move the cursor, colour the terminal, or type into it.
    """
    return _COMMANDS.sub(_escape, _SPACE.sub(" ", text))


def printable_lines(text: str) -> str:
    """Return a text of others with its line breaks and tabs, all other control characters as escapes."""
    return _COMMANDS_IN_LINES.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def console_for(stream: TextIO) -> "Console | None":
    """Return a console for a stream that is a terminal with a cursor; None for a file, a pipe or a dumb terminal.

    NO_COLOR keeps the views, without colours.
    """
    if not stream.isatty() or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return None
    # Here, because it takes 50 ms or more, which a command in a script need not wait for.
    from rich.console import Console  # noqa: PLC0415 (see above)

    # Without markup, emoji and highlighting: brackets and colons in what others say are theirs.
    return Console(file=stream, markup=False, emoji=False, highlight=False, force_terminal=True)


def print_traceback(console: "Console", error: BaseException) -> None:
    """Print a traceback with lines of source, without the values of variables, which may be secret."""
    from rich.traceback import Traceback  # noqa: PLC0415 (as above)

    trace = Traceback.extract(type(error), error, error.__traceback__, show_locals=False)
    console.print(Traceback(_printable_trace(trace), show_locals=False, suppress=("trio",), width=console.width))


def _printable_trace(trace: "Trace") -> "Trace":
    """Escape the messages of exceptions: they may quote a caller."""
    return replace(trace, stacks=[_printable_stack(stack) for stack in trace.stacks])


def _printable_stack(stack: "Stack") -> "Stack":
    return replace(
        stack,
        exc_value=printable_lines(stack.exc_value),
        notes=[printable_lines(note) for note in stack.notes],
        exceptions=[_printable_trace(inner) for inner in stack.exceptions],
    )
