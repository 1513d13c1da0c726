"""The lines of the log by call: which are kept, how many, and that other handlers see what they always saw."""

import logging

import pytest

from patter_trio.dashboard.log_lines import MAX_CALLS, MAX_CHARACTERS, MAX_LINE_CHARACTERS, MAX_LINES, LogLines
from patter_trio.logs import mask_logs
from patter_trio.user_code.context import current_call

LOG = logging.getLogger("patter_trio.call")


def texts(lines: LogLines, call_id: str) -> list[str]:
    return [line["text"] for line in lines.of_call(call_id)]


def test_lines_are_kept_by_call() -> None:
    """A line that names a call, or is logged within one, is kept with it; after the block none is."""
    lines = LogLines()
    with lines.collecting():
        LOG.warning("call %s: transfer failed: %s", "CA1", "busy")
        LOG.warning("server: nothing about a call")
        token = current_call.set("CA2")
        LOG.error("the vendor has closed")
        current_call.reset(token)
    LOG.warning("call CA1: too late")
    [line] = lines.of_call("CA1")
    assert (line["level"], line["logger"], line["text"]) == ("WARNING", LOG.name, "call CA1: transfer failed: busy")
    assert texts(lines, "CA2") == ["the vendor has closed"]
    assert lines.of_call("CA3") == []


def test_numbers_in_lines_are_masked() -> None:
    """A line has no whole number of a caller, and the traceback of an error is with it."""
    lines = LogLines()
    mask_logs()
    with lines.collecting():
        try:
            int("no such guest: +15550100042")
        except ValueError:
            LOG.exception("call CA1: tool failed for +15550100042")
    [text] = texts(lines, "CA1")
    assert "ValueError: invalid literal" in text
    assert "15550100042" not in text


def test_collecting_masks_before_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process whose loggers are not masked yet, the lines have no whole number either."""
    monkeypatch.setattr(LOG, "filters", [])
    # As in a new process; behind the test, whoever needs the masks adds them again.
    mask_logs.cache_clear()
    lines = LogLines()
    with lines.collecting():
        mask_logs()
        LOG.warning("call CA1: tool failed for +15550100042")
    mask_logs.cache_clear()
    [text] = texts(lines, "CA1")
    assert "15550100042" not in text


def test_lines_are_bounded() -> None:
    """Of a call the newest 200 lines are kept, each bounded, and of calls the 500 that were logged about last."""
    lines = LogLines()
    with lines.collecting():
        for number in range(MAX_LINES + 1):
            LOG.warning("call CA: line %s", number)
        assert len(lines.of_call("CA")) == MAX_LINES
        assert texts(lines, "CA")[-1] == f"call CA: line {MAX_LINES}"
        for number in range(MAX_CALLS):
            LOG.warning("call CB%s: %s", number, "x" * 2 * MAX_LINE_CHARACTERS)
    assert lines.of_call("CA") == []
    assert len(texts(lines, "CB0")[0]) == MAX_LINE_CHARACTERS


def test_long_lines_of_many_calls_are_bounded() -> None:
    """Beyond 8 million characters in all, the lines of the call that was logged about longest ago are dropped."""
    lines = LogLines()
    calls = MAX_CHARACTERS // (MAX_LINES * MAX_LINE_CHARACTERS)
    with lines.collecting():
        for number in range(calls + 1):
            for _ in range(MAX_LINES):
                LOG.warning("call CA%s: %s", number, "x" * MAX_LINE_CHARACTERS)
        assert texts(lines, "CA0") == []
        assert len(texts(lines, "CA1")) == MAX_LINES
        lines.forget("CA1")
        # What was forgotten, and what a newer line of its call has replaced, makes room.
        for number in (2, 3):
            for _ in range(MAX_LINES):
                LOG.warning("call CA%s: %s", number, "x" * MAX_LINE_CHARACTERS)
    assert [len(texts(lines, f"CA{number}")) for number in range(2, calls + 1)] == [MAX_LINES] * (calls - 1)


def test_program_without_logging_still_sees_warnings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Collecting adds no handler: without any, Python goes on printing warnings."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with LogLines().collecting():
        LOG.warning("call CA1: seen")
    assert "call CA1: seen" in capsys.readouterr().err
