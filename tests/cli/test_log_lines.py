"""The launcher's log lines, as text and as JSON."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from patter_trio.cli.log_lines import JsonLines
from tests.kit.cli import write_agent, write_sound


def record(message: str, *arguments: object, level: int = logging.INFO) -> logging.LogRecord:
    made = logging.LogRecord("patter_trio.call", level, "call.py", 1, message, arguments, None)
    made.created = 1_700_000_000.25
    return made


@pytest.mark.parametrize(
    ("message", "arguments", "about"),
    [
        ("call %s: ended, %s", ("CA12", "caller_hung_up"), {"call_id": "CA12"}),
        ("call a.b:c-1: started", (), {"call_id": "a.b:c-1"}),
        ("SIGTERM: draining", (), {}),
        ("call 'odd id': started", (), {}),
        ("two\nlines “quoted”", (), {}),
    ],
)
def test_record_is_one_json_object(message: str, arguments: tuple[object, ...], about: dict[str, str]) -> None:
    """A record is one line of JSON with its time, level, logger and message, and the id of the call it is about."""
    line = JsonLines().format(record(message, *arguments))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "level": "info",
        "logger": "patter_trio.call",
        "message": message % arguments,
        **about,
    }


def test_traceback_stays_in_its_line() -> None:
    """The traceback of a record is a part of its object, masked where the filter of the loggers has masked it."""
    failed = record("call CA1: failed", level=logging.WARNING)
    error = KeyError("+15550100003")
    failed.exc_info = (KeyError, error, None)
    assert "KeyError: '+15550100003'" in json.loads(JsonLines().format(failed))["traceback"]
    failed.exc_text = "KeyError: '+1555***0003'"
    assert json.loads(JsonLines().format(failed))["traceback"] == "KeyError: '+1555***0003'"


@pytest.mark.deep
def test_json_log_has_summary_of_the_call() -> None:
    """With --log-format json each line of a simulated call's log is an object, and the last one has the summary."""
    program = write_agent(Path(), greeting="Hi.")
    command = [
        "simulate",
        program,
        "--caller",
        write_sound(Path("one.wav")),
        "--log-format",
        "json",
        "--log-level",
        "info",
    ]
    done = subprocess.run(  # noqa: S603 (ourselves)
        [sys.executable, "-m", "patter_trio", *command], capture_output=True, text=True, timeout=60, check=True
    )
    lines = [json.loads(line) for line in done.stderr.splitlines() if line != "Loading ..."]
    ended = next(line["message"] for line in lines if ": ended, " in line["message"])
    assert {line["call_id"] for line in lines if line["logger"] == "patter_trio.call"} == {lines[0]["call_id"]}
    assert ended.startswith(f"call {lines[0]['call_id']}: ended, caller_hung_up; ")
    assert ", 1 turn, answer p50 " in ended
