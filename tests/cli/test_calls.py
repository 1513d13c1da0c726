"""``patter-trio calls``: lists, shows, exports and deletes what a log has, with an exit status for scripts."""

import csv
import io
import json
import re
from pathlib import Path

import pytest

from patter_trio.cli import main
from patter_trio.cli.calls import NOTHING_EXIT_STATUS, OUTCOMES
from tests.kit.call_logs import OpenLog, metrics


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a log with three calls, which is that of PATTER_LOG_DIR."""
    log = OpenLog(str(tmp_path / "patter.db"))
    e = log.events
    for number, text in enumerate(("Do you open on Sunday?", "\x1b[2JA table, please", "=1+1"), 1):
        call_id, at = f"CA{number}", number * 100.0
        entry = {"role": "user", "text": text, "timestamp": 1769851800.0 + at + 1.5}
        tool = {"name": "find", "arguments": {"day": "Sunday"}}
        log.store.write([e.started(call_id, at), e.said(call_id, text, at=at)])
        log.store.write([e.ended(call_id, at + 9, transcript=[entry], metrics=metrics(9.0), tool_calls=[tool])])
    log.store.close()
    monkeypatch.setenv("PATTER_LOG_DIR", str(tmp_path))
    return tmp_path


def run(*arguments: str) -> int:
    return main(["calls", *arguments])


def test_list_is_a_table_of_tabs_for_programs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each call is a line, newest first, with its number masked, and nothing in it commands a terminal."""
    assert run("list") == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split("\t")[:3] == ["call", "began", "number"]
    assert [line.split("\t")[0] for line in lines] == ["CA3", "CA2", "CA1"]
    assert lines[2].split("\t")[1:3] == ["2026-01-31 09:31:40Z", "from +1555***0001"]
    assert lines[1].split("\t")[-1] == "\\x1b[2JA table, please"


def test_list_takes_filters_and_a_limit(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Words, numbers, times, cost and duration restrict the list; a bounded list says that there are more."""
    filters = [
        "--text",
        "sunday open",
        "--since",
        "2026-01-31",
        "--until",
        "2026-02-01T00:00+00:00",
        "--number",
        "5550100001",
    ]
    assert run("list", "--numbers", "--min-cost", "0.2", "--min-duration", "9", *filters) == 0
    assert "CA1\t" in (out := capsys.readouterr().out)
    assert "+15550100001" in out
    assert "CA2" not in out
    assert run("list", "--limit", "2") == 0
    assert "These are the newest 2; --limit shows more." in capsys.readouterr().out
    assert run("list", "--outcome", "busy") == NOTHING_EXIT_STATUS
    assert "No call was found." in capsys.readouterr().out


def test_outcomes_are_those_of_the_pages(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt outcome is refused with all of them, which are those of the docs and of the dashboard's list."""
    with pytest.raises(SystemExit):
        run("list", "--outcome", "transfered")
    assert "(did you mean transferred?)" in capsys.readouterr().err
    root = Path(__file__).parents[2]
    described: set[str] = set()
    for page, head in (("callbacks.md", "| `outcome` |"), ("outbound.md", "| outcome |")):
        table = (root / "docs" / page).read_text(encoding="utf-8").partition(f"\n{head}")[2].partition("\n\n")[0]
        described.update(word for row in table.splitlines()[2:] for word in re.findall(r"`(\w+)`", row.split("|")[1]))
    assert described == set(OUTCOMES)
    script = (root / "patter_trio" / "dashboard" / "static" / "filters.js").read_text(encoding="utf-8")
    assert tuple(re.findall(r'"([a-z_]+)"', script.partition("OUTCOMES = [")[2].partition("]")[0])) == OUTCOMES


def test_show_has_words_tools_and_cost(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One call is shown whole, as lines or as JSON with its events."""
    assert run("show", "CA1") == 0
    out = capsys.readouterr().out
    assert "     1.5 s  caller  Do you open on Sunday?" in out
    assert 'tool find: {"day": "Sunday"}' in out
    assert "cost 0.2500 USD" in out
    assert run("show", "CA1", "--json") == 0
    call = json.loads(capsys.readouterr().out)
    assert [event["type"] for event in call["events"]] == ["call_started", "transcript_final", "call_ended"]
    assert run("show", "CA9") == NOTHING_EXIT_STATUS


def test_export_writes_json_and_csv(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All calls that are asked for are written, to standard output or into a file."""
    assert run("export") == 0
    assert [call["call_id"] for call in json.loads(capsys.readouterr().out)] == ["CA3", "CA2", "CA1"]
    assert run("export", "--format", "csv", "-o", str(place / "calls.csv"), "--text", "1") == 0
    _, row = csv.reader(io.StringIO((place / "calls.csv").read_bytes().decode(), newline=""))
    assert row[0] == "CA3"
    assert run("export", "-o", str(place / "nowhere" / "calls.csv")) == 2


def test_delete_asks_before(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is deleted without a yes, on the line or by --yes."""
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert run("delete", "CA1") == NOTHING_EXIT_STATUS
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run("delete", "--older-than", "1") == NOTHING_EXIT_STATUS
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert run("delete", "CA1", "CA9") == 0
    out, err = capsys.readouterr()
    assert "Delete call CA1, with all recordings?" in out
    assert "Delete 2 calls, with all recordings?" in out
    assert "Deleted calls: 1." in out
    assert err == "No call CA9 is in the log.\n"
    assert run("delete", "--number", "+15550100001", "--yes") == 0
    assert run("delete", "--number", "+15550100001", "--yes") == NOTHING_EXIT_STATUS
    assert run("list") == NOTHING_EXIT_STATUS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["delete"], "give one of: ids of calls, --number, --older-than"),
        (["delete", "CA1", "--older-than", "3"], "give one of"),
        (["delete", "--older-than", "-1", "--yes"], "--older-than must be a number of days above 0"),
        (["delete", "--number", "555"], "--number must be E.164"),
        (["list", "--limit", "0"], "--limit must be at least 1"),
        (["list", "--log", "mysql://host/name"], "must begin with postgresql:// or sqlite://"),
        (["list", "--log", "nowhere.db"], "nowhere.db does not exist"),
        (
            ["list", "--log", __file__],
            f"a file that ends in .db, .sqlite, .sqlite3; {__file__} is",
        ),
    ],
)
def test_mistakes_end_with_status_two(
    place: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistake in the command, or a log that is not there, is one line and status 2."""
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


def test_wrong_time_is_a_mistake_of_usage(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A time that is not ISO 8601 is refused with an example."""
    with pytest.raises(SystemExit) as caught:
        run("list", "--since", "yesterday")
    assert caught.value.code == 2
    assert "must be ISO 8601, such as 2026-01-31" in capsys.readouterr().err
