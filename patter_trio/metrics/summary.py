"""A call in one line, for the log."""

from patter_trio.metrics.results import CallMetrics


def summary(outcome: str, metrics: CallMetrics | None) -> str:
    """Return the outcome of a call and what was measured: its length, turns, waiting time and cost.

    Args:
        outcome: how the call ended.
        metrics: the call's metrics; None if it was not measured.
    """
    if metrics is None:
        return outcome
    # Turn 0 is the greeting, which answers nobody.
    answered = [turn for turn in metrics.turns if turn.turn_index]
    failed = sum(turn.failed for turn in metrics.turns)
    waited = metrics.latency_p50.total_ms
    parts = [
        f"{metrics.duration_seconds:.1f} s",
        f"{len(answered)} turn{'' if len(answered) == 1 else 's'}",
        *([f"{failed} failed"] if failed else []),
        # Absent, not 0, without an answer.
        *([f"answer p50 {waited:.0f} ms"] if waited is not None else []),
        f"cost ${metrics.cost.total:.4f}",
    ]
    return f"{outcome}; {', '.join(parts)}"
