"""The streams of the browser phone, over raw sockets on loopback: whose page opens them, and with which ticket."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from patter_trio import Patter
from patter_trio.errors import WireError
from patter_trio.net.websocket import SocketClosed, WebSocket, connect
from patter_trio.server.listeners import open_listeners
from patter_trio.server.page_calls import MAX_PAGE_CALLS, AnnouncedPageCalls, LineBusy
from patter_trio.server.serving import serve_until_drained
from patter_trio.testing.scripted_providers.audible_text import Decoder
from tests.kit.call import agent_of

SILENCE = base64.b64encode(b"\xff" * 160).decode()
UNKNOWN = (1008, "the call is unknown, or its token is wrong, used or expired")


@attrs.define(eq=False)
class Port:
    """A served port, and its pages' side."""

    phone: Patter
    calls: AnnouncedPageCalls
    address: tuple[str, int]
    ends: list[dict[str, Any]]
    ended: trio.Event = attrs.field(factory=trio.Event)
    streams: list[trio.SocketStream] = attrs.field(factory=list)

    def on_call_end(self, event: dict[str, Any]) -> None:
        self.ends.append(event)
        self.ended.set()

    @property
    def origin(self) -> str:
        host, port = self.address
        return f"http://{host}:{port}"

    async def open(self, call_id: str, origin: str | None = "own", prefix: str = "browser") -> WebSocket:
        """Open a socket as a page does whose address is ``origin``; None: without the header."""
        stream = await trio.open_tcp_stream(*self.address)
        self.streams.append(stream)
        headers = {} if origin is None else {"Origin": self.origin if origin == "own" else origin}
        host, port = self.address
        return await connect(stream, f"ws://{host}:{port}/ws/{prefix}/stream/{call_id}", headers)

    async def started(self, call_id: str, ticket: str, origin: str | None = "own") -> WebSocket:
        socket = await self.open(call_id, origin)
        await socket.send(json.dumps({"event": "start", "call_id": call_id, "ticket": ticket}))
        return socket


@asynccontextmanager
async def served() -> AsyncIterator[Port]:
    """Serve an agent that greets with "Hello." to pages and to carriers."""
    phone, calls = Patter(), AnnouncedPageCalls("+15550100002")
    listeners = await open_listeners("127.0.0.1", 0)
    port = Port(phone, calls, listeners[0].socket.getsockname()[:2], [])
    options = phone._serve_options(
        agent_of(first_message="Hello."),
        public_url=port.origin,
        callbacks={"on_call_end": port.on_call_end},
    )
    serve = partial(serve_until_drained, attrs.evolve(options, page_calls=calls), listeners, None, 0.0)
    with trio.fail_after(20):  # a stuck socket fails the test
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: serve(task_status=task_status))
            yield port
            nursery.cancel_scope.cancel()
    for stream in port.streams:
        await trio.aclose_forcefully(stream)


async def words(socket: WebSocket, until: str) -> str:
    """Send silence and mark what was played, until the words are heard."""
    ear, heard = Decoder(), ""
    async with trio.open_nursery() as nursery:

        async def speak() -> None:
            while True:
                await socket.send(json.dumps({"event": "media", "payload": SILENCE}))
                await trio.sleep(0.02)

        nursery.start_soon(speak)
        while until not in heard:
            message = json.loads(await socket.receive())
            if message["event"] == "media":
                heard += "".join(sound.words for sound in ear.feed(base64.b64decode(message["payload"])))
        nursery.cancel_scope.cancel()
    return heard


async def closing(socket: WebSocket) -> tuple[int, str]:
    try:
        while True:
            await socket.receive()
    except SocketClosed as closed:
        return closed.code, closed.reason


async def test_page_with_ticket_hears_the_agent() -> None:
    """A page of the server's own with a ticket hears the agent; its stop ends the call as a hang-up."""
    async with served() as port:
        ticket = port.calls.announce()
        socket = await port.started(ticket.call_id, ticket.ticket)
        assert await words(socket, "Hello.") == "Hello."
        [call] = port.phone.calls
        assert (call.call_id, call.telephony_provider) == (ticket.call_id, "browser")
        await socket.send('{"event": "stop"}')
        assert (await closing(socket))[0] == 1000
        await port.ended.wait()
    assert [end["outcome"] for end in port.ends] == ["caller_hung_up"]


