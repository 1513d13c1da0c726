"""The benchmark's table and comparison, from results made up here."""

from typing import Any

import pytest

from benchmarks.report import markdown, pooled


def result(server: str, calls: int, cost: float, **more: Any) -> dict[str, Any]:
    return {
        "server": server,
        "calls": calls,
        "cpu_ms_per_call_second": cost,
        "server_load": cost * calls / 1000,
        "memory_per_call_mb": 0.1,
        "client_late_p99_ms": 1.0,
        "client_load": 0.1,
        "answers_ms": [500.0, 600.0],
        "clears_ms": [],
        "turns": 4,
        "missed": 0,
        "stray": 0,
        "gaps": 0,
        "lost": 0,
    } | more


def test_report_pools_rounds_and_compares_with_bare_loop() -> None:
    """The benchmark report pools the rounds and compares them with the bare loop."""
    rows = pooled(
        [
            result("bare", 20, 10.0),
            result("ours", 20, 14.0),
            result("ours", 20, 12.0, answers_ms=[700.0], missed=1),
            result("ours", 60, 20.0),
        ]
    )
    ours = rows[0]
    assert (ours["server"], ours["rounds"], ours["cpu_ms_per_call_second"], ours["missed"]) == ("ours", 2, 13.0, 1)
    assert ours["times_bare"] == pytest.approx(1.3)
    assert ours["answers_ms"]["p50"] == 600.0
    assert "times_bare" not in rows[2]


def test_report_table_marks_missing_and_saturated_results() -> None:
    """The report table marks missing and saturated results."""
    table = markdown(pooled([result("pipecat", 30, 33.0, lost=2, missed=3)]))
    assert "| 99 % (saturated) | 505 / " not in table
    assert "(saturated)" in table
    assert "| none |" in table
    assert "3 of 4, 2 calls lost" in table
