"""Connections that never become a call: each ends in time and disturbs no call."""

import functools
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
import trio
import trio.testing

from patter_trio.net.websocket import MAX_MESSAGE_BYTES
from patter_trio.server.connection import serve_connection
from patter_trio.server.http import LINGER_TIMEOUT_S
from patter_trio.testing.carriers.faulty_stream import FaultyStream
from patter_trio.testing.carriers.line import SimulatedCarrier
from patter_trio.testing.carriers.protocol import CallRefused
from patter_trio.testing.carriers.webhook_post import asked
from patter_trio.testing.faults.injections import BINARY_OPCODE, CONTINUATION_OPCODE, PING_OPCODE, TEXT_OPCODE, frame
from patter_trio.testing.simulation.carriers import CARRIERS
from tests.kit.depth import few
from tests.kit.shared_server import ALL_OVER, HEALTHY, HEALTHY_ID, SharedServer, events_of, in_virtual_time

FORM = b"CallSid=CA7&From=%2B15550100001&To=%2B15550100002"
WEBHOOK = (
    b"POST /webhooks/twilio/voice HTTP/1.1\r\nHost: agent.test\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"X-Twilio-Signature: AAAA\r\nContent-Length: %d\r\n\r\n" % len(FORM)
) + FORM
UPGRADE = (
    b"GET /ws/twilio/stream/CA7 HTTP/1.1\r\nHost: agent.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CONNECTED = frame(TEXT_OPCODE, b'{"event":"connected","protocol":"Call","version":"1.0.0"}')
MEDIA = b'{"event":"media","streamSid":"MZ1","media":{"payload":"AAAA"}}'
START = (
    b'{"event":"start","streamSid":"MZ1","start":{"streamSid":"MZ1","callSid":"%s","customParameters":{"token":"x"}}}'
)

MOMENTS = {
    "at once": b"",
    "in a webhook's head": WEBHOOK[:40],
    "in a webhook's body": WEBHOOK[:-10],
    "in an upgrade's head": UPGRADE[:60],
    "upgraded": UPGRADE,
    "connected": UPGRADE + CONNECTED,
    "in the start message": UPGRADE + CONNECTED + frame(TEXT_OPCODE, START % b"CA7")[:-20],
}
WAYS: dict[str, tuple[Callable[[FaultyStream], None], float]] = {
    "resets": (FaultyStream.reset, 0.5),
    "ends": (FaultyStream.end, 0.5),
    "vanishes": (FaultyStream.vanish, 16.0),
    "freezes": (FaultyStream.freeze, 21.0),
    "stops reading": (FaultyStream.stop_reading, 21.0),
    "trickles": (lambda line: line.trickle(1, 0.5), 16.0),
    "sends garbage": (lambda line: line.inject(b"\xff\x00" * 20_000), 1.0),
    "waits": (lambda line: None, 16.0),
}
"""What a connection does then, and seconds within which it is over."""

SENT = {
    "media before start": (frame(TEXT_OPCODE, MEDIA), "the start message must come before other events"),
    "stop before start": (
        frame(TEXT_OPCODE, b'{"event":"stop","streamSid":"MZ1"}'),
        "the start message must come before other events",
    ),
    "a start of an unknown call": (
        frame(TEXT_OPCODE, START % b"CA7"),
        "the call is unknown, or its token is wrong, used or expired",
    ),
    "a start of another call": (frame(TEXT_OPCODE, START % b"CA8"), "the start message must name the call of the path"),
    "a start of a live call": (
        frame(TEXT_OPCODE, START % HEALTHY_ID.encode()),
        "the start message must name the call of the path",
    ),
    "a binary frame": (frame(BINARY_OPCODE, b"\0"), "a message must be text, got binary data"),
    "no JSON": (frame(TEXT_OPCODE, b"{"), "a message must be valid JSON"),
    "too much": (frame(TEXT_OPCODE, b"x" * (MAX_MESSAGE_BYTES + 1)), "websocket closed (1009"),
    "pings, then nothing": (frame(PING_OPCODE, b"?" * 125) * 2000, "the peer must authenticate within 8 frames"),
    "chatter": (CONNECTED * 1000, "the peer must authenticate within 8 frames"),
    "crumbs of a message": (
        frame(TEXT_OPCODE, final=False) + frame(CONTINUATION_OPCODE, final=False) * 8,
        "the peer must authenticate within 8 frames",
    ),
    "one long message": (frame(TEXT_OPCODE, b" " * 9000), "the peer must authenticate within 8 frames and 8192 bytes"),
    "a few words, then nothing": (CONNECTED * 8, "the start message must come within 10 s"),
}


async def connects(server: SharedServer, sent: bytes, injection: Callable[[FaultyStream], None]) -> float:
    """Open a connection; return after how many seconds the connection was over."""
    ours, theirs = trio.testing.memory_stream_pair()
    line = FaultyStream(theirs)
    begun = trio.current_time()

    async def read() -> None:
        while await ours.receive_some(65536):
            pass

    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            await serve_connection(server.call_server.context, line)
            nursery.cancel_scope.cancel()

        nursery.start_soon(serve)
        nursery.start_soon(read)
        await ours.send_all(sent)
        await trio.testing.wait_all_tasks_blocked()
        injection(line)
    return trio.current_time() - begun


async def beside_a_call(*peers: tuple[bytes, Callable[[FaultyStream], None]]) -> tuple[list[object], list[float]]:
    """Hold a call, and have unauthenticated peers connect in the middle of it."""
    server = SharedServer()
    took: list[float] = [float("inf")] * len(peers)

    async def connect(number: int, sent: bytes, injection: Callable[[FaultyStream], None]) -> None:
        took[number] = await connects(server, sent, injection)

    async with server.open() as nursery:
        healthy = await server.place(nursery, HEALTHY)
        nursery.start_soon(server.act, healthy)
        await trio.sleep(3.0)
        for number, (sent, injection) in enumerate(peers):
            nursery.start_soon(connect, number, sent, injection)
        await trio.sleep_until(ALL_OVER)
    assert healthy.findings() == []
    return list(events_of(healthy)), took


WHY = re.compile(r"(call \S+: )?connection closed: |webhook refused with 40[03]: ")
"""How a line begins that says why somebody was turned away; with the call's id where one was named."""


@functools.cache
def undisturbed() -> list[object]:
    return in_virtual_time(beside_a_call)[0]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("way", few(WAYS, 3))
def test_unauthenticated_peer_times_out_and_disturbs_nobody(way: str, caplog: pytest.LogCaptureFixture) -> None:
    """An unauthenticated peer that stops at any moment times out and disturbs no call."""
    injection, within = WAYS[way]
    events, took = in_virtual_time(partial(beside_a_call, *((sent, injection) for sent in MOMENTS.values())))
    assert events == undisturbed()
    assert {moment: seconds for moment, seconds in zip(MOMENTS, took, strict=True) if seconds > within} == {}
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert all(WHY.match(line) for line in warnings(caplog))
    assert len(warnings(caplog)) <= len(MOMENTS)


JUNK = (b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\xf8\x01")
"""Bytes that are not what a carrier sends: of no protocol, of a second request, and the hello of TLS."""


async def junk_in_webhooks(name: str) -> dict[tuple[bytes, int], tuple[int, float]]:
    """Send news about a call, each on a connection with junk before a read or write of the server.

    Return the status of each answer, 0 without one, and after how many seconds its connection was over.
    """
    server = SharedServer(name)
    took: dict[tuple[bytes, int], tuple[int, float]] = {}

    async def send(carrier: SimulatedCarrier, junk: bytes, at: int, status: int = 0) -> None:
        begun = trio.current_time()
        ours, theirs = trio.testing.memory_stream_pair()
        line = FaultyStream(theirs)
        line.before = lambda number: line.inject(junk) if number == at else None

        async def connection() -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            return ours

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_connection, server.call_server.context, line)
            with suppress(CallRefused):
                webhook = carrier.protocol.news(carrier.public_url, "ringing")
                status = (await asked(connection, webhook)).status
        took[junk, at] = status, trio.current_time() - begun

    async with server.open() as nursery:
        call = await server.place(nursery, HEALTHY)
        await trio.sleep(1.0)
        async with trio.open_nursery() as connections:
            for junk in JUNK:
                for at in range(1, 7):
                    connections.start_soon(send, call.carrier, junk, at)
        nursery.cancel_scope.cancel()
    return took


@pytest.mark.parametrize("name", CARRIERS)
def test_junk_in_webhook_ends_connection_at_once(name: str) -> None:
    """Junk on a webhook's connection ends it at once where a request must begin, and costs no answer behind one."""
    took = in_virtual_time(partial(junk_in_webhooks, name))
    assert {at: seconds for at, (_, seconds) in took.items() if seconds > LINGER_TIMEOUT_S} == {}
    # At the first read, the request itself stands behind junk: it gets 404 or 400, or nothing.
    assert {status for (_, at), (status, _) in took.items() if at > 1} <= {200, 204}
    assert {status for (_, at), (status, _) in took.items() if at == 1} <= {0, 400, 404}


def test_unauthenticated_media_sockets_close_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server closes each unauthenticated media socket in time and logs one line with the reason."""
    knocks_ = [(UPGRADE + sent, lambda line: None) for sent, _ in SENT.values()]
    events, took = in_virtual_time(partial(beside_a_call, *knocks_))
    assert events == undisturbed()
    assert max(took) <= 10.5
    lines = sorted(WHY.sub("", line) for line in warnings(caplog))
    assert len(lines) == len(SENT)
    assert all(line.startswith(why) for line, why in zip(lines, sorted(why for _, why in SENT.values()), strict=True))
