"""Figures by day: the same percentiles as ``metrics/results.py``, in each kind of database."""

import random

import pytest

from patter_trio.call_log import reader
from patter_trio.metrics.results import percentile
from tests.kit.call_logs import EPOCH, OpenLog, metrics


@pytest.mark.parametrize("answers", [1, 2, 3, 20, 101])
def test_percentiles_are_those_of_the_metrics(log: OpenLog, answers: int) -> None:
    """p50 and p95 of a day are interpolated over all its answers; interrupted turns and absent values do not count."""
    source, e = random.Random(answers), log.events  # noqa: S311 (made-up times)
    times = [round(source.uniform(300, 2000), 1) for _ in range(answers)]
    turns = [e.measured("CA1", number, total) for number, total in enumerate(times, 1)]
    cut = e.measured("CA1", answers + 1, 1.0)
    cut["data"]["turn"]["interrupted"] = True
    log.store.write(
        [e.started("CA1"), *turns, cut, e.measured("CA1", answers + 2, None), e.ended("CA1", metrics=metrics())]
    )
    log.store.write([e.started("CA2", 86_400.0), e.ended("CA2", 86_500.0, outcome="failed")])
    with log.database.reading() as connection:
        first, second = reader.stats(connection, None, None)
        (alone,) = reader.stats(connection, EPOCH + 86_000, None)
    assert first.answer_p50_ms == pytest.approx(percentile(sorted(times), 0.5), abs=0.051)
    assert first.answer_p95_ms == pytest.approx(percentile(sorted(times), 0.95), abs=0.051)
    assert (first.day, first.calls, first.outcomes) == ("2026-01-31", 1, {"caller_hung_up": 1})
    assert (second.day, second.answer_p50_ms, second.outcomes) == ("2026-02-01", None, {"failed": 1})
    assert alone == second
