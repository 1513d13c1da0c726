"""The filter of the package's loggers."""

import json
import logging
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.logs import ascii_line, mask_logs, one_line

FORGED = "\n12:00:00 INFO    patter_trio.call call CA1: started\x1b[31m\r\u2028\x85\u202e"


class JsonFormatter(logging.Formatter):
    """A formatter that, like many, prints the exception itself and not the text that a filter made of it."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {"message": record.getMessage()}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            fields["exception"] = record.exc_text
        return json.dumps(fields, ensure_ascii=False)


def logged(formatter: logging.Formatter, log: Callable[[logging.Logger], None]) -> str:
    mask_logs()
    logger = logging.getLogger("patter_trio.server")
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Kept()
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    try:
        log(logger)
    finally:
        logger.removeHandler(handler)
    return "".join(lines)


def fail(error: Exception, cause: Exception | None) -> None:
    raise error from cause


def raises(error: Exception, cause: Exception | None = None) -> Callable[[logging.Logger], None]:
    def log(logger: logging.Logger) -> None:
        try:
            fail(error, cause)
        except Exception:
            logger.exception("a call failed")

    return log


@pytest.mark.parametrize("formatter", [logging.Formatter("%(levelname)s %(message)s"), JsonFormatter()])
@pytest.mark.parametrize("field", ["message", "argument", "dict argument"])
def test_a_record_is_always_one_line(formatter: logging.Formatter, field: str) -> None:
    """A log record has no line break or control character that came in its text or its arguments."""
    logs: dict[str, Callable[[logging.Logger], None]] = {
        "message": lambda logger: logger.warning("closed: " + FORGED),  # noqa: G003 (the text is what is tried)
        "argument": lambda logger: logger.warning("closed: %s", FORGED),
        "dict argument": lambda logger: logger.warning("closed: %(why)s", {"why": FORGED}),
    }
    line = logged(formatter, logs[field])
    assert line.isprintable()
    assert "\\n12:00:00 INFO" in line.replace("\\\\", "\\")


NOTED = ValueError("a note")
NOTED.add_note("12:00:00 INFO    forged")


@pytest.mark.parametrize("formatter", [logging.Formatter("%(levelname)s %(message)s"), JsonFormatter()])
@pytest.mark.parametrize(
    "log",
    [
        raises(ValueError(FORGED)),
        raises(KeyError("x"), ValueError(FORGED)),
        raises(ExceptionGroup("several", [ValueError(FORGED), ExceptionGroup("inner", [OSError(FORGED)])])),
        raises(NOTED),
    ],
    ids=["error", "cause", "group", "note"],
)
def test_a_traceback_has_no_line_of_a_peer(formatter: logging.Formatter, log: Callable[[logging.Logger], None]) -> None:
    """A line that an exception's text begins is indented in the log, and its control characters are escaped."""
    text = logged(formatter, log)
    text = json.loads(text)["exception"] if isinstance(formatter, JsonFormatter) else text
    assert not [line for line in text.split("\n") if line.startswith("12:00") or not line.isprintable()]
    assert "Error" in text
    assert "in log" in text


def test_an_ordinary_traceback_stays_as_it_is() -> None:
    """A traceback without anything to hide is printed as logging prints it, and handlers get the exception."""
    text = logged(logging.Formatter(), raises(ValueError("two\nlines")))
    assert text.splitlines()[-2:] == ["ValueError: two", "    lines"]
    text = logged(logging.Formatter(), raises(KeyError("x"), ValueError("y")))
    assert "\nThe above exception was the direct cause of the following exception:\n" in text
    assert text.splitlines()[1] == "ValueError: y"


@given(st.text())
def test_escaped_text_is_printable(text: str) -> None:
    """An escaped text is printable, and one that was printable is unchanged."""
    assert one_line(text).isprintable()
    assert ascii_line(text).isascii()
    if text.isprintable():
        assert one_line(text) == text
