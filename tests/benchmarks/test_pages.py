"""The benchmark of the dashboard's pages: its table and its arguments, without a browser."""

from typing import Any

import pytest

from benchmarks import pages
from benchmarks.pages import hold, main, parse, table


def test_table_says_which_bounds_hold() -> None:
    """A bound holds by the 95th percentile of its samples; a row without one counts for nothing."""
    measured: dict[str, Any] = {
        "rows": ([*range(100, 120)], None),
        "search": ([*[50.0] * 19, 900.0], 200.0),
        "call": ([*[50.0] * 18, 300.0, 900.0], 300.0),
    }
    assert table(measured).splitlines() == [
        "| ms | samples | p50 | p95 | max | bound, p95 |",
        "|---|---:|---:|---:|---:|---|",
        "| rows | 20 | 109 | 118 | 119 |  |",
        "| search | 20 | 50 | 50 | 900 | 200: holds |",
        "| call | 20 | 50 | 300 | 900 | 300: missed |",
    ]
    assert not hold(measured)
    del measured["call"]
    assert hold(measured)


def test_arguments_have_the_sizes_of_the_bounds() -> None:
    """Without arguments there are 100,000 logged calls and 100 live ones."""
    options = parse([])
    assert (options.calls, options.live, options.times, options.place) == (100_000, 100, 20, None)
    assert parse(["--calls", "500", "--live", "3"]).live == 3


def test_missing_browser_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without Chromium nothing is measured, and the benchmark says what to install."""
    monkeypatch.setattr(pages, "missing_programs", lambda: ["chromium", "chromedriver"])
    assert main([]) == 2
    assert "Chromium is absent" in capsys.readouterr().out
