"""The WebSocket shell, over memory streams in virtual time."""

import pytest
import trio
import trio.testing
from websockets.frames import Frame, Opcode

from patter_trio.errors import WireError
from patter_trio.net.websocket import (
    MAX_FRAMES_PER_STEP,
    MAX_MESSAGE_BYTES,
    SocketClosed,
    WebSocket,
    connect,
    receive_upgrade,
)
from tests.kit.server import closing


async def open_pair() -> tuple[WebSocket, WebSocket, trio.abc.Stream]:
    """Return a server's end, a client's end, and the client's raw stream."""
    ours, theirs = trio.testing.memory_stream_pair()
    ends: dict[str, WebSocket] = {}

    async def serve() -> None:
        head = await ours.receive_some(65536)
        ends["server"] = await (await receive_upgrade(ours, bytes(head))).accept()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        ends["client"] = await connect(theirs, "ws://agent.test/ws/x", {"X-Test": "1"})
    return ends["server"], ends["client"], theirs


def frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


async def test_messages_arrive_whole_and_in_order_both_ways() -> None:
    """Text and binary messages arrive unchanged and in order, in both directions."""
    server, client, _ = await open_pair()
    await client.send("grüß dich")
    await client.send(b"\x00\xff")
    assert await server.receive() == "grüß dich"
    assert await server.receive() == b"\x00\xff"
    await server.send("back")
    assert await client.receive() == "back"


