"""Faults on a WebSocket: each ends in time, as an error of this package, and the client writes nothing after it."""

import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing

from patter_trio.errors import AuthenticationError, ProviderError, ProviderTimeout
from patter_trio.net.websocket import MAX_MESSAGE_BYTES
from patter_trio.net.websocket_client import CLOSE_TIMEOUT_S, ConnectionOver, open_websocket
from patter_trio.net.websocket_wire import MAX_MESSAGE_WIRE_BYTES, SEND_TIMEOUT_S
from patter_trio.testing.conformance.bench import cancelled_at

URL = "ws://agent.test/chat"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, size: int | None = None) -> bytes:
    """Return a server's frame; ``size`` is the length that its header claims."""
    size = len(payload) if size is None else size
    first = bytes([opcode | 0x80 * final])
    if size < 126:
        return first + bytes([size]) + payload
    if size < 65536:
        return first + b"\x7e" + size.to_bytes(2, "big") + payload
    return first + b"\x7f" + size.to_bytes(8, "big") + payload


@attrs.define(eq=False)
class Wire(trio.abc.Stream):
    """The client's end: it records each write and the close; a write takes ``seconds`` before its data is sent."""

    stream: trio.abc.Stream
    seconds: float = 0.0
    writes: list[tuple[float, bytes]] = attrs.field(factory=list)
    closed_at: float | None = None
    read: int = 0

    async def send_all(self, data: bytes) -> None:
        await trio.sleep(self.seconds)
        self.writes.append((trio.current_time(), bytes(data)))
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = bytes(await self.stream.receive_some(max_bytes))
        self.read += len(data)
        return data

    async def aclose(self) -> None:
        if self.closed_at is None:
            self.closed_at = trio.current_time()
        await self.stream.aclose()


@attrs.define(eq=False)
class Server:
    """The server's end: the test sends each byte itself."""

    stream: trio.abc.Stream
    received: bytearray = attrs.field(factory=bytearray)

    async def request(self) -> bytes:
        while b"\r\n\r\n" not in self.received:
            data = await self.stream.receive_some(4096)
            if not data:
                raise trio.BrokenResourceError("the client left")
            self.received += data
        head, _, rest = bytes(self.received).partition(b"\r\n\r\n")
        self.received = bytearray(rest)
        return head

    def answer_to(self, request: bytes, **more: str) -> bytes:
        [key] = [line.split(b": ")[1] for line in request.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key")]
        proof = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()  # noqa: S324 (RFC 6455 demands it)
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        lines.append(f"Sec-WebSocket-Accept: {base64.b64encode(proof).decode()}")
        return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in more.items()), "", ""]).encode("latin-1")

    async def accept(self) -> None:
        await self.stream.send_all(self.answer_to(await self.request()))

    def __aiter__(self) -> "Server":
        return self

    async def __anext__(self) -> tuple[int, bytes]:
        """Return the client's next frame: its opcode and its payload."""
        while len(self.received) < 2 or len(self.received) < 6 + self._size():
            data = await self.stream.receive_some(65536)
            if not data:
                raise StopAsyncIteration
            self.received += data
        size, long = self._size(), {126: 2, 127: 8}.get(self.received[1] & 127, 0)
        opcode, masked = self.received[0] & 15, self.received[2 + long : 6 + size]
        del self.received[: 6 + size]
        return opcode, bytes(byte ^ masked[index % 4] for index, byte in enumerate(masked[4:]))

    def _size(self) -> int:
        """Return the bytes of the frame that is at hand, without the first two and the mask."""
        short = self.received[1] & 127
        if short < 126:
            return short
        return int.from_bytes(self.received[2 : 4 if short == 126 else 10], "big") + (2 if short == 126 else 8)


Behave = Callable[[Server], Awaitable[None]]


