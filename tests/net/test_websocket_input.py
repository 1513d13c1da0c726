"""Input of a server's WebSocket: the short way of whole text frames gives what the protocol core gives."""

import socket as sockets
from itertools import pairwise

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from patter_trio.net.streams import receiver_of
from patter_trio.net.websocket import SocketClosed, receive_upgrade

HEAD = (
    b"GET /ws/x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
Messages = list[str | bytes]


def _reserved(frame: bytes) -> bytes:
    """Return a frame with the first reserved bit."""
    return bytes([frame[0] | 0x40]) + frame[1:]


# Mostly as peers send them; and each kind of mistake, between others.
GOOD = st.builds(
    lambda opcode, data, fin: Frame(opcode, data, fin).serialize(mask=True),
    st.sampled_from([Opcode.TEXT, Opcode.TEXT, Opcode.BINARY, Opcode.CONT]),
    st.sampled_from([b"", b"x", b"gr\xc3\xbc\xc3\x9f", b"y" * 125, b"z" * 126, b"m" * 600, b"\xff"]),
    st.sampled_from([True, True, True, False]),
)
CONTROL = st.sampled_from(
    [
        Frame(Opcode.PING, b"?").serialize(mask=True),
        Frame(Opcode.PONG, b"").serialize(mask=True),
        Frame(Opcode.CLOSE, b"\x03\xe8bye").serialize(mask=True),
        _reserved(Frame(Opcode.TEXT, b"reserved").serialize(mask=True)),
        Frame(Opcode.TEXT, b"no mask").serialize(mask=False),
        b"\x83\x80abcd",
    ]
)
INPUT = st.lists(st.one_of(GOOD, GOOD, GOOD, CONTROL), max_size=8).map(b"".join)


def by_core(data: bytes) -> tuple[Messages, set[int]]:
    """Return the messages of the library's protocol core alone, and the codes of the close that are right."""
    core = ServerProtocol()
    core.receive_data(HEAD)
    [request] = core.events_received()
    core.send_response(core.accept(request))  # type: ignore[arg-type]  # (the first event is the request)
    core.receive_data(data)
    messages: Messages = []
    parts, is_text = b"", True
    for event in core.events_received():
        assert isinstance(event, Frame)
        if event.opcode in (Opcode.TEXT, Opcode.BINARY):
            parts, is_text = b"", event.opcode is Opcode.TEXT
        if event.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            continue
        parts += bytes(event.data)
        if event.fin:
            try:
                messages.append(parts.decode() if is_text else parts)
            except UnicodeDecodeError:
                # A close frame or a mistake that was read together with the text has a code, too.
                close = core.close_rcvd or core.close_sent
                return messages, {1007} if close is None else {1007, close.code}
    core.receive_eof()
    close = core.close_rcvd or core.close_sent
    return messages, {1006 if close is None else close.code}


async def by_us(pieces: list[bytes]) -> tuple[Messages, int]:
    """Return messages and code of our WebSocket, which reads one piece after another."""
    ours, theirs = trio.testing.memory_stream_pair()
    socket = await (await receive_upgrade(ours, HEAD)).accept()
    messages: Messages = []
    code = 0

    async def read() -> None:
        nonlocal code
        try:
            while True:
                messages.append(await socket.receive())
        except SocketClosed as closed:
            code = closed.code

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for piece in pieces:
            await theirs.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
        await theirs.send_eof()
    return messages, code


@given(data=INPUT, cuts=st.lists(st.integers(0, 3000), max_size=5))
def test_any_input_gives_what_the_core_gives(data: bytes, cuts: list[int]) -> None:
    """Messages and the code of the close are those of the core alone, however the input is cut into segments."""
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[begin:end] for begin, end in pairwise(edges)]
    messages, code = trio.run(by_us, pieces)
    expected, codes = by_core(data)
    assert messages == expected
    assert code in codes


async def _pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    near, far = sockets.socketpair()
    ends = [trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in (near, far)]
    return ends[0], ends[1]


async def test_a_socket_is_read_once_it_is_ready() -> None:
    """The reader of a socket waits for data, returns it and the end of the input, and can be cancelled at no loss."""
    ours, theirs = await _pair()
    receive = receiver_of(ours)
    with trio.move_on_after(0) as scope:
        await receive(100)
    assert scope.cancelled_caught
    await theirs.send_all(b"hello")
    assert await receive(3) == b"hel"
    assert await receive(100) == b"lo"
    await theirs.aclose()
    assert await receive(100) == b""
    await ours.aclose()


async def test_a_read_of_a_closed_socket_raises() -> None:
    """A socket that is closed before or during a read raises ClosedResourceError, as trio's streams do."""
    ours, theirs = await _pair()
    receive = receiver_of(ours)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await receive(100)

        await trio.testing.wait_all_tasks_blocked()
        await ours.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await receive(100)
    await theirs.aclose()


async def test_a_reset_connection_raises_brokenresourceerror() -> None:
    """A peer that resets the connection breaks the stream, as it does for trio's streams."""
    listener = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener[0].socket.getsockname()[1]
    client = await trio.open_tcp_stream("127.0.0.1", port)
    server = await listener[0].accept()
    # A linger time of zero: the close sends a reset.
    client.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    await client.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await receiver_of(server)(100)
    await server.aclose()
    await listener[0].aclose()


async def test_a_wakeup_without_data_waits_on() -> None:
    """A reader that wakes up and finds no data waits for the next wake-up."""
    ours, theirs = await _pair()
    # The same socket once more: each byte wakes both readers, and only one of them gets it.
    twin = trio.SocketStream(trio.socket.fromfd(ours.socket.fileno(), sockets.AF_UNIX, sockets.SOCK_STREAM))
    send, got = trio.open_memory_channel[bytes | bytearray](2)

    async def read(stream: trio.SocketStream) -> None:
        send.send_nowait(await receiver_of(stream)(1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, ours)
        nursery.start_soon(read, twin)
        for byte in (b"1", b"2"):
            await trio.testing.wait_all_tasks_blocked()
            await theirs.send_all(byte)
            assert await got.receive() == byte
    for stream in (ours, twin, theirs):
        await stream.aclose()
