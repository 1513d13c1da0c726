"""Streams of events to windows: server-sent events, as the WHATWG's HTML standard defines them (section 9.2).

A stream lasts until its peer has closed the connection or reads no more, its call is over, or a draining server's calls
are over or out of time. An ``EventSource`` connects again by itself, and says with ``Last-Event-ID`` how far it got.
"""

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Final

import trio
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from patter_trio.abc import EventRecord, EventStream
from patter_trio.server.application import STREAMS_KEY
from patter_trio.server.http import PROVEN_KEY
from patter_trio.server.stream_places import StreamPlaces

# Below the minute after which common proxies close a silent connection.
KEEPALIVE_S: Final = 15.0
"""Seconds without an event after which a comment is sent."""
# Judged: a page shows that it is behind, and a restarted server is not asked by all pages in the same instant.
RETRY_MS: Final = 2000
"""Milliseconds after which a page connects again."""


class EventStreamResponse(Response):
    """A stream of events as a response.

    Args:
        opened: opens the stream of records.
    """

    media_type: str | None = "text/event-stream"

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[EventStream]]) -> None:
        # ``x-accel-buffering``: nginx would keep events back until its buffer is full.
        super().__init__(headers={"x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the stream, the peer or the server ends."""
        places: StreamPlaces = scope[STREAMS_KEY]
        if scope["method"] == "HEAD":
            # The head alone: a stream without a body would take a place for ever.
            await super().__call__(scope, receive, send)
            return
        if why := places.refusal():
            refusal = JSONResponse({"error": why}, HTTPStatus.SERVICE_UNAVAILABLE, {"retry-after": "5"})
            await refusal(scope, receive, send)
            return
        with places.one():
            # The access rule has let the peer in: it need not make room for connections that have proved nothing.
            scope.get(PROVEN_KEY, lambda: None)()
            await self._stream(places.draining, receive, send)

    async def _stream(self, draining: trio.Event, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

        async def until_gone() -> None:
            # The rest of the request may come before.
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel(reason="the peer has left")

        async def until_drained() -> None:
            await draining.wait()
            nursery.cancel_scope.cancel(reason="the server drains")

        async with self._opened() as stream, trio.open_nursery() as nursery:
            nursery.start_soon(until_gone)
            nursery.start_soon(until_drained)
            await _send_records(stream, send)
            nursery.cancel_scope.cancel(reason="the stream is over")
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_records(stream: EventStream, send: Send) -> None:
    async def write(text: str) -> None:
        await send({"type": "http.response.body", "body": text.encode(errors="replace"), "more_body": True})

    # At once, so that the page knows that it is connected.
    await write(f"retry: {RETRY_MS}\n\n")
    lost = 0
    while True:
        record = None
        with trio.move_on_after(KEEPALIVE_S):
            try:
                record = await anext(stream)
            except StopAsyncIteration:
                return
        await write(": nothing new\n\n" if record is None else event_text(record))
        # Behind the record that took the place: a page that shows a call must know that something is missing.
        if stream.dropped > lost:
            await write(f'event: dropped\ndata: {{"dropped": {stream.dropped - lost}}}\n\n')
            lost = stream.dropped


def event_text(record: EventRecord) -> str:
    """Return a record as an event of the stream."""
    # In one line: JSON escapes line ends, which would end the field.
    return f"id: {record['seq']}\nevent: {record['type']}\ndata: {json.dumps(record, ensure_ascii=False)}\n\n"
