"""Connections over memory streams, in virtual time: which are accepted or refused, when, and without harm to others."""

import json
import logging

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from patter_trio.call.leg import MediaLeg
from patter_trio.errors import ConfigurationError, WireError
from patter_trio.net.websocket import MAX_MESSAGE_BYTES, connect
from patter_trio.server.connection import (
    MAX_BYTES_BEFORE_START,
    MAX_FRAMES_BEFORE_START,
    MAX_HEAD_BYTES,
    may_be_request,
    serve_connection,
)
from patter_trio.server.context import MAX_UNAUTHENTICATED_SOCKETS, ServerContext
from patter_trio.server.http import LINGER_TIMEOUT_S
from tests.kit.server import CARRIER, CONNECTED, MEDIA, PUBLIC, STOP, FakeCallServer, closing, dial, read_all, start

CLOCK = trio.testing.MockClock


async def test_stream_with_valid_token_is_answered_then_closed(autojump_clock: CLOCK) -> None:
    """A stream with the token of its call is answered and closed normally afterwards."""
    call_server = FakeCallServer()
    call = call_server.announce()
    async with trio.open_nursery() as nursery:
        socket = await dial(call_server.open(nursery), CONNECTED, start("CA1", call.token), MEDIA, STOP)
        assert await closing(socket) == (1000, "")
    (leg,) = call_server.answered
    assert (leg.info, leg.started.call_id) == (call.info, "CA1")
    assert trio.current_time() == 0


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([start("CA1")], "the start message must have a token"),
        ([start("CA1", "")], "the start message must have a token"),
        ([start("CA1", "guess")], "the call is unknown, or its token is wrong, used or expired"),
        ([start("CA2", "TOKEN")], "the start message must name the call of the path"),
        (["{"], "a message must be valid JSON"),
        (["[]"], "each field must be there and have its type"),
        (['{"event": "media", "streamSid": 1}'], "each field must be there and have its type"),
        ([MEDIA], "the start message must come before other events"),
        ([CONNECTED, STOP], "the start message must come before other events"),
        ([b"\x00\x01"], "a message must be text, got binary data"),
    ],
)
async def test_stream_without_proof_closes_with_1008(
    messages: list[str | bytes], reason: str, autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream that does not prove its call closes with 1008 and its reason and leaves the call pending."""
    call_server = FakeCallServer()
    token = call_server.announce().token
    async with trio.open_nursery() as nursery:
        sent = [m.replace("TOKEN", token) if isinstance(m, str) else m for m in messages]
        socket = await dial(call_server.open(nursery), *sent)
        assert await closing(socket) == (1008, reason)
    assert call_server.answered == []
    assert "CA1" in call_server.pending
    assert trio.current_time() == 0
    assert [r.getMessage() for r in caplog.records if r.name == "patter_trio.server"] == [
        f"call CA1: connection closed: {reason}"
    ]


async def test_foreign_used_and_expired_tokens_are_refused(autojump_clock: CLOCK) -> None:
    """The server refuses a token of another call, a used token and an expired token."""
    call_server = FakeCallServer()
    one, other = call_server.announce("CA1"), call_server.announce("CA2")

    async def end_of(call_id: str, token: str) -> int:
        socket = await dial(call_server.open(nursery), start(call_id, token), STOP, call_id=call_id)
        return (await closing(socket))[0]

    async with trio.open_nursery() as nursery:
        assert await end_of("CA1", other.token) == 1008
        assert await end_of("CA1", one.token) == 1000
        assert await end_of("CA1", one.token) == 1008
        await trio.sleep(60)
        assert await end_of("CA2", other.token) == 1008
    assert [leg.info for leg in call_server.answered] == [one.info]


async def test_silence_for_ever_is_closed_at_ten_seconds(autojump_clock: CLOCK) -> None:
    """A stream without a start message closes with 1008 after 10 s."""
    call_server = FakeCallServer()
    async with trio.open_nursery() as nursery:
        await trio.sleep(3)
        socket = await dial(call_server.open(nursery), CONNECTED)
        assert await closing(socket) == (1008, "the start message must come within 10 s")
        assert trio.current_time() == 13


async def test_messages_without_start_do_not_extend_ten_seconds(autojump_clock: CLOCK) -> None:
    """Messages without a start do not extend the deadline of ten seconds."""
    call_server = FakeCallServer()
    async with trio.open_nursery() as nursery:
        socket = await dial(call_server.open(nursery))

        async def chatter() -> None:
            for _ in range(MAX_FRAMES_BEFORE_START):
                await socket.send(CONNECTED)
                await trio.sleep(1.3)

        nursery.start_soon(chatter)
        assert await closing(socket) == (1008, "the start message must come within 10 s")
        assert trio.current_time() == 10
        nursery.cancel_scope.cancel()


SPENT = (1008, f"the peer must authenticate within {MAX_FRAMES_BEFORE_START} frames and {MAX_BYTES_BEFORE_START} bytes")


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    "sent",
    [
        [Frame(Opcode.PING, b"")] * 2700,
        [Frame(Opcode.PONG, b"")] * 9,
        [Frame(Opcode.TEXT, CONNECTED.encode())] * 9,
        [Frame(Opcode.TEXT, b'{"event":"x"}')] * 819,
        [Frame(Opcode.TEXT, b"", fin=False), *[Frame(Opcode.CONT, b"", fin=False)] * 2000],
        [Frame(Opcode.TEXT, b" " * (MAX_BYTES_BEFORE_START + 1))],
        [Frame(Opcode.TEXT, b" " * 3000, fin=False), *[Frame(Opcode.CONT, b" " * 3000, fin=False)] * 2],
    ],
    ids=["pings", "pongs", "messages", "unknown events", "crumbs", "a long message", "long fragments"],
)
async def test_a_stranger_has_eight_frames_and_8_kib(sent: list[Frame], signed: bool, autojump_clock: CLOCK) -> None:
    """A socket that sends more than its allowance before its start is closed with 1008, within half a second."""
    call_server = FakeCallServer()
    headers = {"X-Twilio-Signature": CARRIER.sign("wss://agent.example/ws/twilio/stream/CA1", {})} if signed else None
    async with trio.open_nursery() as nursery:
        stream = call_server.open(nursery)
        socket = await dial(stream, headers=headers)
        nursery.start_soon(stream.send_all, b"".join(frame.serialize(mask=True) for frame in sent))
        assert await closing(socket) == SPENT
    assert trio.current_time() <= 0.5
    assert call_server.answered == []


async def test_frames_behind_the_upgrade_count_as_well(autojump_clock: CLOCK) -> None:
    """Frames in the segment of the upgrade are within the allowance, like those that come later."""
    call_server = FakeCallServer()
    async with trio.open_nursery() as nursery:
        stream = call_server.open(nursery)
        await stream.send_all(
            b"GET /ws/twilio/stream/CA1 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            + Frame(Opcode.PING, b"").serialize(mask=True)
            * 2000
        )
        answer = await read_all(stream)
    assert answer.count(Frame(Opcode.PONG, b"").serialize(mask=False)) <= MAX_FRAMES_BEFORE_START + 2
    assert SPENT[1].encode() in answer


async def test_a_carrier_may_use_its_whole_allowance(autojump_clock: CLOCK) -> None:
    """A start as the eighth frame, with kilobytes of parameters and media right behind it, begins its call."""
    call_server = FakeCallServer()
    call = call_server.announce()
    message = json.loads(start("CA1", call.token))
    message["start"]["customParameters"] |= {f"p{number}": "x" * 480 for number in range(10)}
    frames = [Frame(Opcode.PING, b"")] * 6 + [Frame(Opcode.TEXT, text.encode()) for text in (CONNECTED,)]
    frames += [Frame(Opcode.TEXT, text.encode()) for text in (json.dumps(message), *[MEDIA] * 100, STOP)]
    async with trio.open_nursery() as nursery:
        stream = call_server.open(nursery)
        socket = await dial(stream)
        nursery.start_soon(stream.send_all, b"".join(frame.serialize(mask=True) for frame in frames))
        assert (await closing(socket))[0] == 1000
    (leg,) = call_server.answered
    assert leg.info is call.info


async def test_an_oversized_message_closes_with_1009(autojump_clock: CLOCK) -> None:
    """A message of one byte more than the limit closes the stream with 1009, and no call begins."""
    call_server = FakeCallServer()
    async with trio.open_nursery() as nursery:
        socket = await dial(call_server.open(nursery), "x" * (MAX_MESSAGE_BYTES + 1))
        assert (await closing(socket))[0] == 1009
    assert call_server.answered == []


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET /ws/twilio/stream/CA1 HTTP/1.1\r\nUpgrade: websocket\r\n"])
async def test_unfinished_head_is_closed_at_ten_seconds(sent: bytes, autojump_clock: CLOCK) -> None:
    """The server closes a connection with an unfinished HTTP head at ten seconds."""
    async with trio.open_nursery() as nursery:
        stream = FakeCallServer().open(nursery)
        await stream.send_all(sent)
        assert await read_all(stream) == b""
        assert trio.current_time() == 10


async def test_trickling_head_is_closed_at_ten_seconds(autojump_clock: CLOCK) -> None:
    """The server closes a connection whose HTTP head trickles in at ten seconds."""
    async with trio.open_nursery() as nursery:
        stream = FakeCallServer().open(nursery)

        async def trickle() -> None:
            for byte in b"GET /health HTTP/1.1\r\n" + b"X" * 1000:
                await stream.send_all(bytes([byte]))
                await trio.sleep(0.7)

        nursery.start_soon(trickle)
        assert await read_all(stream) == b""
        assert trio.current_time() == 10
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "sent", [b"", b"GET /health HT", b"GET /ws/twilio/stream/CA1 HTTP/1.1\r\nUpgrade: websocket\r\n"]
)
async def test_client_leaving_within_head_ends_its_connection(sent: bytes, autojump_clock: CLOCK) -> None:
    """A client that leaves within the head of its request ends its connection at once."""
    async with trio.open_nursery() as nursery:
        stream = FakeCallServer().open(nursery)
        await stream.send_all(sent)
        await stream.aclose()
    assert trio.current_time() == 0


async def test_a_head_without_end_gets_431(autojump_clock: CLOCK) -> None:
    """A request whose head exceeds the size limit gets status 431."""
    async with trio.open_nursery() as nursery:
        stream = FakeCallServer().open(nursery)
        await stream.send_all(b"GET /health HTTP/1.1\r\nX: " + b"x" * 20_000)
        assert (await read_all(stream)).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"nonsense\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n"])
async def test_non_http_request_gets_400_and_one_warning(
    sent: bytes, autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that is not HTTP gets status 400 and logs one line."""
    async with trio.open_nursery() as nursery:
        stream = FakeCallServer().open(nursery)
        await stream.send_all(sent)
        assert (await read_all(stream)).startswith(b"HTTP/1.1 400 ")
    # Closed with its answer, not as an idle connection: only a peer that lingers has half a second.
    assert trio.current_time() == 0.5
    assert [record.getMessage() for record in caplog.records] == ["connection closed: the request must be HTTP"]


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01", b"\xff" * 64, b"\0", b'{"event": ', b"\r\n\xff", b"GET\t/", b"\r\r"]
)
async def test_what_begins_no_request_closes_at_once(
    sent: bytes, autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes with which no request can begin, such as the hello of TLS, end their connection when they come."""
    async with trio.open_nursery() as nursery:
        stream = FakeCallServer().open(nursery)
        await stream.send_all(sent)
        await read_all(stream)
        await stream.aclose()
    assert trio.current_time() == 0
    assert [record.getMessage() for record in caplog.records] == ["connection closed: the request must be HTTP"]


@given(method=st.text("!#$%&'*+.^_`|~-09AZaz", min_size=1, max_size=20), lines=st.integers(0, 3), cut=st.integers(0, 9))
def test_beginnings_of_requests_are_waited_for(method: str, lines: int, cut: int) -> None:
    """The beginning of a request with any token as its method, also behind empty lines, may become a request."""
    head = b"\r\n" * lines + f"{method} /health HTTP/1.1".encode()
    assert may_be_request(head[: len(head) - cut])
    assert may_be_request(head[:cut])


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("keeps", ["close", "keep-alive"])
@pytest.mark.parametrize("behind", [b"\r\n", b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", b"x" * 200_000])
@pytest.mark.parametrize("pause", [False, True])
async def test_bytes_behind_a_request_cost_no_answer(
    version: bytes, keeps: str, behind: bytes, pause: bool, autojump_clock: CLOCK
) -> None:
    """A request is answered, whatever comes behind its end, and with it or later; nothing of that is a request."""
    request = b"POST /webhooks/twilio/status HTTP/%s\r\nHost: a\r\nConnection: %s\r\nContent-Length: 3\r\n\r\na=1" % (
        version,
        keeps.encode(),
    )
    async with trio.open_nursery() as nursery:
        stream = FakeCallServer().open(nursery)
        await stream.send_all(request if pause else request + behind)
        if pause:
            await trio.testing.wait_all_tasks_blocked()
            await stream.send_all(behind)
        answer = await read_all(stream)
        await stream.aclose()
    # Unsigned; with an answer all the same.
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert trio.current_time() == 0


@pytest.mark.parametrize(
    ("framing", "body", "status"),
    [
        (b"Content-Length: 3, 3", b"a=1", b"403"),
        (b"Content-Length: 3\r\nContent-Length: 3", b"a=1", b"403"),
        (b"Transfer-Encoding: chunked", b"3\r\na=1\r\n0\r\n\r\n", b"403"),
        (b"Content-Length: 3\r\nContent-Length: 4", b"a=1", b"400"),
        (b"Content-Length: -1", b"a=1", b"400"),
        (b"Content-Length: " + b"9" * 30, b"a=1", b"400"),
        (b"Content-Length: 3 \t", b"a=1", b"403"),
    ],
)
async def test_other_framings_are_judged_by_h11(
    framing: bytes, body: bytes, status: bytes, autojump_clock: CLOCK
) -> None:
    """A body whose length is not said in the plain way is read, or refused, as h11 does."""
    async with trio.open_nursery() as nursery:
        stream = FakeCallServer().open(nursery)
        await stream.send_all(b"POST /webhooks/twilio/status HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % framing)
        await stream.send_all(body)
        assert (await read_all(stream)).startswith(b"HTTP/1.1 %s " % status)
        await stream.aclose()
    assert trio.current_time() <= LINGER_TIMEOUT_S


async def test_connect_and_leave_logs_no_warning(autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture) -> None:
    """A client that connects and leaves, as a health check does, logs nothing."""
    caplog.set_level(logging.INFO)
    async with trio.open_nursery() as nursery:
        stream = FakeCallServer().open(nursery)
        await stream.aclose()
    assert caplog.records == []


async def test_http_2_is_not_spoken(autojump_clock: CLOCK) -> None:
    """The server closes a connection that begins with the preface of HTTP/2."""
    async with trio.open_nursery() as nursery:
        stream = FakeCallServer().open(nursery)
        await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert await read_all(stream) == b""


@pytest.mark.parametrize("protocol", [b"h2c", b"H2C", b"websocket", b"h2c, websocket", b"TLS/1.0"])
@pytest.mark.parametrize(
    "head",
    [
        b"Host: a\r\nUpgrade: %s\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        b"Host: a\r\nConnection: upgrade\r\nUPGRADE: %s\nX: y\r\n\r\n",
        b"Upgrade: %s\nHost: a\r\n\r\n",
        b"Host: a\r\nUpgrade: %s\r\n\r\n",
        b"Host: a\nUpgrade:%s\n\n\r\n\r\n",
        b"Host: a\r\nUpgrade: x\r\nupgrade:\t%s\n\r\n\r\n",
        b"Host: a\r\nUpgrade:\n %s\r\nX: y\r\n\r\n",
    ],
    ids=["CRLF", "bare LF", "first", "last", "all bare LF", "twice", "folded"],
)
async def test_http_requests_cannot_be_upgraded(head: bytes, protocol: bytes, autojump_clock: CLOCK) -> None:
    """The server ignores the upgrade of an HTTP request, however its line ends, and answers once, over HTTP/1.1."""
    async with trio.open_nursery() as nursery:
        stream = FakeCallServer().open(nursery)
        await stream.send_all(b"GET /health HTTP/1.1\r\n" + head % protocol)
        answer = await read_all(stream)
    assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 "))
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("value", [b"\xff\xfe", b"13\x1b[31m", b"\xc2\x85", b"7, \xe2\x80\xae"])
@pytest.mark.parametrize("header", [b"Sec-WebSocket-Version", b"Sec-WebSocket-Key", b"Connection"])
async def test_bytes_of_a_bad_handshake_are_escaped(
    header: bytes, value: bytes, autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture
) -> None:
    """The log line about a handshake that is not valid is printable ASCII, whatever the header had."""
    headers = {
        b"Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version": b"13",
        b"Connection": b"Upgrade",
    }
    headers[header] = value
    async with trio.open_nursery() as nursery:
        stream = FakeCallServer().open(nursery)
        await stream.send_all(
            b"GET /ws/twilio/stream/CA1 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
            + b"".join(b"%s: %s\r\n" % pair for pair in headers.items())
            + b"\r\n"
        )
        await read_all(stream)
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert record.getMessage().isascii()


@pytest.mark.parametrize(
    ("version", "status"), [(b"1.0", 200), (b"1.1", 200), (b"0.9", 505), (b"2.0", 505), (b"3.7", 505)]
)
async def test_other_versions_of_http_get_505(version: bytes, status: int, autojump_clock: CLOCK) -> None:
    """A request of HTTP/1.0 or 1.1 is answered, and any other version gets 505."""
    async with trio.open_nursery() as nursery:
        stream = FakeCallServer().open(nursery)
        await stream.send_all(b"GET /health HTTP/%s\r\nHost: a\r\n\r\n" % version)
        assert b" %d " % status in (await read_all(stream)).splitlines()[0]


@pytest.mark.parametrize("line", [b"X: %s\r\n", b"X: y\r\n"], ids=["one header", "many headers"])
@pytest.mark.parametrize("pieces", [1, 3, 100])
async def test_a_head_has_at_most_16_kib(line: bytes, pieces: int, autojump_clock: CLOCK) -> None:
    """A head of 16 KiB is accepted and a longer one gets 431, however it arrives."""
    for size, status in ((MAX_HEAD_BYTES, b"200"), (MAX_HEAD_BYTES + 2, b"431"), (20_000, b"431"), (32_000, b"431")):
        head = b"GET /health HTTP/1.1\r\nHost: a\r\n"
        room = size - len(head) - 2
        head += line % (b"x" * (room - 5)) if b"%s" in line else b"X" * (room % 6) + line * (room // 6)
        head += b"\r\n"
        assert len(head) == size
        async with trio.open_nursery() as nursery:
            stream = FakeCallServer().open(nursery)

            async def send(stream: trio.abc.Stream, head: bytes) -> None:
                step = len(head) // pieces + 1
                for begin in range(0, len(head), step):
                    await stream.send_all(head[begin : begin + step])
                    await trio.testing.wait_all_tasks_blocked()

            nursery.start_soon(send, stream, head)
            assert (await read_all(stream)).split(b" ")[1] == status
            nursery.cancel_scope.cancel()


async def test_a_body_of_crumbs_is_refused(autojump_clock: CLOCK) -> None:
    """A body of thousands of one-byte chunks gets 413 after the first few hundred."""
    async with trio.open_nursery() as nursery:
        stream = FakeCallServer().open(nursery)
        head = b"POST /webhooks/twilio/voice HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        nursery.start_soon(stream.send_all, head + b"1\r\na\r\n" * 60_000 + b"0\r\n\r\n")
        assert (await read_all(stream)).startswith(b"HTTP/1.1 413 ")
        assert trio.current_time() <= 5.5
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("path", ["/", "/ws/twilio/stream", "/ws/telnyx/stream/CA1"])
async def test_an_upgrade_anywhere_else_is_not_found(path: str, autojump_clock: CLOCK) -> None:
    """A WebSocket upgrade on an unknown path gets status 404."""
    async with trio.open_nursery() as nursery:
        with pytest.raises(WireError, match="404"):
            await connect(FakeCallServer().open(nursery), f"wss://agent.example{path}")


async def test_signed_upgrade_is_accepted_and_forged_one_refused(autojump_clock: CLOCK) -> None:
    """The server accepts a signed upgrade and refuses one with a wrong or an empty signature."""
    call_server = FakeCallServer()
    signature = CARRIER.sign("wss://agent.example/ws/twilio/stream/CA1", {})
    call = call_server.announce()
    async with trio.open_nursery() as nursery:
        with pytest.raises(WireError, match="403"):
            await dial(call_server.open(nursery), headers={"X-Twilio-Signature": signature[::-1]})
        with pytest.raises(WireError, match="403"):
            await dial(call_server.open(nursery), headers={"X-Twilio-Signature": ""})
        headers = {"X-Twilio-Signature": signature}
        socket = await dial(call_server.open(nursery), start("CA1", call.token), STOP, headers=headers)
        assert (await closing(socket))[0] == 1000
    assert len(call_server.answered) == 1


async def test_unauthenticated_sockets_are_bounded_without_blocking_carrier(autojump_clock: CLOCK) -> None:
    """The server bounds unauthenticated sockets and still accepts the carrier's signed upgrade."""
    call_server = FakeCallServer()
    signature = CARRIER.sign("wss://agent.example/ws/twilio/stream/CA1", {})
    async with trio.open_nursery() as nursery:
        sockets = [await dial(call_server.open(nursery)) for _ in range(MAX_UNAUTHENTICATED_SOCKETS)]
        with pytest.raises(WireError, match="503"):
            await dial(call_server.open(nursery))
        headers = {"X-Twilio-Signature": signature}
        call = call_server.announce()
        socket = await dial(call_server.open(nursery), start("CA1", call.token), STOP, headers=headers)
        assert (await closing(socket))[0] == 1000
        for socket in sockets:
            assert (await closing(socket))[0] == 1008
        again = await dial(call_server.open(nursery))
        await again.aclose()


async def test_answering_bug_is_logged_and_spares_other_calls(
    autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug while answering closes its call with 1011, is logged, and does not affect another call."""
    call_server = FakeCallServer()
    one, other = call_server.announce("CA1"), call_server.announce("CA2")

    async def talk(leg: MediaLeg) -> None:
        if leg.info is one.info:
            async with trio.open_nursery() as crash:
                crash.start_soon(trio.sleep_forever)
                raise ZeroDivisionError("a bug")
        await leg.socket.receive()
        await leg.socket.send("still here")

    call_server.talk = talk
    async with trio.open_nursery() as nursery:
        healthy = await dial(call_server.open(nursery), start("CA2", other.token), call_id="CA2")
        crashing = await dial(call_server.open(nursery), start("CA1", one.token))
        assert (await closing(crashing))[0] == 1011
        await healthy.send(MEDIA)
        assert await healthy.receive() == "still here"
        assert (await closing(healthy))[0] == 1000
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert "ZeroDivisionError: a bug" in caplog.text


async def test_cancellation_passes_and_closes_the_stream(autojump_clock: CLOCK) -> None:
    """A cancelled connection sends a close frame with 1011, waits 0.5 s for the answer, and ends as cancelled."""
    call_server = FakeCallServer()
    call = call_server.announce()

    async def talk(_: MediaLeg) -> None:
        async with trio.open_nursery() as both:
            both.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise ZeroDivisionError("while being cancelled")

    call_server.talk = talk
    ours, theirs = trio.testing.memory_stream_pair()
    with trio.move_on_after(2) as limit:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_connection, call_server.context, ours)
            await dial(theirs, start("CA1", call.token))
            await trio.sleep_forever()
    assert limit.cancelled_caught
    assert trio.current_time() == 2.5  # the close frame was sent, its answer waited for
    assert (await read_all(theirs))[-4:] == b"\x88\x02\x03\xf3"


async def test_unread_upgrade_cannot_hold_the_server(autojump_clock: CLOCK) -> None:
    """A client that does not read its upgrade answer is disconnected at ten seconds."""
    call_server = FakeCallServer()
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, call_server.context, ours)
        await theirs.send_all(
            b"GET /ws/twilio/stream/CA1 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
    assert trio.current_time() == 10


async def test_unread_http_answer_is_abandoned(autojump_clock: CLOCK) -> None:
    """The server abandons a client that does not read its HTTP answer after five seconds."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, FakeCallServer().context, ours)
        await theirs.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    assert trio.current_time() == 5


async def test_incomplete_request_body_times_out_after_15_s(autojump_clock: CLOCK) -> None:
    """The server closes a connection whose request body stays incomplete for 15 seconds."""
    async with trio.open_nursery() as nursery:
        stream = FakeCallServer().open(nursery)
        await stream.send_all(b"POST /webhooks/twilio/voice HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        await read_all(stream)
        assert trio.current_time() == 15


@pytest.mark.parametrize("url", ["agent.example", "ftp://agent.example", "https://", "https://a.example/?x=1", ""])
def test_invalid_public_url_raises_configuration_error(url: str) -> None:
    """An invalid public_url raises ConfigurationError."""
    with pytest.raises(ConfigurationError, match="public URL"):
        FakeCallServer(public_url=url)


@pytest.mark.parametrize(
    ("public", "stream"),
    [
        (PUBLIC, "wss://agent.example/ws/twilio/stream/CA1"),
        (PUBLIC + "/", "wss://agent.example/ws/twilio/stream/CA1"),
        ("http://127.0.0.1:8000", "ws://127.0.0.1:8000/ws/twilio/stream/CA1"),
    ],
)
def test_the_stream_url_follows_the_public_url(public: str, stream: str) -> None:
    """The URL of the stream has the host of public_url, wss for https and ws for http, and an escaped call id."""
    context: ServerContext = FakeCallServer(public_url=public).context
    assert context.stream_url("CA1") == stream
    assert context.stream_url("../x?y").endswith("/ws/twilio/stream/..%2Fx%3Fy")
