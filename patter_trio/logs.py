"""The loggers of this package, and what none of them shows: a whole phone number.

What we write ourselves is masked where it is written. But errors of applications and providers quote what they were
given, and the lookup by a number that nobody knows is the commonest of them. So every line is looked over once more, its
traceback included, when it is written; lines are rare.
"""

import logging
from functools import cache
from typing import Final

from patter_trio.phone_numbers import mask_numbers

LOGGERS: Final = tuple(
    f"patter_trio.{name}"
    for name in (
        *("call", "cli", "engines", "events", "fallback", "http", "net", "server"),
        *("stt", "telemetry", "tts", "websocket"),
    )
)


class _Masked(logging.Filter):
    """Hides phone numbers; drops no line."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        masked = mask_numbers(text)
        if masked != text:
            record.msg, record.args = masked, None
        if record.exc_info and not record.exc_text:
            text = logging.Formatter().formatException(record.exc_info)
            masked = mask_numbers(text)
            if masked != text:
                record.exc_text = masked  # what formatters show in the place of the exception
        return True


_MASKED: Final = _Masked()


@cache
def mask_logs() -> None:
    """Have every logger of the package hide phone numbers, from the first call on.

    Whatever serves calls, opens a connection or runs a command calls it first; importing the package changes no logger.
    """
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_MASKED)
