"""The launcher on a terminal: colours and views, which no text of a caller can style, move or break."""

import io
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.cli.doctor import _Findings
from patter_trio.cli.live import Live, Progress
from patter_trio.cli.live_calls import MAX_ROWS, calls_table
from patter_trio.cli.log_lines import TextLines
from patter_trio.cli.report import print_latencies
from patter_trio.cli.terminal import console_for, print_traceback, printable, printable_lines
from tests.cli.test_log_lines import record

HOSTILE = "[bold red]sold[/] :smile: \x1b[2J\x1b]0;title\x07 \x9b31m \u202eevil\r\nnext\ud800"
SHOWN = r"[bold red]sold[/] :smile: \x1b[2J\x1b]0;title\x07 \x9b31m \u202eevil next\ud800"
# Colours and styles, the movements of a bar, the cursor's visibility: what rich itself sends.
OWN_COMMANDS = re.compile(r"\x1b\[(\d+(;\d+)*m|\?25[lh]|\d*[AK]|2K|1A)|\r|\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return a terminal of 100 columns with all colours."""
    for name, value in {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def plain(terminal: Terminal) -> str:
    """Return what a terminal shows, without the commands that the launcher may send; no others are left."""
    text = OWN_COMMANDS.sub(lambda found: "\n" if found[0] == "\n" else "", terminal.getvalue())
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text), repr(text)
    return text


# What others say ------------------------------------------------------------------------------------------------------
@given(st.text())
def test_no_text_commands_a_terminal(text: str) -> None:
    """Whatever a text has, nothing of it commands a terminal, and it can be written as UTF-8."""
    for shown, allowed in ((printable(text), ""), (printable_lines(text), "\n\t")):
        shown.encode("utf-8")
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e]", re.sub(f"[{allowed} ]", "", shown))


def test_words_are_shown_as_they_are(terminal: Terminal) -> None:
    """Markup, emoji and commands in a caller's words are shown, not carried out."""
    live = Live(console_for(terminal))
    live.event(1.0, "transcript", {"role": "user", "text": HOSTILE})
    live.event(2.0, "tool_call_completed", {"name": HOSTILE, "duration": 1.0, "error": HOSTILE})
    live.ended("CA1", HOSTILE)
    lines = plain(terminal).splitlines()
    assert lines[0] == f"   1.00  caller  “{SHOWN}”"
    assert lines[-1] == f"Call CA1: FAILED: {SHOWN}"
    assert "\x1b[38;2;43;120;184m" in terminal.getvalue()  # the caller's blue


def test_words_are_escaped_in_plain_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    """In a file or a pipe, which may be shown on a terminal later, the words are escaped as well."""
    live = Live()
    live.event(1.0, "transcript", {"role": "user", "text": HOSTILE})
    assert capsys.readouterr().out == f"   1.00  caller  “{SHOWN}”\n"


def test_log_lines_command_nothing() -> None:
    """A log line with a caller's words in it is one line, and its escapes are visible."""
    line = TextLines("%(message)s").format(record("call CA1: failed: %s", "\x1b[2Jwords"))
    assert line == r"call CA1: failed: \x1b[2Jwords"


def break_down(secret: str) -> None:
    raise ValueError(f"[red]{len(secret)}[/] \x1b[2J")


def test_traceback_is_styled_without_values(terminal: Terminal) -> None:
    """A bug's traceback has its lines of source, no values of variables, and an escaped message."""
    console = console_for(terminal)
    assert console is not None
    try:
        break_down("the token")
    except ValueError as error:
        print_traceback(console, ExceptionGroup("several \x1b[2J", [error]))
    shown = plain(terminal)
    assert r"[red]9[/] \x1b[2J" in shown
    assert r"several \x1b[2J" in shown
    assert "raise ValueError" in shown
    assert "secret = " not in shown
    assert "test_terminal.py" in shown


