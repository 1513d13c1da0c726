"""The package's loggers, and the filter that keeps whole phone numbers out of them.

The package masks the numbers that it logs itself. But errors of applications and providers quote their arguments, most
often a number that a lookup did not find. So the filter checks each log record again, with its traceback. Records are
rare enough for that to cost little.
"""

import logging
from functools import cache
from typing import Final

from patter_trio.phone_numbers import mask_numbers

# Named one by one, because a filter on a parent logger does not see the records of its children.
LOGGERS: Final = tuple(
    f"patter_trio.{name}"
    for name in (
        *("call", "cli", "engines", "events", "fallback", "http", "net", "server"),
        *("stt", "telemetry", "tts", "websocket"),
    )
)


class _Masked(logging.Filter):
    """Filter that masks phone numbers and lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        # The formatted text, because the number may be in the arguments.
        text = record.getMessage()
        masked = mask_numbers(text)
        if masked != text:
            # The arguments are dropped: they have been formatted, and would be formatted again.
            record.msg, record.args = masked, None
        if record.exc_info and not record.exc_text:
            # As ``logging`` itself would format it, so that the record looks the same.
            text = logging.Formatter().formatException(record.exc_info)
            masked = mask_numbers(text)
            if masked != text:
                record.exc_text = masked  # formatters print exc_text instead of the exception
        return True


_MASKED: Final = _Masked()


@cache
def mask_logs() -> None:
    """Mask phone numbers in all loggers of the package from now on.

    Everything that serves calls, opens a connection or runs a command calls this first. Importing the package changes
    no logger.
    """
    # Children, not the root: the application's own lines are its own business.
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_MASKED)