@asynccontextmanager
async def server_that(behave: Behave, seconds: float = 0.0) -> AsyncIterator[Callable[[str], Awaitable[Wire]]]:
    """Give a function for ``open_stream``; its ``wire`` is the client's end of the last connection."""

    async def run(stream: trio.abc.Stream) -> None:
        try:
            await behave(Server(stream))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def open_stream(url: str) -> Wire:
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(run, theirs)
        open_stream.wire = Wire(ours, seconds)  # type: ignore[attr-defined]
        return open_stream.wire  # type: ignore[attr-defined,no-any-return]

    async with trio.open_nursery() as nursery:
        try:
            yield open_stream
        finally:
            nursery.cancel_scope.cancel()


async def fails(behave: Behave, kind: type[BaseException] = ProviderError, within: float = 5.0) -> str:
    """Open a connection that must fail; return the text of the ungrouped error."""
    async with server_that(behave) as open_stream:
        with pytest.raises(kind) as raised:
            async with open_websocket(URL, open_stream=open_stream, connect_timeout=within, why="x-reason"):
                raise AssertionError("it is open")
        assert raised.type is kind
        assert open_stream.wire.closed_at == trio.current_time()  # type: ignore[attr-defined]
        return str(raised.value)


async def silence(server: Server) -> None:
    await trio.sleep_forever()


# Opening --------------------------------------------------------------------------------------------------------------
async def test_refusal_does_not_wait_for_its_body(autojump_clock: trio.testing.MockClock) -> None:
    """A refusal raises at the end of its head: neither a missing body nor a missing length delays it."""
    for length in ("Content-Length: 100\r\n", ""):

        async def refuse(server: Server, length: str = length) -> None:
            await server.request()
            await server.stream.send_all(f"HTTP/1.1 401 No\r\n{length}X-Reason: bad key\r\n\r\n".encode())
            await trio.sleep_forever()

        assert await fails(refuse, AuthenticationError) == "ws://agent.test refused the connection: status 401, bad key"
        assert trio.current_time() == 0


async def test_refusal_byte_by_byte(autojump_clock: trio.testing.MockClock) -> None:
    """A refusal that arrives byte by byte raises with the last byte of its head."""

    async def refuse(server: Server) -> None:
        await server.request()
        for byte in b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n":
            await trio.sleep(0.1)
            await server.stream.send_all(bytes([byte]))
        await trio.sleep_forever()

    assert await fails(refuse) == "ws://agent.test refused the connection: status 503"
    assert trio.current_time() == pytest.approx(4.0)


async def test_handshake_byte_by_byte_then_speech(autojump_clock: trio.testing.MockClock) -> None:
    """A slow handshake succeeds, and a frame in the same segment as its last byte is a message."""

    async def answer(server: Server) -> None:
        head = server.answer_to(await server.request())
        for byte in head[:-1]:
            await trio.sleep(0.01)
            await server.stream.send_all(bytes([byte]))
        await server.stream.send_all(head[-1:] + frame(TEXT, b"Hello"))
        await trio.sleep_forever()

    async with (
        server_that(answer) as open_stream,
        open_websocket(URL, open_stream=open_stream) as client,
    ):
        assert await client.receive() == "Hello"


async def test_handshake_that_trickles_misses_the_deadline(autojump_clock: trio.testing.MockClock) -> None:
    """A byte every 0.5 s does not extend the deadline of 5 s."""

    async def trickle(server: Server) -> None:
        while True:
            await trio.sleep(0.5)
            await server.stream.send_all(b"H")

    assert await fails(trickle, ProviderTimeout) == "ws://agent.test could not be reached within 5 s"
    assert trio.current_time() == pytest.approx(5.0)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 101 Switching"])
