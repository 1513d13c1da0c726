"""A call in one line of the log."""

import pytest

from patter_trio.metrics.results import CallMetrics, CostBreakdown, LatencyBreakdown, TurnMetrics
from patter_trio.metrics.summary import summary


def turn(index: int, *, failed: bool = False) -> TurnMetrics:
    return TurnMetrics(turn_index=index, user_text="", agent_text="", failed=failed)


def metrics(*turns: TurnMetrics, waited: float | None = None, cost: float = 0.0) -> CallMetrics:
    return CallMetrics(
        call_id="CA1",
        duration_seconds=47.94,
        turns=turns,
        cost=CostBreakdown(total=cost),
        latency_p50=LatencyBreakdown(total_ms=waited),
    )


@pytest.mark.parametrize(
    ("measured", "line"),
    [
        (None, "caller_hung_up"),
        (metrics(), "caller_hung_up; 47.9 s, 0 turns, cost $0.0000"),
        (metrics(turn(0)), "caller_hung_up; 47.9 s, 0 turns, cost $0.0000"),
        (
            metrics(turn(0), turn(1), waited=698.4, cost=0.01234),
            "caller_hung_up; 47.9 s, 1 turn, answer p50 698 ms, cost $0.0123",
        ),
        (
            metrics(turn(1), turn(2, failed=True), waited=0.0),
            "caller_hung_up; 47.9 s, 2 turns, 1 failed, answer p50 0 ms, cost $0.0000",
        ),
    ],
    ids=["not measured", "nothing said", "greeting alone", "answered", "one failed"],
)
def test_summary_has_what_was_measured(measured: CallMetrics | None, line: str) -> None:
    """The summary has outcome, length, turns of the caller, failures, waiting time and cost, as far as they exist."""
    assert summary("caller_hung_up", measured) == line
