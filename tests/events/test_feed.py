"""The feed of a phone: streams of the records of events."""

from typing import Any

import pytest
import trio
import trio.testing

from patter_trio.abc import CallInfo, EventRecord
from patter_trio.errors import ConfigurationError
from patter_trio.events.feed import MAX_REMEMBERED_RECORDS, REMEMBERED_S, EventFeed, FeedStream
from patter_trio.events.records import EventRecorder
from patter_trio.events.turns import TurnStarted
from patter_trio.metrics.internal_events import CostKnown, LlmChunk, RecordingReported, TtsChunk
from patter_trio.metrics.public_events import CallOver

CLOCK = trio.testing.MockClock


@pytest.fixture
def recorder() -> EventRecorder:
    return EventRecorder()


@pytest.fixture
def feed(recorder: EventRecorder) -> EventFeed:
    return EventFeed(recorder)


CHUNK, TURN = LlmChunk(reply=1, turn_idx=1, text="Yes"), TurnStarted(1)


def publish(recorder: EventRecorder, event: Any = TURN, call_id: str = "CA1") -> None:
    recorder.record(event, call_id, at=2.0, call_time=1.5, unix=1_800_000_000.25)


def over(call_id: str) -> CallOver:
    return CallOver(info=CallInfo(call_id, "", "", "inbound"), ended_at=0.0, outcome="completed")


async def taken(stream: FeedStream) -> list[EventRecord]:
    """Return the records that wait, without waiting for more."""
    records: list[EventRecord] = []
    # Long enough in virtual time to take what waits.
    with trio.move_on_after(0.001):
        while True:
            try:
                records.append(await anext(stream))
            except StopAsyncIteration:
                break
    return records


async def test_records_reach_whoever_wants_them(
    recorder: EventRecorder, feed: EventFeed, autojump_clock: CLOCK
) -> None:
    """A stream gets the records of its call, or of all calls; chunks only if it asks for them."""
    assert not feed.is_open
    with feed.subscribe() as everything, feed.subscribe("CA1") as one:
        assert feed.is_open
        assert not feed.wants(LlmChunk)
        publish(recorder, CHUNK)
        with feed.subscribe(chunks=True) as chunks:
            assert feed.wants(LlmChunk)
            publish(recorder)
            publish(recorder, call_id="CA2")
            publish(recorder, CHUNK)
            publish(recorder, TtsChunk(reply=1, turn_idx=1, audio=b"x"))
            assert [record["seq"] for record in await taken(chunks)] == [1, 2, 3]
        assert [record["seq"] for record in await taken(everything)] == [1, 2]
        assert [record["seq"] for record in await taken(one)] == [1]


async def test_slow_streams_lose_the_oldest(recorder: EventRecorder, feed: EventFeed, autojump_clock: CLOCK) -> None:
    """A stream that is not read keeps the newest records, counts the others, and delays nobody."""
    with feed.subscribe(size=3) as slow, feed.subscribe() as quick:
        for _ in range(10):
            publish(recorder)
        assert [record["seq"] for record in await taken(slow)] == [8, 9, 10]
        assert slow.dropped == 7
        assert len(await taken(quick)) == 10
    assert quick.dropped == 0
    with pytest.raises(ConfigurationError, match="size must be"), feed.subscribe(size=0):
        pass


async def test_the_stream_of_a_call_ends_with_it(
    recorder: EventRecorder, feed: EventFeed, autojump_clock: CLOCK
) -> None:
    """The stream of one call ends behind its last record; that of all calls goes on."""
    with feed.subscribe() as everything, feed.subscribe("CA1") as one:
        publish(recorder)
        publish(recorder, over("CA1"), "CA1")
        publish(recorder, call_id="CA2")
        assert [record["seq"] async for record in one] == [1, 2]
        assert len(await taken(everything)) == 3


@pytest.mark.parametrize("late", [CostKnown(0.01), RecordingReported("RE1", "https://carrier/RE1", 2.0), TURN])
@pytest.mark.parametrize("size", [1, 5])
async def test_late_facts_pass_a_finished_stream(
    recorder: EventRecorder, feed: EventFeed, autojump_clock: CLOCK, late: Any, size: int
) -> None:
    """What comes after the end of a call is not for a stream that still has the end to read, and harms nobody."""
    with feed.subscribe() as everything, feed.subscribe("CA1", size=size) as slow:
        publish(recorder)
        publish(recorder, over("CA1"), "CA1")
        publish(recorder, late)
        publish(recorder, over("CA1"), "CA1")
        assert [record["seq"] async for record in slow] == [1, 2][-size:]
        assert slow.dropped == max(0, 2 - size)
        assert [record["seq"] for record in await taken(everything)] == [1, 2, 3, 4]


async def test_resumed_streams_end_with_their_call(
    recorder: EventRecorder, feed: EventFeed, autojump_clock: CLOCK
) -> None:
    """A stream that resumes before the end of its call, which it has missed, ends behind it, too."""
    with feed.subscribe():
        publish(recorder)
        publish(recorder, over("CA1"), "CA1")
        publish(recorder, CostKnown(0.01))
        with feed.subscribe("CA1", after=1) as resumed:
            publish(recorder, CostKnown(0.02))
            assert [record["seq"] for record in await taken(resumed)] == [2]
            with pytest.raises(StopAsyncIteration):
                await anext(resumed)


async def test_a_stream_resumes_where_it_was(recorder: EventRecorder, feed: EventFeed, autojump_clock: CLOCK) -> None:
    """Within 30 s, a stream resumes behind the last number that it got, whatever happened meanwhile."""
    with feed.subscribe():
        publish(recorder)
        publish(recorder)
    publish(recorder, call_id="CA2")
    await trio.sleep(REMEMBERED_S - 1)
    assert feed.is_open
    with feed.subscribe(after=1) as stream:
        assert [record["seq"] for record in await taken(stream)] == [2, 3]
    with feed.subscribe("CA2", after=1) as stream:
        assert [record["seq"] for record in await taken(stream)] == [3]
    # A number from before a restart of the server.
    with feed.subscribe(after=5000) as stream:
        assert [record["seq"] for record in await taken(stream)] == [1, 2, 3]
    await trio.sleep(REMEMBERED_S)
    publish(recorder)
    assert not feed.is_open
    with feed.subscribe(after=0) as stream:
        assert await taken(stream) == []


async def test_memory_of_records_is_bounded(recorder: EventRecorder, feed: EventFeed, autojump_clock: CLOCK) -> None:
    """Only the newest records are remembered for a resumed stream."""
    with feed.subscribe():
        for _ in range(MAX_REMEMBERED_RECORDS + 10):
            publish(recorder)
        with feed.subscribe(after=0, size=5000) as stream:
            assert min(record["seq"] for record in await taken(stream)) == 11