@pytest.mark.parametrize("origin", [None, "null", "http://evil.test", "http://localhost:1"])
async def test_other_sites_open_no_stream(origin: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """A page of another site, and a program without Origin, are refused before the upgrade; the ticket stays valid."""
    async with served() as port:
        ticket = port.calls.announce()
        with pytest.raises(WireError, match="403"):
            await port.open(ticket.call_id, origin)
        assert await words(await port.started(ticket.call_id, ticket.ticket), "Hello.") == "Hello."
    assert "must be opened by its own page" in caplog.text
    assert ticket.ticket not in caplog.text


async def test_pages_open_no_streams_of_carriers(caplog: pytest.LogCaptureFixture) -> None:
    """An upgrade with Origin on a carrier's prefix is refused, also from a page of the server's own."""
    async with served() as port:
        for origin in ("own", "http://evil.test"):
            with pytest.raises(WireError, match="403"):
                await port.open("CA1", origin, prefix="twilio")
        # Without it the socket is accepted, and judged by its token as before.
        socket = await port.open("CA1", None, prefix="twilio")
        await socket.aclose()
    assert "a page must not open the media stream of a carrier" in caplog.text


async def test_stranger_without_ticket_is_refused() -> None:
    """A guessed id, a guessed ticket, and a start without a ticket open nothing."""
    async with served() as port:
        ticket = port.calls.announce()
        assert await closing(await port.started("BR1", "0" * 64)) == UNKNOWN
        assert await closing(await port.started(ticket.call_id, "0" * 64)) == UNKNOWN
        empty = (1008, "the start message must have a token")
        assert await closing(await port.started(ticket.call_id, "")) == empty
        assert await words(await port.started(ticket.call_id, ticket.ticket), "Hello.") == "Hello."


async def test_stolen_ticket_opens_no_other_call() -> None:
    """A ticket opens neither another call, nor its own a second time, nor one over a carrier's prefix."""
    async with served() as port:
        mine, other = port.calls.announce(), port.calls.announce()
        assert await closing(await port.started(other.call_id, mine.ticket)) == UNKNOWN
        carrier = await port.open(mine.call_id, None, prefix="twilio")
        start = {"streamSid": "MZ1", "callSid": mine.call_id, "customParameters": {"token": mine.ticket}}
        await carrier.send(json.dumps({"event": "start", "streamSid": "MZ1", "start": start}))
        assert await closing(carrier) == UNKNOWN
        assert await words(await port.started(mine.call_id, mine.ticket), "Hello.") == "Hello."
        assert await closing(await port.started(mine.call_id, mine.ticket)) == UNKNOWN


async def test_second_page_leaves_the_call_alone() -> None:
    """Of two pages with one ticket the first has the call; the second is refused, and the first hears on."""
    async with served() as port:
        ticket = port.calls.announce()
        first = await port.started(ticket.call_id, ticket.ticket)
        assert await words(first, "Hello.") == "Hello."
        assert await closing(await port.started(ticket.call_id, ticket.ticket)) == UNKNOWN
        port.phone.calls[0].say("Still here.")
        assert "here." in await words(first, "here.")


async def test_page_closed_in_midcall_hangs_up() -> None:
    """A page that goes away ends its call at once as a hang-up; nobody waits for another stream."""
    async with served() as port:
        ticket = port.calls.announce()
        socket = await port.started(ticket.call_id, ticket.ticket)
        await words(socket, "Hello.")
        await socket.aclose(1001)
        with trio.fail_after(5):
            await port.ended.wait()
    assert [end["outcome"] for end in port.ends] == ["caller_hung_up"]


async def test_page_that_crashes_ends_its_call() -> None:
    """A connection that breaks without a close ends the call at once, too: the page is the phone, and is gone."""
    async with served() as port:
        ticket = port.calls.announce()
        socket = await port.started(ticket.call_id, ticket.ticket)
        await words(socket, "Hello.")
        await trio.aclose_forcefully(socket._stream)
        with trio.fail_after(5):
            await port.ended.wait()
    assert [end["outcome"] for end in port.ends] == ["caller_hung_up"]


async def test_too_many_pages_hear_busy() -> None:
    """Beyond the limit of announced calls a page hears busy, and so does one before the server serves."""
    with pytest.raises(LineBusy, match="no calls yet"):
        AnnouncedPageCalls().announce()
    async with served() as port:
        tickets = [port.calls.announce() for _ in range(MAX_PAGE_CALLS)]
        assert len({ticket.ticket for ticket in tickets}) == len({ticket.call_id for ticket in tickets}) == 8
        with pytest.raises(LineBusy, match="8"):
            port.calls.announce()
