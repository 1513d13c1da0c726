"""The comparison of two servers that run at once."""

from pathlib import Path

from benchmarks.pairs import parse, sides_of, table


def test_table_has_median_and_spread_of_ratios() -> None:
    """Each pair gives a ratio; the median counts, with the least and the greatest."""
    sides = sides_of(parse(["--carriers", "twilio", "telnyx"]))
    assert table(sides, [(10.0, 11.0), (20.0, 20.0), (10.0, 15.0)]).splitlines() == [
        "| twilio: CPU ms per call-second | telnyx | ratio |",
        "|---:|---:|---:|",
        "| 10.00 | 11.00 | 1.100 |",
        "| 20.00 | 20.00 | 1.000 |",
        "| 10.00 | 15.00 | 1.500 |",
        "",
        "telnyx / twilio: median 1.100, from 1.000 to 1.500",
    ]


def test_another_checkout_runs_with_its_own_packages(tmp_path: Path) -> None:
    """The other checkout is measured by its own Python, this one by the one that runs."""
    before, after = sides_of(parse(["--before", str(tmp_path)]))
    assert (before.folder, before.python) == (tmp_path.resolve(), str(tmp_path / ".venv" / "bin" / "python"))
    assert (after.name, after.options) == ("after", ())
