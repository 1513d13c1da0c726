"""The package's loggers, and the filter that keeps whole phone numbers and forged lines out of them.

The package masks the numbers that it logs itself. But errors of applications and providers quote their arguments, most
often a number that a lookup did not find. And whatever a peer wrote may hold line breaks, with which it would write
lines of its own, or escape sequences of a terminal. So the filter checks each log record again, with its traceback,
whichever formatter prints it. Records are rare enough for that to cost little.
"""

import logging
import re
import traceback
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any, Final

from patter_trio.phone_numbers import mask_numbers

# Named one by one, because a filter on a parent logger does not see the records of its children.
LOGGERS: Final = tuple(
    f"patter_trio.{name}"
    for name in (
        *("call", "call_log", "carriers", "cli", "engines", "events", "fallback", "http", "net", "schedules", "server"),
        *("stt", "telemetry", "tts", "websocket"),
    )
)
_PLAIN_WORD: Final = re.compile(r"[a-z_]{0,20}")
_END_OF_HOST: Final = re.compile(r"[/?#]")
_HOST_AND_PORT: Final = re.compile(r"(?:\[[^\]]*\]?|[^:]*)(?::\d+)?")
_HOST: Final = re.compile(r"(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+)(?::\d+)?", re.IGNORECASE)
# How a traceback's lines begin that are neither indented nor of the exception's own text.
_TRACEBACK_LINES: Final = (
    "Traceback (most recent call last):",
    "During handling of the above exception",
    "The above exception was the direct cause",
)


def one_line(text: str) -> str:
    """Return a text with each character escaped that is not printed, line breaks and escape sequences included."""
    if text.isprintable():
        return text
    return "".join(
        # ``unicode_escape`` writes every character that is not printable ASCII as an escape, lone surrogates included.
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def ascii_line(text: str) -> str:
    """Return a text as :func:`one_line` does, with each character escaped that is not ASCII, too.

    For bytes that a peer sent where the protocol wants ASCII: what they mean is not known.
    """
    return one_line(text.encode("ascii", "backslashreplace").decode())


def shown_url(url: object) -> str:
    """Return the part of a URL that errors and logs may show, its scheme, host and port; ``...`` stands for the rest.

    User, password, path and query may be secrets. The text need not be a valid URL.
    """
    if not isinstance(url, str):
        return type(url).__name__
    scheme, separator, rest = url.partition("://")
    rest = rest if separator else scheme
    # From the last at sign on, wherever it is: a password that is not encoded may have any character.
    host, *more = _END_OF_HOST.split(rest.rpartition("@")[2], maxsplit=1)
    # A text without a scheme may be anything, a key included; a name with a dot is a host whose scheme was forgotten.
    if not separator:
        return one_line(host) if _HOST.fullmatch(host) else "..."
    shown = _HOST_AND_PORT.match(host)
    return one_line(f"{scheme}://{shown.group() if shown else ''}{'/...' if more and more[0] else ''}")


def shown_value(value: object) -> str:
    """Return how an error shows a value of a wrong type: its type, and the value unless it may be a secret."""
    kind = type(value).__name__
    # Texts only if they are plain words, such as the name of a provider: a key has digits or capitals.
    secret = not _PLAIN_WORD.fullmatch(value) if isinstance(value, str) else isinstance(value, bytes | Collection)
    return kind if secret else f"{kind}: {value!r}"


class _Cleaned(logging.Filter):
    """Filter that masks phone numbers, escapes what is not printed, and lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        # The formatted text, because the number may be in the arguments.
        text = record.getMessage()
        cleaned = mask_numbers(one_line(text))
        if cleaned != text:
            # The arguments are dropped: they have been formatted, and would be formatted again.
            record.msg, record.args = cleaned, None
        if record.exc_info and not record.exc_text:
            # As ``logging`` itself would format it, so that the record looks the same.
            text = logging.Formatter().formatException(record.exc_info)
            cleaned = mask_numbers("\n".join(_traceback_lines(record.exc_info)))
            if cleaned != text:
                record.exc_text = cleaned  # formatters print exc_text instead of the exception
                # Formatters of JSON, among others, would print the exception itself.
                record.exc_info = None
        return True


def _traceback_lines(exc_info: Any) -> Iterator[str]:
    """Yield the lines of a traceback; those that an exception's own text begins are indented."""
    within_text = False
    for piece in traceback.format_exception(*exc_info):
        lines = piece.removesuffix("\n").split("\n")
        # Frames and the members of groups are indented; what else is neither of these is an exception's own text.
        begins_text = not piece.startswith((" ", "\n", *_TRACEBACK_LINES))
        for number, line in enumerate(lines):
            indent = "    " if begins_text and (number or within_text) else ""
            yield indent + one_line(line)
        within_text = begins_text


_CLEANED: Final = _Cleaned()


@cache
def mask_logs() -> None:
    """Mask phone numbers, and escape what is not printed, in all loggers of the package from now on.

    Everything that serves calls, opens a connection or runs a command calls this first. Importing the package changes
    no logger.
    """
    # Children, not the root: the application's own lines are its own business.
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_CLEANED)