async def test_end_during_the_handshake(autojump_clock: trio.testing.MockClock, sent: bytes) -> None:
    """A server that ends the connection before its answer raises ConnectionOver at once, with code 1006."""

    async def leave(server: Server) -> None:
        await server.request()
        await server.stream.send_all(sent)
        await server.stream.aclose()

    message = "the connection to ws://agent.test ended: websocket closed (1006, connection lost)"
    assert await fails(leave, ConnectionOver) == message
    assert trio.current_time() == 0


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "the answer must be an HTTP/1.1 response"),
        (b"HTTP/1.1 101 S\r\nX: " + b"x" * 20_000, "the head of the answer must have at most 16384 bytes"),
    ],
)
async def test_answer_that_is_not_http(autojump_clock: trio.testing.MockClock, head: bytes, message: str) -> None:
    """An answer of another protocol, or a head of more than 16384 bytes, raises ProviderError at once."""

    async def answer(server: Server) -> None:
        await server.request()
        await server.stream.send_all(head)
        await trio.sleep_forever()

    assert await fails(answer) == f"ws://agent.test: {message}"
    assert trio.current_time() == 0


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 S\r\n\r\n",
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
        b"HTTP/1.1 101 S\r\nConnection: \xff\r\n\r\n",
        b"HTTP/1.1 101 S\r\nno colon\r\n\r\n",
    ],
)
async def test_malformed_handshake(autojump_clock: trio.testing.MockClock, head: bytes) -> None:
    """A 101 that violates RFC 6455 raises ProviderError at once, also where it crashes wsproto's reader."""

    async def answer(server: Server) -> None:
        await server.request()
        await server.stream.send_all(head)
        await trio.sleep_forever()

    assert await fails(answer) == "ws://agent.test must answer the WebSocket handshake as RFC 6455 requires"
    assert trio.current_time() == 0


async def test_header_that_http_forbids_is_not_quoted(autojump_clock: trio.testing.MockClock) -> None:
    """A key with a line end reaches neither the wire nor the error."""
    async with server_that(silence) as open_stream:
        with pytest.raises(ProviderError) as raised:
            async with open_websocket(URL, headers={"Authorization": "secret\n"}, open_stream=open_stream):
                pass
    assert str(raised.value) == "ws://agent.test: the URL and the headers must have only characters that HTTP allows"
    assert raised.value.__cause__ is None
    assert not open_stream.wire.writes  # type: ignore[attr-defined]


async def test_request_names_host_and_target(autojump_clock: trio.testing.MockClock) -> None:
    """The request names a port other than the scheme's, an ASCII target, and the URL's user in a header."""
    requests: list[bytes] = []

    async def answer(server: Server) -> None:
        requests.append(await server.request())
        await server.stream.aclose()

    for url in ("ws://agent.test:80", "ws://a%40b:c@[::1]:8080/\N{LATIN SMALL LETTER A WITH DIAERESIS}?q=a%20b"):
        async with server_that(answer) as open_stream:
            with pytest.raises(ConnectionOver):
                async with open_websocket(url, headers={"X-Key": "1"}, open_stream=open_stream):
                    pass
    first, second = (request.split(b"\r\n") for request in requests)
    assert (first[0], first[1]) == (b"GET / HTTP/1.1", b"Host: agent.test")
    assert (second[0], second[1]) == (b"GET /%C3%A4?q=a%20b HTTP/1.1", b"Host: [::1]:8080")
    assert b"Authorization: Basic YUBiOmM=" in second
    assert {b"User-Agent: patter-trio", b"X-Key: 1"} <= set(first)


