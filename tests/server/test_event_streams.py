"""Streams of events over HTTP: what they send, and when they end."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from patter_trio.abc import CallInfo
from patter_trio.events.feed import EventFeed
from patter_trio.events.records import EventRecorder
from patter_trio.events.turns import TurnStarted
from patter_trio.metrics.public_events import CallOver
from patter_trio.server.access import Access
from patter_trio.server.connection import serve_connection
from patter_trio.server.event_streams import EventStreamResponse
from patter_trio.server.stream_places import StreamPlaces
from tests.kit.server import FakeCallServer, read_all

CLOCK = trio.testing.MockClock


class Streams:
    """A server with a stream of events, and what happens in its calls."""

    def __init__(self, places: int = 64) -> None:
        self.recorder = EventRecorder()
        feed = EventFeed(self.recorder)
        self.places = StreamPlaces(places)

        @asynccontextmanager
        async def subscribe(call_id: str) -> AsyncIterator[Any]:
            with feed.subscribe(call_id, size=4) as stream:
                yield stream

        async def events(request: Request) -> Response:
            return EventStreamResponse(lambda: subscribe(request.query_params.get("call", "")))

        self.server = FakeCallServer()
        self.server.context = attrs.evolve(
            self.server.context,
            access=Access(is_private=True),
            routes=[Route("/api/live/events", events)],
            streams=self.places,
        )

    async def open(self, nursery: trio.Nursery, query: str = "") -> Any:
        stream = self.server.open(nursery)
        await stream.send_all(f"GET /api/live/events{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await trio.testing.wait_all_tasks_blocked()
        return stream

    def publish(self, number: int = 1, call_id: str = "CA1") -> None:
        self.recorder.record(TurnStarted(number), call_id, at=0.0, call_time=0.0, unix=0.0)

    def end(self, call_id: str) -> None:
        over = CallOver(info=CallInfo(call_id, "", "", "inbound"), ended_at=0.0, outcome="completed")
        self.recorder.record(over, call_id, at=0.0, call_time=0.0, unix=0.0)


async def received(stream: Any) -> str:
    """Return what has arrived."""
    await trio.testing.wait_all_tasks_blocked()
    return (await stream.receive_some(65536)).decode()


async def test_records_are_sent_as_events(autojump_clock: CLOCK) -> None:
    """Each record is an event with its number, its type and itself as JSON; the head forbids buffers and caches."""
    streams = Streams()
    async with trio.open_nursery() as nursery:
        stream = await streams.open(nursery)
        head = await received(stream)
        assert head.startswith("HTTP/1.1 200 ")
        for line in ("content-type: text/event-stream; charset=utf-8", "cache-control: no-store", "retry: 2000"):
            assert line in head
        assert "content-length" not in head
        streams.publish(7)
        text = await received(stream)
        assert "id: 1\nevent: turn_started\ndata: " in text
        record = json.loads(text.partition("data: ")[2].partition("\n")[0])
        assert (record["seq"], record["call_id"], record["data"]["turn_idx"]) == (1, "CA1", 7)
        await stream.aclose()
    assert streams.places.taken == 0
    assert trio.current_time() <= 0.5


async def test_quiet_streams_have_a_comment_each_15_s(autojump_clock: CLOCK) -> None:
    """A stream without events lives on beyond the 15 s of a request, and sends a comment each 15 s."""
    streams = Streams()
    async with trio.open_nursery() as nursery:
        stream = await streams.open(nursery)
        await received(stream)
        for number in range(1, 5):
            assert ": nothing new" in (await stream.receive_some(65536)).decode()
            assert trio.current_time() == number * 15
        await stream.aclose()


async def test_stream_of_a_call_ends_with_it(autojump_clock: CLOCK) -> None:
    """The response about one call ends behind call_ended, and the connection with it."""
    streams = Streams()
    async with trio.open_nursery() as nursery:
        stream = await streams.open(nursery, "?call=CA1")
        streams.publish(call_id="CA2")
        streams.end("CA1")
        text = (await read_all(stream)).decode()
    assert "event: call_ended" in text
    assert "turn_started" not in text
    assert text.endswith("0\r\n\r\n")
    assert streams.places.taken == 0


async def test_streams_end_at_drain_and_begin_no_more(autojump_clock: CLOCK) -> None:
    """Streams end at once when the server drains; a new one gets 503."""
    streams = Streams()
    async with trio.open_nursery() as nursery:
        stream = await streams.open(nursery)
        streams.places.draining.set()
        assert (await read_all(stream)).endswith(b"0\r\n\r\n")
        late = await read_all(await streams.open(nursery))
    assert late.startswith(b"HTTP/1.1 503 ")
    assert b"draining" in late
    assert trio.current_time() <= 0.5


async def test_streams_are_bounded_in_number(autojump_clock: CLOCK) -> None:
    """With all places taken, a further stream gets 503 and Retry-After; a place that becomes free is taken again."""
    streams = Streams(places=2)
    async with trio.open_nursery() as nursery:
        first = await streams.open(nursery)
        await streams.open(nursery)
        refused = await read_all(await streams.open(nursery))
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in refused
        await first.aclose()
        await trio.sleep(1)
        assert (await received(await streams.open(nursery))).startswith("HTTP/1.1 200 ")
        assert streams.places.taken == 2
        nursery.cancel_scope.cancel()


async def test_peer_that_reads_nothing_is_left(autojump_clock: CLOCK) -> None:
    """A peer that takes no bytes for 5 s loses its stream, and its place is free again."""
    streams = Streams()
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, streams.server.context, ours)
        await theirs.send_all(b"GET /api/live/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert trio.current_time() == 5
    assert streams.places.taken == 0


async def test_head_of_a_stream_ends(autojump_clock: CLOCK) -> None:
    """HEAD has the type of a stream, and ends at once."""
    streams = Streams()
    async with trio.open_nursery() as nursery:
        stream = streams.server.open(nursery)
        await stream.send_all(b"HEAD /api/live/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await read_all(stream)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"text/event-stream" in answer
    assert trio.current_time() <= 0.5


async def test_slow_peers_learn_what_they_lost(autojump_clock: CLOCK) -> None:
    """A peer that reads too slowly loses the oldest events and is told how many; the newest arrive."""
    streams = Streams()
    async with trio.open_nursery() as nursery:
        stream = await streams.open(nursery)
        for number in range(20):
            streams.publish(number)
        text = await received(stream)
        lost = json.loads(text.partition("event: dropped\ndata: ")[2].partition("\n")[0])["dropped"]
        assert lost + text.count("event: turn_started") == 20
        assert "id: 20\n" in text
        await stream.aclose()


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example"])
async def test_strangers_get_no_stream(host: str, autojump_clock: CLOCK) -> None:
    """A request that the access rule refuses gets no stream, and takes no place."""
    streams = Streams()
    async with trio.open_nursery() as nursery:
        stream = streams.server.open(nursery)
        await stream.send_all(f"GET /api/live/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert (await read_all(stream)).startswith(b"HTTP/1.1 403 ")
    assert streams.places.taken == 0


async def test_open_streams_make_no_room_for_strangers(autojump_clock: CLOCK) -> None:
    """A stream does not count among the connections that are closed when strangers open too many."""
    streams = Streams()
    async with trio.open_nursery() as nursery:
        stream = await streams.open(nursery)
        assert len(streams.server.context.unproven) == 0
        streams.server.context.unproven.close_oldest()
        streams.publish()
        assert "turn_started" in await received(stream)
        await stream.aclose()
