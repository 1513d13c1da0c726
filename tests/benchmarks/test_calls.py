"""The benchmark of calls, for a few seconds: the servers answer, turns are counted, the table is made.

No times are judged.
"""

import pytest

from benchmarks.calls import parse, run
from benchmarks.report import markdown
from tests.kit.depth import few


@pytest.mark.deep
@pytest.mark.parametrize("server", few(["ours", "bare"], 1))
def test_two_calls_are_answered_and_reported(server: str) -> None:
    """Two benchmark calls of 5 s have answers and no loss, and the table has a row for their server."""
    options = parse(["--calls", "2", "--seconds", "5", "--settling", "0.5", "--unpinned", "--servers", server])
    report = run(options)
    assert report["failed"] == {}
    (row,) = report["rows"]
    assert (row["server"], row["calls"], row["lost"]) == (server, 2, 0)
    assert row["turns"] >= 2
    assert row["answers_ms"]
    head, _, line = markdown(report["rows"]).strip().splitlines()
    assert head.count("|") == line.count("|") == 12
    assert f"| 2 | {'patter_trio' if server == 'ours' else 'bare loop'} |" in line