async def test_upgrade_shows_path_and_headers_before_acceptance() -> None:
    """An upgrade request shows its path and headers before the server accepts or refuses it."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def refused() -> None:
            with pytest.raises(WireError, match="403"):
                await connect(theirs, "ws://agent.test/ws/x?y=1", {"X-Test": "1"})

        nursery.start_soon(refused)
        upgrade = await receive_upgrade(ours, bytes(await ours.receive_some(65536)))
        assert (upgrade.path, upgrade.headers["X-Test"]) == ("/ws/x?y=1", "1")
        await upgrade.refuse(403, "no")
        await ours.aclose()


async def test_frame_in_handshake_segment_is_kept() -> None:
    """The server keeps a frame that arrives in one segment with the handshake."""
    ours, theirs = trio.testing.memory_stream_pair()
    head = (
        b"GET /ws/x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await theirs.send_all(head + frame(Opcode.TEXT, b"early"))
    upgrade = await receive_upgrade(ours, bytes(await ours.receive_some(65536)))
    socket = await upgrade.accept()
    assert await socket.receive() == "early"


async def test_fragments_join_around_an_answered_ping() -> None:
    """The WebSocket joins fragments and answers a ping that comes between them."""
    server, client, raw = await open_pair()
    await raw.send_all(frame(Opcode.TEXT, b"hel", fin=False) + frame(Opcode.PING, b"?") + frame(Opcode.CONT, b"lo"))
    assert await server.receive() == "hello"
    await server.send("after the pong")
    assert await client.receive() == "after the pong"


async def test_reader_leaves_pongs_to_the_writer() -> None:
    """A reader that shares its socket with a writer leaves the pongs to that writer."""
    server, _, raw = await open_pair()
    received: list[bytes] = []
    server.share_sending(lambda: received.append(bytes(server.pending)))
    await raw.send_all(frame(Opcode.PING, b"?") + frame(Opcode.TEXT, b"x"))
    assert await server.receive() == "x"
    assert received == [Frame(Opcode.PONG, b"?").serialize(mask=False)]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(Opcode.TEXT, b"x" * (MAX_MESSAGE_BYTES + 1)), 1009),
        (frame(Opcode.TEXT, b"\xff\xfe"), 1007),
        (frame(Opcode.CONT, b"x"), 1002),
        (b"\xff\xff\xff\xff\xff\xff\xff", 1002),
        (frame(Opcode.CLOSE, b"\x03\xe8bye"), 1000),
    ],
    ids=["too long", "no UTF-8", "nothing to continue", "no frame", "a close frame"],
)
async def test_protocol_error_or_close_ends_with_its_code(sent: bytes, code: int) -> None:
    """A protocol error or a close by the peer closes both sides with the matching code."""
    server, client, raw = await open_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raw.send_all, sent)
        with pytest.raises(SocketClosed) as closed:
            await server.receive()
    assert closed.value.code == code
    with pytest.raises(SocketClosed) as received:
        await client.receive()
    assert received.value.code == code


async def test_a_peer_that_vanishes_is_1006() -> None:
    """The end of the stream without a close frame raises SocketClosed with code 1006."""
    server, _, raw = await open_pair()
    await raw.aclose()
    with pytest.raises(SocketClosed) as closed:
        await server.receive()
    assert closed.value.code == 1006


async def test_a_cancelled_send_breaks_the_socket_for_good(autojump_clock: trio.testing.MockClock) -> None:
    """After a cancelled send the socket refuses further messages, and closing it takes no time."""
    near, far = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:

        async def accept() -> WebSocket:
            head = b""
            while b"\r\n\r\n" not in head:
                head += await far.receive_some(4096)
            return await (await receive_upgrade(far, head)).accept()

        nursery.start_soon(accept)
        client = await connect(near, "ws://agent.test/ws/x")
    with trio.move_on_after(1) as gave_up:
        await client.send("nobody reads")
    assert gave_up.cancelled_caught
    assert repr(client) == "<WebSocket open broken>"
    with pytest.raises(SocketClosed):
        await client.send("more")
    before = trio.current_time()
    await client.aclose()
    assert trio.current_time() == before


async def test_closing_a_silent_peer_takes_half_a_second(autojump_clock: trio.testing.MockClock) -> None:
    """Closing waits at most half a second for a silent peer."""
    server, _, _ = await open_pair()
    before = trio.current_time()
    await server.aclose()
    assert trio.current_time() - before == 0.5


async def test_close_frame_has_code_and_reason(autojump_clock: trio.testing.MockClock) -> None:
    """The peer receives the code and the reason of the close."""
    server, client, _ = await open_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.aclose, 1008, "who are you?")
        with pytest.raises(SocketClosed) as received:
            await client.receive()
    assert (received.value.code, received.value.reason) == (1008, "who are you?")
    assert trio.current_time() == 0


async def test_request_without_handshake_gets_426() -> None:
    """A request without the WebSocket headers gets status 426, and accept() raises WireError."""
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"GET /ws/x HTTP/1.1\r\nHost: a\r\n\r\n")
    upgrade = await receive_upgrade(ours, bytes(await ours.receive_some(65536)))
    with pytest.raises(WireError):
        await upgrade.accept()
    assert bytes(await theirs.receive_some(65536)).startswith(b"HTTP/1.1 426 ")


@pytest.mark.parametrize(
    "flood",
    [
        frame(Opcode.PING, b"") * 2700,
        frame(Opcode.PONG, b"") * 2700,
        frame(Opcode.TEXT, b"{}") * 2000,
        frame(Opcode.TEXT, b"", fin=False) + frame(Opcode.CONT, b"", fin=False) * 2000,
    ],
    ids=["pings", "pongs", "messages", "fragments"],
)
async def test_a_flood_lets_others_run_every_50_frames(flood: bytes) -> None:
    """Other tasks run at least once for each 50 frames of a flood that came in one read."""
    server, _, raw = await open_pair()
    server.share_sending(lambda: None)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        await raw.send_all(flood + frame(Opcode.CLOSE, b"\x03\xe8"))
        nursery.start_soon(others)
        assert await closing(server) == (1000, "")
        nursery.cancel_scope.cancel()
    assert turns >= len(flood) // len(frame(Opcode.TEXT, b"{}")) // MAX_FRAMES_PER_STEP


async def test_a_flood_behind_our_close_is_stepped() -> None:
    """A close that waits for the peer's answer lets other tasks run within a flood, and finds the close frame in it."""
    server, _, raw = await open_pair()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        await raw.send_all(frame(Opcode.PONG, b"") * 2600 + frame(Opcode.CLOSE, b"\x03\xe8"))
        nursery.start_soon(others)
        await server.aclose()
        nursery.cancel_scope.cancel()
    assert turns >= 2600 // MAX_FRAMES_PER_STEP // 2


async def test_what_came_before_our_close_frame_is_delivered() -> None:
    """Messages that were read before our own close frame was sent are received behind it."""
    server, _, raw = await open_pair()
    await raw.send_all(frame(Opcode.TEXT, b"x" * 400) * 10)
    assert await server.receive() == "x" * 400
    await server.say_close()
    for _ in range(9):
        assert await server.receive() == "x" * 400
    with pytest.raises(SocketClosed):
        await server.receive()


@pytest.mark.parametrize("reason", ["\n12:00:00 INFO call CA1: started", "\x1b[31m", "\u2028", "\u202e", "ab\x7f\x85"])
async def test_the_reason_of_a_close_is_escaped(reason: str) -> None:
    """The message of SocketClosed has the peer's reason on one line, without control characters."""
    server, client, _ = await open_pair()
    await client.say_close(4000, reason)
    with pytest.raises(SocketClosed) as closed:
        await server.receive()
    assert str(closed.value).isprintable()
    assert str(closed.value) == f"websocket closed (4000, {reason.encode('unicode_escape').decode()})"
    assert closed.value.reason == reason