# Reading --------------------------------------------------------------------------------------------------------------
async def test_pings_are_answered_behind_unread_messages(autojump_clock: trio.testing.MockClock) -> None:
    """The client answers a ping behind 20 messages that no task has taken."""
    answered: list[bytes] = []

    async def ping(server: Server) -> None:
        await server.accept()
        await server.stream.send_all(frame(TEXT, b"x") * 20 + frame(PING, b"there?"))
        async for opcode, payload in server:
            if opcode == PONG:
                answered.append(payload)

    async with server_that(ping) as open_stream, open_websocket(URL, open_stream=open_stream) as client:
        await trio.testing.wait_all_tasks_blocked()
        assert answered == [b"there?"]
        assert client.discard() == 20


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"\xff"), 1007),
        (frame(3), 1002),
        (frame(CLOSE, b"\x00"), 1002),
        (frame(BINARY, b"x" * 1000, size=2**40) + b"x" * MAX_MESSAGE_BYTES, 1009),
        (frame(TEXT, final=False) + frame(0, b"x" * 1000, final=False) * 300, 1009),
    ],
    ids=["text that is not UTF-8", "reserved opcode", "bad close", "huge frame", "endless fragments"],
)
async def test_violation_is_answered_and_ends_it(
    autojump_clock: trio.testing.MockClock, sent: bytes, code: int
) -> None:
    """The peer gets a close frame with the reason, and the client reads nothing that the peer sends afterwards."""
    closes: list[bytes] = []

    async def flood(server: Server) -> None:
        while True:
            await trio.sleep(0.01)
            await server.stream.send_all(b"x" * 1000)

    async def violate(server: Server) -> None:
        await server.accept()
        await server.stream.send_all(sent)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood, server)
            async for opcode, payload in server:
                assert opcode == CLOSE
                closes.append(payload)

    async with server_that(violate) as open_stream:
        async with open_websocket(URL, open_stream=open_stream) as client:
            with pytest.raises(ConnectionOver) as raised:
                await client.receive()
            assert raised.value.code == code
            read = open_stream.wire.read  # type: ignore[attr-defined]
            await trio.sleep(1)
            assert open_stream.wire.read <= read + 1000  # type: ignore[attr-defined]
        await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() == pytest.approx(1 + CLOSE_TIMEOUT_S)
    [close] = closes
    assert int.from_bytes(close[:2], "big") == code


async def test_empty_fragments_are_bounded(autojump_clock: trio.testing.MockClock) -> None:
    """Empty fragments count with their bytes on the wire, so that an endless message raises ConnectionOver with 1009.

    Long pings among the fragments make the test short.
    """

    async def drip(server: Server) -> None:
        await server.accept()
        await server.stream.send_all(frame(TEXT, final=False))
        await server.stream.send_all((frame(0, final=False) + frame(PING, b"x" * 125)) * 6000)
        await trio.sleep_forever()

    async with server_that(drip) as open_stream, open_websocket(URL, open_stream=open_stream) as client:
        with pytest.raises(ConnectionOver, match="a message must be complete within") as raised:
            await client.receive()
        assert raised.value.code == 1009
        assert open_stream.wire.read < MAX_MESSAGE_WIRE_BYTES + 20_000  # type: ignore[attr-defined]


async def test_end_within_a_frame(autojump_clock: trio.testing.MockClock) -> None:
    """A connection that ends within a frame raises ConnectionOver with 1006, after the whole messages before it."""

    async def break_off(server: Server) -> None:
        await server.accept()
        await server.stream.send_all(frame(TEXT, b"whole") + frame(TEXT, b"half")[:-2])
        await server.stream.aclose()

    async with server_that(break_off) as open_stream, open_websocket(URL, open_stream=open_stream) as client:
        assert await client.receive() == "whole"
        with pytest.raises(ConnectionOver) as raised:
            await client.receive()
        assert raised.value.code == 1006
        assert client.ended.is_set()


# Writing --------------------------------------------------------------------------------------------------------------
async def test_pong_overtakes_the_queue(autojump_clock: trio.testing.MockClock) -> None:
    """The pong for a ping at 0.5 s follows the message in progress and precedes the eight that wait."""
    came: list[tuple[int, float]] = []

    async def ping(server: Server) -> None:
        await server.accept()
        begun = trio.current_time()
        await trio.sleep(0.5)
        await server.stream.send_all(frame(PING))
        async for opcode, _ in server:
            came.append((opcode, round(trio.current_time() - begun, 3)))

    async with (
        server_that(ping, seconds=0.4) as open_stream,
        open_websocket(URL, open_stream=open_stream) as client,
        trio.open_nursery() as nursery,
    ):
        for _ in range(10):
            nursery.start_soon(client.send, "x")
    pong = [opcode for opcode, _ in came].index(PONG)
    assert pong == 2  # behind the message that was on its way
    assert came[pong][1] == pytest.approx(1.2)


