"""A dashboard in Debian's Chromium: its pages over a memory of calls and a scripted live call."""

import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import attrs
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from patter_trio.abc import EventRecord, EventStream, LiveCall
from patter_trio.dashboard.log_lines import LogLines
from patter_trio.dashboard.recent_calls import RecentCalls
from patter_trio.dashboard.routes import dashboard_routes
from patter_trio.errors import CallEnded
from patter_trio.events.feed import FeedStream
from patter_trio.pages.assets import shared_routes
from patter_trio.server.application import STREAMS_KEY
from patter_trio.server.archive_api import archive_routes
from patter_trio.server.live_api import live_routes
from patter_trio.server.stream_places import StreamPlaces


@attrs.define(eq=False)
class ScriptedLiveCalls:
    """Live calls that a test sets (``abc.LiveCalls``); it keeps the orders."""

    live: list[LiveCall] = attrs.field(factory=list)
    orders: list[tuple[Any, ...]] = attrs.field(factory=list)
    streams: list[FeedStream] = attrs.field(factory=list)

    def calls(self) -> Sequence[LiveCall]:
        return tuple(self.live)

    def call(self, call_id: str) -> LiveCall | None:
        return next((call for call in self.live if call.call_id == call_id), None)

    @asynccontextmanager
    async def subscribe(
        self, call_id: str = "", *, after: int | None = None, chunks: bool = False, size: int = 1024
    ) -> AsyncIterator[EventStream]:
        del after
        stream = FeedStream(call_id, chunks=chunks, size=size)
        self.streams.append(stream)
        try:
            yield stream
        finally:
            self.streams.remove(stream)
            stream.close()

    def put(self, record: EventRecord) -> None:
        """Give an event to all streams; within the server's loop."""
        for stream in self.streams:
            if stream.wants(record):
                stream.put(record)

    def _order(self, name: str, call_id: str, *given: object) -> None:
        if self.call(call_id) is None:
            raise CallEnded("over")
        self.orders.append((name, call_id, *given))

    def say(self, call_id: str, text: str, *, interrupt: bool = False) -> None:
        self._order("say", call_id, text, interrupt)

    def hang_up(self, call_id: str) -> None:
        self._order("hang_up", call_id)

    async def transfer(self, call_id: str, to: str) -> None:
        self._order("transfer", call_id, to)

    def send_text(self, call_id: str, text: str) -> None:
        self._order("text", call_id, text)


@attrs.define(eq=False)
class ServedDashboard:
    """A dashboard that runs in a thread of its own."""

    live: ScriptedLiveCalls
    memory: RecentCalls
    url: str = ""
    _token: trio.lowlevel.TrioToken | None = None
    _stop: trio.Event = attrs.field(factory=trio.Event)
    _began: threading.Event = attrs.field(factory=threading.Event)

    def happens(self, *records: EventRecord) -> None:
        """Let events happen; return when the memory and the streams have them."""
        assert self._token is not None

        def take() -> None:
            for record in records:
                self.memory.take(record)
                self.live.put(record)

        trio.from_thread.run_sync(take, trio_token=self._token)

    async def run(self) -> None:
        """Serve until stopped."""
        routes = [*live_routes(self.live), *archive_routes(self.memory), *shared_routes()]
        app, places = Starlette(routes=[*routes, *dashboard_routes(LogLines(), has_log=False)]), StreamPlaces()

        async def with_places(scope: Scope, receive: Receive, send: Send) -> None:
            scope[STREAMS_KEY] = places
            await app(scope, receive, send)

        config = Config()
        config.bind = ["127.0.0.1:0"]
        config.errorlog = config.accesslog = None
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            [address] = await nursery.start(_serve, with_places, config)
            self.url = f"{address}/dashboard/"
            self._began.set()
            await self._stop.wait()
            nursery.cancel_scope.cancel()

    def stop(self) -> None:
        assert self._token is not None
        trio.from_thread.run_sync(self._stop.set, trio_token=self._token)

    def wait_until_served(self) -> None:
        assert self._began.wait(20)


async def _serve(app: Any, config: Config, task_status: trio.TaskStatus[Any]) -> None:
    await serve(app, config, task_status=task_status)


@contextmanager
def serving_dashboard(memory: RecentCalls, live: Mapping[str, Any] | None = None) -> Iterator[ServedDashboard]:
    """Serve the dashboard on a free port of this machine."""
    calls = [] if live is None else [LiveCall(**live)]
    served = ServedDashboard(ScriptedLiveCalls(calls), memory)
    thread = threading.Thread(target=trio.run, args=(served.run,))
    thread.start()
    try:
        served.wait_until_served()
        yield served
    finally:
        served.stop()
        thread.join()