# Where it is used -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("term", ["", "dumb", "unknown"])
def test_terminal_without_a_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    """A file, a pipe and a dumb terminal get plain lines."""
    monkeypatch.setenv("TERM", term)
    assert console_for(Terminal()) is None
    monkeypatch.setenv("TERM", "xterm")
    assert console_for(io.StringIO()) is None


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch, terminal: Terminal) -> None:
    """With NO_COLOR, no colour is sent; bold and faint may be."""
    monkeypatch.setenv("NO_COLOR", "1")
    live = Live(console_for(terminal))
    live.event(1.0, "transcript", {"role": "user", "text": "Hello"})
    live.ended("CA1", "no words")
    assert not re.search(r"\x1b\[[\d;]*(3[0-8]|4[0-8]|9\d)[;m]", terminal.getvalue())
    assert "caller  “Hello”" in plain(terminal)


# Views ----------------------------------------------------------------------------------------------------------------
def test_progress_is_a_bar_that_ends(terminal: Terminal) -> None:
    """Many calls are a bar; failures are lines above it; at its end the cursor is visible again."""
    view = Progress(2, console_for(terminal))
    view.event(0.0, "call_start", {})
    view.event(0.0, "call_start", {})
    view.ended("CA1", "")
    view.ended("CA2", HOSTILE)
    view.close()
    shown = plain(terminal)
    assert f"Call CA2: FAILED: {SHOWN}" in "".join(shown.splitlines())
    assert "1/2 calls over, 1 live, 0 failed" in shown
    assert "2/2 calls over, 0 live, 1 failed" in shown
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")


@attrs.frozen
class Metrics:
    duration_seconds: float


@attrs.frozen
class Control:
    """As much of a call's control as the table shows."""

    call_id: str = "CA1"
    caller: str = "+15550100001"
    turn_idx: int = 2
    metrics: Metrics | None = Metrics(72.4)
    conversation_state: Mapping[str, str] = MappingProxyType({"user": "speaking", "agent": "idle"})
    history: Sequence[dict[str, Any]] = ({"role": "user", "text": HOSTILE},)
    ended: bool = False


def test_live_calls_are_a_table(terminal: Terminal) -> None:
    """The live view has a row for each call: masked number, time, turns, state, and the last words escaped."""
    console = console_for(terminal)
    assert console is not None
    thinks = attrs.evolve(
        Control(), metrics=None, caller="", conversation_state={"user": "listening", "agent": "thinking"}, history=()
    )
    quiet = attrs.evolve(Control(), conversation_state={"user": "listening", "agent": "idle"})
    console.print(calls_table([Control(), thinks, quiet, attrs.evolve(quiet, ended=True)]))  # type: ignore[list-item]
    title, _, first, second, third, last = plain(terminal).splitlines()
    assert title.strip() == "4 live calls"
    assert first.split()[:6] == ["CA1", "+1555***0001", "1:12", "2", "caller", "speaks"]
    assert SHOWN[:20] in first
    assert second.split() == ["CA1", "withheld", "0:00", "2", "agent", "thinks"]
    assert "quiet" in third
    assert "ending" in last


def test_table_of_many_calls_fits_the_screen(terminal: Terminal) -> None:
    """Of more calls than fit, the table says how many there are."""
    console = console_for(terminal)
    assert console is not None
    console.print(calls_table([Control()] * (MAX_ROWS + 3)))  # type: ignore[list-item]
    lines = plain(terminal).splitlines()
    assert len(lines) == MAX_ROWS + 3
    assert lines[-1].strip() == "and 3 more"


def test_findings_of_doctor_are_coloured(terminal: Terminal) -> None:
    """The findings of doctor have a colour each, and what a carrier answers is escaped."""
    findings = _Findings(as_json=False, console=console_for(terminal))
    findings.add("number", "problem", "the carrier said \x1b[2J", "ask it")
    assert plain(terminal).splitlines() == [
        r"problem  number       the carrier said \x1b[2J",
        " " * 22 + "-> ask it",
    ]
    assert terminal.getvalue().startswith("\x1b[1;31m")


def test_latencies_are_a_table(monkeypatch: pytest.MonkeyPatch, terminal: Terminal) -> None:
    """On a terminal, the latencies are a table of the same figures."""
    monkeypatch.setattr("sys.stdout", terminal)
    print_latencies([{"answer": 0.65}, {"answer": 0.75}])
    head, row = plain(terminal).splitlines()
    assert head.split() == ["latency,", "ms", "n", "p50", "p95", "max"]
    assert row.split()[-4:] == ["2", "700", "745", "750"]
