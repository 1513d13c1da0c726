"""The form of the launcher's log lines: text for people, JSON for collectors of logs."""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final

from patter_trio.cli.terminal import printable_lines

# Every line of a call begins so.
_CALL: Final = re.compile(r"call ([\w.:-]{1,64}): ", re.ASCII)
# With the date: a service runs for weeks.
_TEXT: Final = "%(asctime)s %(levelname)-7s %(message)s"
_TEXT_TIME: Final = "%Y-%m-%dT%H:%M:%S"
FORMATS: Final = ("text", "json")


class JsonLines(logging.Formatter):
    """A formatter that makes one JSON object of each record, in one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record with its time in UTC, level, logger, message, the call it is about, and its traceback."""
        message = record.getMessage()
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
        }
        if about := _CALL.match(message):
            line["call_id"] = about[1]
        if record.exc_info:
            # The filter of the package's loggers has put the masked text there.
            line["traceback"] = record.exc_text or self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextLines(logging.Formatter):
    """A formatter that makes text for people: nothing in it commands the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record in one line, and its traceback below."""
        return printable_lines(super().format(record))


class StandardError(logging.Handler):
    """A handler that writes to what standard error is at the moment: a live view on a terminal puts itself there."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        # As handlers of logging do: a log line that cannot be written must not end a call.
        except (OSError, ValueError):
            self.handleError(record)


def configure(level: str, form: str) -> None:
    """Write the log of a level and above to standard error, in one of :data:`FORMATS`."""
    handler = StandardError()
    handler.setFormatter(JsonLines() if form == "json" else TextLines(_TEXT, _TEXT_TIME))
    logging.basicConfig(level=level.upper(), handlers=[handler])
