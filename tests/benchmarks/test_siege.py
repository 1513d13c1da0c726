"""The benchmark of floods, for a few seconds: calls are held, strangers send, the table is made.

No times are judged.
"""

import pytest

from benchmarks.siege import FLOODS, held, markdown, parse, run

HEARD = {
    "flood": "pings",
    "answers_ms": [500.0, 550.0],
    "clears_ms": [250.0],
    "load": 0.5,
    "turns": 4,
    "missed": 0,
    "gaps": 0,
    "lost": 0,
    "newcomers": 2,
    "taken": 2,
    "busy": 0,
    "sent_bytes": 1_000_000,
    "sent_connections": 20,
    "log_bytes": 0,
}


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ({}, True),
        ({"answers_ms": [500.0, 569.0]}, True),
        ({"answers_ms": [500.0, 571.0]}, False),
        ({"answers_ms": []}, False),
        ({"gaps": 1}, False),
        ({"missed": 1}, False),
        ({"lost": 1}, False),
        ({"taken": 1, "busy": 1}, False),
    ],
)
def test_a_flood_is_judged_by_its_callers(change: dict[str, object], result: bool) -> None:
    """A flood is held if no answer is 20 ms later than beside the control, and nothing else is worse."""
    assert held(HEARD | change, HEARD) is result
    assert markdown([(HEARD | change, HEARD)]).splitlines()[-1].endswith("| yes |" if result else "| no |")


@pytest.mark.deep
def test_calls_beside_a_flood_are_reported() -> None:
    """Two floods of a few seconds reach their server, the calls have answers, and the table has a row for each."""
    options = parse(["--floods", "pings", "idle, few descriptors", "--seconds", "4", "--newcomers", "1", "--unpinned"])
    rows = run(options)
    assert [attacked["flood"] for attacked, _ in rows] == ["pings", "idle, few descriptors"]
    for attacked, control in rows:
        assert attacked["sent_connections"] >= FLOODS[attacked["flood"]].strangers
        assert not attacked["control"]
        assert control["control"]
        assert attacked["answers_ms"]
        assert (attacked["lost"], control["lost"]) == (0, 0)
    head, _, *lines = markdown(rows).splitlines()
    assert {line.count("|") for line in lines} == {head.count("|")}
