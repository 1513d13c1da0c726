"""The soak: a few minutes of it hold, and what would have to be found in hours of it is found."""

import attrs
import pytest

from benchmarks.soak import BOUNDS, Soak
from benchmarks.soak_report import Peak, Record, Rest, slope, verdict

CALLS = 500


def flat(**changes: object) -> Record:
    """Return the record of a run in which nothing grew; ``changes`` are functions of the number of the rest."""
    record = Record(bounds={"inbox": 1000})
    for number in range(1, 10):
        rest = Rest(
            hours=number,
            calls=number * CALLS,
            blocks=300_000 + 7 * (number % 3),
            rss=90_000_000 - 4096 * (number % 2),
            objects=60_000,
            tasks=5,
            descriptors=13,
            kept=0,
            left=40.0 if number % 3 == 1 else None,
        )
        made = {name: change(number) for name, change in changes.items() if callable(change) and name != "depth"}
        depth = changes.get("depth", lambda _: 12)
        record.rests.append(attrs.evolve(rest, **made))
        assert callable(depth)
        record.peaks.append(Peak(hours=number, live=4, tasks=90, descriptors=20, depths={"inbox": depth(number)}))
    return record


def test_a_run_in_which_nothing_grew_is_right() -> None:
    """The soak's verdict has no finding for a run in which nothing grew."""
    assert verdict(flat()) == []


@pytest.mark.parametrize(
    ("name", "change", "finding"),
    [
        ("blocks", lambda n: 300_000 + 2 * CALLS * n, "blocks grows by 2.0 per call (limit 0.5)"),
        ("objects", lambda n: 60_000 + 3 * CALLS * n, "objects grows by 3.0 per call (limit 0.5)"),
        ("rss", lambda n: 90_000_000 + 3000 * CALLS * n, "rss grows by 3000.0 per call (limit 2048)"),
        ("left", lambda n: 900.0 if n % 3 == 1 else None, "bytes left behind per call: 900 900"),
        ("tasks", lambda n: 5 + (n > 5), "tasks at rest: 5 5 5 5 5 6 6 6 6"),
        ("descriptors", lambda n: 13 + (n == 9), "descriptors at rest: 13 13 13 13 13 13 13 13 14"),
        ("kept", lambda n: int(n == 2), "kept at rest: 0 1 0 0 0 0 0 0 0"),
        ("depth", lambda n: 1000 if n == 4 else 3, "inbox was full: 1000 of 1000"),
        ("depth", lambda n: 20 * n, "inbox gets deeper: by 20.0 an hour (bound 1000)"),
    ],
)
def test_soak_verdict_names_growth_and_leftovers(name: str, change: object, finding: str) -> None:
    """The soak's verdict names each quantity that grows, is left behind or fills its queue, with its numbers."""
    assert verdict(flat(**{name: change})) == [finding]


def test_fillable_queue_fails_only_beyond_its_bound() -> None:
    """The soak verdict reports a queue that may fill only when the queue exceeds its bound."""
    record = flat(depth=lambda n: 1000 if n == 4 else 3)
    record.may_fill = frozenset({"inbox"})
    assert verdict(record) == []
    record.peaks[3].depths["inbox"] = 1001
    assert verdict(record) == ["inbox was full: 1001 of 1000"]


def test_what_the_first_calls_load_is_no_growth() -> None:
    """The soak's verdict ignores 50,000 memory blocks that only the first calls add."""
    assert verdict(flat(blocks=lambda n: 300_000 - (50_000 if n <= 3 else 0))) == []


def test_one_outlier_does_not_bend_the_line() -> None:
    """The slope through five points stays 1.0 if one of them is an outlier of 900."""
    assert slope([(0, 1.0), (1, 2.0), (2, 900.0), (3, 4.0), (4, 5.0)]) == pytest.approx(1.0)


@pytest.mark.deep
def test_some_minutes_of_calls_leave_nothing_behind() -> None:
    """Two callers who call for four minutes leave nothing behind, and their calls end in several ways."""
    # A seed of which an early call fails: the first failures of others come later.
    soak = Soak(seconds=240.0, tide=120.0, callers=2, seed=2, show=False)
    assert soak.run() == []
    assert len(soak.record.rests) == 2
    assert soak.record.rests[1].hours * 3600 >= 240.0
    assert soak.tally.calls > 5
    assert soak.record.rests[1].left is not None, "the second stretch is traced"
    assert len(soak.tally.outcomes) > 1, f"calls should end in many ways, not only {soak.tally.outcomes}"
    deepest = {name: max(peak.depths[name] for peak in soak.record.peaks) for name in BOUNDS}
    assert 0 < deepest["playout queue, samples"] < BOUNDS["playout queue, samples"]
    assert max(peak.tasks for peak in soak.record.peaks) > soak.record.rests[0].tasks