async def test_cancelled_send_in_the_queue(autojump_clock: trio.testing.MockClock) -> None:
    """A send that is cancelled in the queue never reaches the peer, and the connection stays usable."""
    said: list[bytes] = []

    async def listen(server: Server) -> None:
        await server.accept()
        async for opcode, payload in server:
            if opcode == TEXT:
                said.append(payload)

    async def give_up(message: str) -> None:
        with trio.move_on_after(0.5):
            await client.send(message)

    async with (
        server_that(listen, seconds=1.0) as open_stream,
        open_websocket(URL, open_stream=open_stream) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(client.send, "first")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(give_up, "second")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(client.send, "third")
        await trio.sleep(2.5)
        assert client.usable
    assert said == [b"first", b"third"]


async def test_cancelled_send_closes_tcp_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """A send that is cancelled on its way closes TCP at that instant, and nothing is written after it."""

    async def ping(server: Server) -> None:
        await server.accept()
        await trio.sleep(0.5)
        await server.stream.send_all(frame(PING) * 3)
        await trio.sleep_forever()

    async with (
        server_that(ping) as open_stream,
        open_websocket(URL, open_stream=open_stream) as client,
        trio.open_nursery() as nursery,
    ):
        wire: Wire = open_stream.wire  # type: ignore[attr-defined]
        wire.seconds = 3.0
        writes = len(wire.writes)

        async def waits() -> None:
            with pytest.raises(ConnectionOver):
                await client.send("second")

        with trio.move_on_after(1.0):
            nursery.start_soon(waits)
            await client.send("first")
        assert not client.usable
        await trio.testing.wait_all_tasks_blocked()
        assert wire.closed_at == 1.0
        assert client.ended.is_set()
        with pytest.raises(ConnectionOver):
            await client.send("third")
    assert len(wire.writes) == writes
    assert trio.current_time() == 1.0


async def test_late_send_closes_tcp_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """A send that takes more than 5 s raises ProviderTimeout and closes TCP."""

    async def accept(server: Server) -> None:
        await server.accept()
        await trio.sleep_forever()

    async with server_that(accept) as open_stream, open_websocket(URL, open_stream=open_stream) as client:
        wire: Wire = open_stream.wire  # type: ignore[attr-defined]
        wire.seconds = 60.0
        with pytest.raises(ProviderTimeout, match="did not read for 5 s"):
            await client.send("x")
        assert wire.closed_at == trio.current_time() == SEND_TIMEOUT_S
        assert not client.usable


async def test_late_pong_closes_tcp_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """A pong that takes more than 5 s closes TCP, as a message does."""

    async def ping(server: Server) -> None:
        await server.accept()
        await server.stream.send_all(frame(PING))
        await trio.sleep_forever()

    async with server_that(ping) as open_stream, open_websocket(URL, open_stream=open_stream) as client:
        open_stream.wire.seconds = 60.0  # type: ignore[attr-defined]
        await client.ended.wait()
        assert trio.current_time() == open_stream.wire.closed_at == SEND_TIMEOUT_S  # type: ignore[attr-defined]
        with pytest.raises(ConnectionOver):
            await client.receive()


async def test_what_is_not_text_fails_its_sender(autojump_clock: trio.testing.MockClock) -> None:
    """Half a surrogate pair raises UnicodeEncodeError in its sender, and the connection stays usable."""
    said: list[bytes] = []

    async def listen(server: Server) -> None:
        await server.accept()
        async for opcode, payload in server:
            if opcode == TEXT:
                said.append(payload)

    async with server_that(listen) as open_stream, open_websocket(URL, open_stream=open_stream) as client:
        with pytest.raises(UnicodeEncodeError):
            await client.send("\ud800")
        await client.send("Hello")
        assert client.usable
    assert said == [b"Hello"]


# Closing --------------------------------------------------------------------------------------------------------------
async def test_ping_behind_our_close_frame(autojump_clock: trio.testing.MockClock) -> None:
    """A ping after our close frame raises nothing, and the client still waits for the peer's close frame."""
    ended: list[float] = []

    async def ping(server: Server) -> None:
        await server.accept()
        async for opcode, payload in server:
            assert opcode == CLOSE
            await server.stream.send_all(frame(PING))
            await trio.sleep(0.02)
            await server.stream.send_all(frame(CLOSE, payload))
            await server.stream.aclose()
            ended.append(trio.current_time())

    async with server_that(ping) as open_stream:
        async with open_websocket(URL, open_stream=open_stream):
            pass
        assert open_stream.wire.closed_at == pytest.approx(0.02)  # type: ignore[attr-defined]
    assert ended == [pytest.approx(0.02)]


@pytest.mark.parametrize("answers", [True, False])
async def test_cancelled_block_says_goodbye(autojump_clock: trio.testing.MockClock, answers: bool) -> None:
    """A cancelled block also sends a close frame, and waits 50 ms for a peer that does not answer."""
    closes: list[float] = []

    async def listen(server: Server) -> None:
        await server.accept()
        async for opcode, payload in server:
            assert opcode == CLOSE
            closes.append(trio.current_time())
            if answers:
                await server.stream.send_all(frame(CLOSE, payload))

    async with server_that(listen) as open_stream:
        with trio.move_on_after(1.0) as scope:
            async with open_websocket(URL, open_stream=open_stream):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert closes == [1.0]
        assert open_stream.wire.closed_at == pytest.approx(1.0 if answers else 1.0 + CLOSE_TIMEOUT_S)  # type: ignore[attr-defined]


async def test_closing_with_unread_messages(autojump_clock: trio.testing.MockClock) -> None:
    """500 messages that no task has taken delay neither the close frame nor the peer's answer to it."""

    async def flood(server: Server) -> None:
        await server.accept()
        await server.stream.send_all(frame(TEXT, b"x") * 500)
        async for opcode, payload in server:
            if opcode == CLOSE:
                await server.stream.send_all(frame(TEXT, b"x") * 500 + frame(CLOSE, payload))

    async with server_that(flood) as open_stream:
        async with open_websocket(URL, open_stream=open_stream):
            await trio.sleep(1)
        assert trio.current_time() == 1.0


# Cancelling -----------------------------------------------------------------------------------------------------------
async def test_cancel_at_each_step(autojump_clock: trio.testing.MockClock, stride: int) -> None:
    """A use that is cancelled at any step ends within 50 ms, without errors or tasks left, and with TCP closed."""

    async def echo(server: Server) -> None:
        await server.accept()
        async for opcode, payload in server:
            if opcode != PONG:
                await server.stream.send_all(frame(PING) + frame(opcode, payload))

    async with server_that(echo) as open_stream:

        async def use() -> None:
            async with open_websocket(URL, open_stream=open_stream) as client, trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(client.send, "Hello")
                for _ in range(3):
                    assert await client.receive() == "Hello"

        whole = await cancelled_at(use, 0)
        assert not whole.errors
        for step in range(1, whole.steps + 1, stride):
            end = await cancelled_at(use, step)
            assert not end.errors
            assert end.took <= CLOSE_TIMEOUT_S + 1e-9
            assert open_stream.wire.closed_at is not None  # type: ignore[attr-defined]
    assert whole.steps > 20
