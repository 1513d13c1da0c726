"""The benchmark of the call log fills a log and asks all its questions."""

import random
from pathlib import Path

import trio

from benchmarks.call_log import ask_all, fill, multiply, vocabulary
from patter_trio.abc import CallQuery
from patter_trio.call_log.options import CallLog
from patter_trio.call_log.phone_log import PhoneLog


def test_benchmark_fills_and_asks_a_log(tmp_path: Path) -> None:
    """Written calls and their copies are found, each with its words and events."""
    log, source = PhoneLog(CallLog(tmp_path)), random.Random(1)  # noqa: S311 (made-up calls)
    words = vocabulary(source)
    fill(log, 3, source, words)
    multiply(log, 3, 2)
    trio.run(ask_all, log, 3, source, words, 1)

    async def look() -> None:
        page = await log.archive.find(CallQuery(text="the"))
        assert len(page.calls) == 6
        assert len({call.call_id for call in page.calls}) == 6
        assert len(await log.archive.events(page.calls[0].call_id)) == 106
        days = await log.archive.stats()
        assert [day.calls for day in days] == [3, 3]

    trio.run(look)
