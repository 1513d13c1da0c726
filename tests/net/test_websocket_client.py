"""The WebSocket client: it always reads, writes nothing after a send that was cut off, and closes in time."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import attrs
import pytest
import trio
import trio.testing

from patter_trio.errors import AuthenticationError, ProviderError, ProviderTimeout, RateLimitError
from patter_trio.net.websocket import SocketClosed, Upgrade, WebSocket, receive_upgrade
from patter_trio.net.websocket_client import (
    CLOSE_TIMEOUT_S,
    MAX_WAITING_MESSAGES,
    SEND_TIMEOUT_S,
    ConnectionOver,
    WebSocketClient,
    open_websocket,
)
from patter_trio.testing.carriers.faulty_stream import FaultyStream
from tests.kit.web import serving

URL = "ws://agent.test/chat?key=hush"


@attrs.define
class BothEnds:
    """Both ends of a connection: faults strike the client's end, and ``converse`` is the server."""

    converse: Callable[[WebSocket], Awaitable[None]]
    ours: FaultyStream | None = None
    upgrade: Upgrade | None = None
    closed: list[SocketClosed] = attrs.field(factory=list)

    async def open(self, nursery: trio.Nursery, url: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(self.serve, theirs)
        self.ours = FaultyStream(ours)
        return self.ours

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.upgrade = await receive_upgrade(stream, bytes(await stream.receive_some(65536)))
        socket = await self.upgrade.accept()
        try:
            await self.converse(socket)
        except SocketClosed as closed:
            self.closed.append(closed)


@asynccontextmanager
async def connected(line: BothEnds) -> AsyncIterator[WebSocketClient]:
    async with trio.open_nursery() as nursery:
        async with open_websocket(URL, headers={"X-Who": "me"}, open_stream=partial(line.open, nursery)) as client:
            yield client
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def echoes(socket: WebSocket) -> None:
    while True:
        await socket.send(await socket.receive())


async def listens(socket: WebSocket) -> None:
    while True:
        await socket.receive()


async def test_client_exchanges_messages_and_closes_orderly(autojump_clock: trio.testing.MockClock) -> None:
    """The client exchanges text and binary messages and closes with code 1000."""
    line = BothEnds(echoes)
    async with connected(line) as client:
        for message in ("text", b"binary"):
            await client.send(message)
            assert await client.receive() == message
        assert client.usable
        assert repr(client) == "<WebSocketClient ws://agent.test>"
    assert [closed.code for closed in line.closed] == [1000]
    assert line.upgrade is not None
    assert (line.upgrade.path, line.upgrade.headers["X-Who"]) == ("/chat?key=hush", "me")


async def test_client_answers_pings_while_idle(autojump_clock: trio.testing.MockClock) -> None:
    """The client answers pings while no task waits for a message."""
    heard: list[bool] = []

    async def pings(socket: WebSocket) -> None:
        for _ in range(3):
            await trio.sleep(10)
            socket.ping()
            await socket.flush()
            with trio.move_on_after(1):
                await socket.receive()
            heard.append(socket.heard_at == trio.current_time() - 1)

    async with connected(BothEnds(pings)):
        await trio.sleep(60)
    assert heard == [True, True, True]


async def test_idle_client_notices_close_and_keeps_messages(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """An idle client notices the peer's close and still delivers the messages that came before it."""

    async def says_goodbye(socket: WebSocket) -> None:
        await socket.send("Goodbye.")
        await socket.aclose(4000, "no more")

    async with connected(BothEnds(says_goodbye)) as client:
        await client.ended.wait()
        assert not client.usable
        assert await client.receive() == "Goodbye."
        with pytest.raises(
            ConnectionOver, match=r"to ws://agent\.test ended: websocket closed \(4000, no more\)"
        ) as raised:
            await client.receive()
        assert raised.value.code == 4000
        with pytest.raises(ConnectionOver):
            await client.send("x")


async def test_a_reset_is_a_failure_of_the_peers(autojump_clock: trio.testing.MockClock) -> None:
    """A TCP reset raises ConnectionOver, a ProviderError, with code 1006."""
    line = BothEnds(listens)
    async with connected(line) as client:
        assert line.ours is not None
        line.ours.reset()
        with pytest.raises(ConnectionOver) as raised:
            await client.receive()
        assert raised.value.code == 1006
        assert isinstance(raised.value, ProviderError)


async def test_cancelled_send_makes_connection_unusable(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A cancelled send makes the connection unusable, and the client writes nothing more to it."""
    line = BothEnds(listens)
    async with connected(line) as client:
        assert line.ours is not None
        line.ours.stop_reading()
        with trio.move_on_after(1.0):
            await client.send("x" * 100_000)
        assert not client.usable
        with pytest.raises(ConnectionOver):
            await client.send("y")
        operations = line.ours.operations
    assert line.ours.operations <= operations + 1  # nothing is written behind half a frame
    assert trio.current_time() == pytest.approx(1.0)


async def test_unread_send_times_out_after_five_seconds(autojump_clock: trio.testing.MockClock) -> None:
    """A send to a peer that does not read raises ProviderTimeout after five seconds."""
    line = BothEnds(listens)
    async with connected(line) as client:
        assert line.ours is not None
        line.ours.stop_reading()
        with pytest.raises(ProviderTimeout, match="did not read for 5 s"):
            await client.send("x" * 100_000)
    assert trio.current_time() == pytest.approx(SEND_TIMEOUT_S)


async def test_queued_send_has_the_same_five_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A send that waits behind another also times out after five seconds in all."""
    line = BothEnds(listens)
    late: list[float] = []

    async def send(client: WebSocketClient) -> None:
        with pytest.raises(ProviderTimeout, match="did not read for 5 s"):
            await client.send("x" * 100_000)
        late.append(trio.current_time())

    async with connected(line) as client:
        assert line.ours is not None
        line.ours.stop_reading()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, client)
            nursery.start_soon(send, client)
    assert late == [pytest.approx(SEND_TIMEOUT_S)] * 2


async def test_send_cancelled_before_start_keeps_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A send that is cancelled before it starts leaves the connection usable."""
    async with connected(BothEnds(echoes)) as client:
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.send("never said")
        assert scope.cancelled_caught
        assert client.usable
        await client.send("said")
        assert await client.receive() == "said"


async def test_closing_does_not_wait_for_a_frozen_peer(autojump_clock: trio.testing.MockClock) -> None:
    """Closing waits 50 ms for a frozen peer."""
    line = BothEnds(echoes)
    async with connected(line):
        assert line.ours is not None
        line.ours.freeze()
    assert trio.current_time() == pytest.approx(CLOSE_TIMEOUT_S)


async def test_untaken_messages_apply_backpressure(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Messages that no task takes stop the reading from the network and use bounded memory."""

    async def floods(socket: WebSocket) -> None:
        while True:
            await trio.sleep(0.01)
            await socket.send("x" * 16_000)

    line = BothEnds(floods)
    async with connected(line) as client:
        await trio.sleep(2)
        assert line.ours is not None
        read = line.ours.operations
        await trio.sleep(60)
        assert line.ours.operations == read  # nothing more is taken from the network
        assert client.discard() == MAX_WAITING_MESSAGES + 1  # and the one that the reader holds
        await client.receive()  # and it goes on


async def test_what_fails_in_the_block_comes_out_bare(autojump_clock: trio.testing.MockClock) -> None:
    """An error of the block leaves open_websocket() without an exception group."""
    with pytest.raises(ProviderError, match="the block's own"):
        async with open_websocket(
            URL, open_stream=partial(BothEnds(echoes).open, trio.lowlevel.current_task().parent_nursery)
        ):
            raise ProviderError("the block's own")


async def test_several_tasks_may_send(autojump_clock: trio.testing.MockClock) -> None:
    """Twenty tasks send 10,000 characters or more at once, and each message arrives whole."""
    async with connected(BothEnds(echoes)) as client:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(client.send, f"{number}" * 10_000)
        assert sorted({(await client.receive())[:2] for _ in range(20)}) == sorted(
            {f"{number}" * 2 for number in range(10)} | {f"{number}" for number in range(10, 20)}
        )


@pytest.mark.parametrize(
    ("status", "error"),
     [(401, AuthenticationError), (403, AuthenticationError), (429, RateLimitError), (500, ProviderError)]
)  # fmt: skip
async def test_a_refusal_says_its_status(
    autojump_clock: trio.testing.MockClock, status: int, error: type[ProviderError]
) -> None:
    """A refused upgrade raises the error class of its HTTP status; its text names origin and status only."""

    async def refuse(stream: trio.abc.Stream) -> None:
        upgrade = await receive_upgrade(stream, bytes(await stream.receive_some(65536)))
        await upgrade.refuse(status, "hush")
        await stream.aclose()

    async def open_stream(url: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(refuse, theirs)
        return ours

    async with trio.open_nursery() as nursery:
        with pytest.raises(ProviderError) as raised:
            async with open_websocket(URL, open_stream=open_stream):
                pass
    assert type(raised.value) is error
    assert str(raised.value) == f"ws://agent.test refused the connection: status {status}"


async def test_open_websocket_deadline_names_unreachable_host(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Opening a WebSocket has a five-second deadline, and its error names the unreachable host."""

    async def open_stream(url: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return trio.testing.memory_stream_pair()[0]  # nobody is at the other end

    with pytest.raises(ProviderTimeout, match=r"ws://agent\.test could not be reached within 5 s"):
        async with open_websocket(URL, open_stream=open_stream):
            pass
    assert trio.current_time() == pytest.approx(5.0)
    async with serving(converse=lambda socket, upgrade: echoes(socket)) as web:
        pass
    with pytest.raises(ProviderError, match="could not be reached"):
        async with open_websocket(web.url):
            pass


async def test_over_sockets_too(autojump_clock: trio.testing.MockClock) -> None:
    """The client exchanges messages over real sockets and disconnects at the end of its block."""
    async with serving(converse=lambda socket, upgrade: echoes(socket)) as web:
        async with open_websocket(f"{web.url}/chat") as client:
            await client.send("Hello")
            assert await client.receive() == "Hello"
        await trio.testing.wait_all_tasks_blocked()
        assert len(web.left) == 1
