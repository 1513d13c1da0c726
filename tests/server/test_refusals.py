"""The log of refusals: one line for a kind of refusal from a peer within an interval, and a number for the others."""

import logging

import pytest
import trio
import trio.testing

from patter_trio.server.refusals import LOG_INTERVAL_S, MAX_LINES_OF_CALLS, MAX_REFUSED_KINDS, Refusals, peer_of
from patter_trio.testing.servers.loopback import on_loopback
from tests.kit.server import FakeCallServer, read_all

UNSIGNED = (
    b"POST /webhooks/twilio/voice HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 11\r\n\r\nCallSid=CA1"
)


def test_a_kind_is_logged_once_an_interval() -> None:
    """The first refusal is a line; those within the interval are a number in the first line after it."""
    refusals = Refusals()
    lines = [refusals.line("192.0.2.1", "refused", f"refused: {number}", number * 0.5) for number in range(200)]
    assert [line for line in lines if line is not None] == [
        "refused: 0",
        "refused: 120 (119 more like it from 192.0.2.1 since the last such line)",
    ]


def test_peers_and_kinds_are_counted_apart() -> None:
    """Another peer, and another kind from the same peer, have lines of their own."""
    refusals = Refusals()
    asked = [("192.0.2.1", "a"), ("192.0.2.2", "a"), ("192.0.2.1", "b"), ("192.0.2.1", "a"), ("192.0.2.2", "a")]
    lines = [refusals.line(peer, kind, f"{peer} {kind}", 0.0) for peer, kind in asked]
    assert lines == ["192.0.2.1 a", "192.0.2.2 a", "192.0.2.1 b", None, None]


def test_connections_for_calls_have_a_few_lines() -> None:
    """Of refused connections that name calls, the first ten of an interval are logged."""
    refusals = Refusals()
    lines = [refusals.line("192.0.2.1", "k", f"call {call}: k", 0.0, lines=MAX_LINES_OF_CALLS) for call in range(30)]
    assert [line for line in lines if line] == [f"call {call}: k" for call in range(MAX_LINES_OF_CALLS)]


def test_many_peers_are_counted_as_one(caplog: pytest.LogCaptureFixture) -> None:
    """A flood from any number of addresses logs a bounded number of lines, and keeps a bounded number of counts."""
    refusals = Refusals()
    lines = [refusals.line(f"peer {number % 5000}", "refused", "refused", 0.001 * number) for number in range(20_000)]
    assert sum(line is not None for line in lines) == MAX_REFUSED_KINDS + 1
    assert len(refusals._counts) == MAX_REFUSED_KINDS + 1
    with caplog.at_level(logging.WARNING, "patter_trio.server"):
        assert refusals.line("late", "refused", "refused", 20.0 + LOG_INTERVAL_S) == "refused"
    others = 20_000 - 4 * MAX_REFUSED_KINDS - 1
    assert [record.getMessage() for record in caplog.records] == [
        *(
            f"refused (3 more like it from peer {number} since the last such line)"
            for number in range(MAX_REFUSED_KINDS)
        ),
        f"refused ({others} more like it from other peers since the last such line)",
    ]


async def knock(call_server: FakeCallServer, request: bytes) -> bytes:
    """Send a request over a new connection, and return the answer."""
    async with trio.open_nursery() as nursery:
        stream = call_server.open(nursery)
        await stream.send_all(request)
        return await read_all(stream)


async def test_flood_of_refused_webhooks_is_one_line(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred webhooks without a signature are one line, and one more after the interval, which has their number."""
    call_server = FakeCallServer()
    with caplog.at_level(logging.WARNING, "patter_trio.server"):
        for _ in range(100):
            assert (await knock(call_server, UNSIGNED)).startswith(b"HTTP/1.1 403 ")
        await trio.sleep(LOG_INTERVAL_S)
        await knock(call_server, UNSIGNED)
    refusal = "webhook refused with 403: the request must have a signature"
    assert [record.getMessage() for record in caplog.records] == [
        refusal,
        f"{refusal} (99 more like it from this peer since the last such line)",
    ]


async def test_refusals_of_announced_calls_are_all_logged(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A media stream of an announced call that comes without its upgrade is always logged; for other ids it is not."""
    call_server = FakeCallServer()
    call_server.announce("CA1")
    with caplog.at_level(logging.WARNING, "patter_trio.server"):
        for call_id in (*("CA3",) * 20, "CA1", "CA1"):
            plain = f"GET /ws/twilio/stream/{call_id} HTTP/1.1\r\nHost: a\r\n\r\n"
            assert (await knock(call_server, plain.encode())).startswith(b"HTTP/1.1 426 ")
    calls = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert calls == ["call CA3"] * MAX_LINES_OF_CALLS + ["call CA1"] * 2


async def test_peer_is_the_address_without_port() -> None:
    """A connection over TCP has the address of its peer; one in memory has none."""
    peers: list[str] = []

    async def note(stream: trio.SocketStream) -> None:
        async with stream:
            peers.append(peer_of(stream))

    async with on_loopback(note) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        assert await stream.receive_some() == b""
    peers.append(peer_of(trio.testing.memory_stream_pair()[0]))
    assert peers == ["127.0.0.1", "this peer"]
