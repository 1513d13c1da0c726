"""The comparison of two servers that run at once."""

from pathlib import Path

from benchmarks.pairs import Measured, parse, sides_of, table


def test_table_has_median_and_spread_of_ratios() -> None:
    """Each pair gives a ratio and two delays; the median counts, of ratios with the least and the greatest."""
    sides = sides_of(parse(["--carriers", "twilio", "telnyx"]))
    costs = [(10.0, 11.0), (20.0, 20.0), (10.0, 15.0)]
    pairs = [(Measured(before, 520.0, 230.0), Measured(after, 510 + after, 229.0)) for before, after in costs]
    assert table(sides, pairs).splitlines() == [
        "| twilio: CPU ms per call-second | telnyx | ratio | answer ms p50 | clear ms p50 |",
        "|---:|---:|---:|---:|---:|",
        "| 10.00 | 11.00 | 1.100 | 520 / 521 | 230 / 229 |",
        "| 20.00 | 20.00 | 1.000 | 520 / 530 | 230 / 229 |",
        "| 10.00 | 15.00 | 1.500 | 520 / 525 | 230 / 229 |",
        "",
        "telnyx / twilio: median 1.100, from 1.000 to 1.500",
        "medians of the delays: answers +5.0 ms, clears -1.0 ms",
    ]


def test_another_checkout_runs_with_its_own_packages(tmp_path: Path) -> None:
    """The other checkout is measured by its own Python, this one by the one that runs."""
    before, after = sides_of(parse(["--before", str(tmp_path)]))
    assert (before.folder, before.python) == (tmp_path.resolve(), str(tmp_path / ".venv" / "bin" / "python"))
    assert (after.name, after.options) == ("after", ())


def test_options_make_the_second_side() -> None:
    """Both sides are this checkout, and only the second one has the log or the dashboard."""
    without, with_both = sides_of(parse(["--with", "persist", "dashboard"]))
    assert (without.folder, without.options) == (with_both.folder, ())
    assert with_both.options == ("--persist", "--dashboard")
