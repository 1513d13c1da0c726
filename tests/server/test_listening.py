"""Listening to live calls: what a listener gets, who may listen, and that a call never waits for a listener."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest
import trio
import trio.testing

from patter_trio import Patter
from patter_trio.audio import g711
from patter_trio.audio.formats import RATE_HZ
from patter_trio.errors import WireError
from patter_trio.net.websocket import SocketClosed, WebSocket, connect, receive_upgrade
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.server.listening import (
    MAX_TICKETS,
    TICKET_S,
    TICKET_TIMEOUT_S,
    Listening,
    ListeningRefused,
    ListenTickets,
)
from patter_trio.server.live_audio import MAX_WAITING_PIECES
from patter_trio.server.live_calls import PhoneLiveCalls
from patter_trio.server.stream_places import StreamPlaces
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.call import agent_of
from tests.server.test_windows import TOKEN, origin_of, served

EDGES = ("user_speech_eos", "agent_speech_started", "agent_speech_ended", "transcript")
GREETING = "Good evening, this is the desk of the hotel."


def live_calls(phone: Patter) -> PhoneLiveCalls:
    return PhoneLiveCalls(phone._live, phone._feed)


async def heard(phone: Patter, into: bytearray, agent: bytearray) -> int:
    """Listen to the only call to its end; return the number of dropped pieces."""
    live = live_calls(phone)
    [call] = live.calls()
    async with live.listen(call.call_id) as audio:
        async for said, answered in audio:
            assert len(said) == len(answered)
            into += said
            agent += answered
        return audio.dropped


def assert_heard(caller: SimulatedCaller, since: float, said: bytes, answered: bytes) -> None:
    """Check what a listener got from a time of the call on against what the carrier sent and played."""
    first = round(since * RATE_HZ)
    for ours, theirs in zip((said, answered), caller.carrier.recording(), strict=True):
        samples = g711.decode(ours)
        length = min(len(samples), len(theirs) - first)
        assert length > RATE_HZ
        np.testing.assert_array_equal(samples[:length], theirs[first : first + length])


async def test_listener_hears_both_sides(call_simulator: CallSimulator) -> None:
    """A listener gets what the caller said and what the caller heard, with a barge-in, until the call ends."""
    phone, said, answered = Patter(), bytearray(), bytearray()
    # One in the other, because a listener hears the end of the call.
    async with trio.open_nursery() as nursery:  # noqa: SIM117 (the order matters)
        async with call_simulator(agent_of("We open at nine.", first_message=GREETING), phone) as caller:
            await caller.at(0.11)
            nursery.start_soon(heard, phone, said, answered)
            await caller.at(1.5)
            await caller.speaks("When do you open?", seconds=1.5)
            await caller.hears()
            await caller.hangs_up()
    assert_heard(caller, 0.1, bytes(said), bytes(answered))


async def test_late_listener_hears_only_heard_audio(call_simulator: CallSimulator) -> None:
    """After a cut, a listener from the middle of the greeting has got only samples that the caller heard."""
    phone, said, answered = Patter(), bytearray(), bytearray()
    # One in the other, because a listener hears the end of the call.
    async with trio.open_nursery() as nursery:  # noqa: SIM117 (the order matters)
        async with call_simulator(agent_of("Yes.", first_message=f"{GREETING} {GREETING}"), phone) as caller:
            await caller.at(1.01)
            nursery.start_soon(heard, phone, said, answered)
            await caller.at(1.3)
            await caller.speaks("Stop.", seconds=1.0)
            await caller.at(6.0)
            await caller.hangs_up()
    _, played = caller.carrier.recording()
    ours = g711.decode(bytes(answered))[: len(played) - RATE_HZ]
    # What was sent before the listener came is missing.
    heard_at = np.flatnonzero(ours)
    assert len(heard_at) > 0
    np.testing.assert_array_equal(ours[heard_at], played[RATE_HZ + heard_at])


async def test_slow_listener_costs_the_call_nothing(call_simulator: CallSimulator) -> None:
    """A listener who takes nothing changes no instant of the call, and loses the oldest audio beyond 2 s."""
    times = []
    for listens in (False, True):
        phone = Patter()
        async with call_simulator(agent_of("We open at nine.", first_message=GREETING), phone) as caller:
            await caller.at(0.1)
            live = live_calls(phone)
            [call] = live.calls()
            if listens:
                async with live.listen(call.call_id) as audio:
                    await _talk(caller)
                    assert audio.dropped > MAX_WAITING_PIECES
                    kept = [await anext(audio) for _ in range(MAX_WAITING_PIECES)]
                    assert sum(len(piece) for piece, _ in kept) <= 2.5 * 8000
            else:
                await _talk(caller)
        times.append([[round(at, 6) for at in caller.times(name)] for name in EDGES])
    assert times[0] == times[1]


async def _talk(caller: SimulatedCaller) -> None:
    await caller.at(3.5)
    await caller.speaks("When do you open?", seconds=1.5)
    await caller.hears()
    await caller.at(9.0)


def test_tickets_are_for_once() -> None:
    """A ticket is valid once, for its call, for 60 s; beyond 64, the oldest goes."""
    tickets = ListenTickets()
    assert not tickets.take("unknown", "CA1", 0.0)
    key = tickets.give("CA1", 0.0)
    assert [bool(tickets.take(key, "CA1", 1.0)) for _ in range(2)] == [True, False]
    assert not tickets.take(tickets.give("CA1", 0.0), "CA2", 1.0)
    assert not tickets.take(tickets.give("CA1", 0.0), "CA1", TICKET_S)
    keys = [tickets.give("CA1", 0.0) for _ in range(MAX_TICKETS + 1)]
    assert [bool(tickets.take(key, "CA1", 1.0)) for key in keys[:2]] == [False, True]


# Over sockets ---------------------------------------------------------------------------------------------------------
@asynccontextmanager
async def a_call(client: httpx.AsyncClient) -> AsyncIterator[tuple[str, WebSocket]]:
    """Hold a call of the browser phone; yield its id, and the socket of its caller."""
    ticket = (await client.post("/phone/calls", headers=origin_of(client))).json()
    async with opened(client, f"/ws/browser/stream/{ticket['call_id']}") as socket:
        await socket.send(json.dumps({"event": "start", **ticket}))
        with trio.fail_after(20):  # a stuck server fails the test
            while not (await client.get("/api/live")).json()["calls"]:  # noqa: ASYNC110 (no event reports it)
                await trio.sleep(0.01)
        yield ticket["call_id"], socket


@asynccontextmanager
async def opened(client: httpx.AsyncClient, path: str, origin: str = "") -> AsyncIterator[WebSocket]:
    """Open a WebSocket as a page of the server, or of another origin, does."""
    own = origin_of(client)["origin"]
    stream = await trio.open_tcp_stream(str(client.base_url.host), client.base_url.port or 80)
    try:
        yield await connect(stream, own.replace("http", "ws") + path, {"Origin": origin or own})
    finally:
        await trio.aclose_forcefully(stream)


async def ticket_of(client: httpx.AsyncClient, call_id: str) -> str:
    answer = await client.post(f"/api/live/{call_id}/listen", headers=origin_of(client))
    assert answer.status_code == 200
    return str(answer.json()["ticket"])


def media(sound: bytes) -> str:
    return json.dumps({"event": "media", "payload": base64.b64encode(sound).decode()})


async def test_page_listens_over_its_socket() -> None:
    """A page with a ticket gets the caller's audio over its socket, which is closed when the call is over."""
    sound = g711.encode((8000 * np.sin(np.arange(160) / 3)).astype(np.int16))
    async with served(browser_phone=True) as client, a_call(client) as (call_id, caller):
        ticket = await ticket_of(client, call_id)
        async with opened(client, f"/ws/listen/{call_id}") as socket:
            await socket.send(json.dumps({"ticket": ticket}))
            got = b""
            while sound not in got:
                await caller.send(media(sound))
                with trio.move_on_after(0.02):
                    message = await socket.receive()
                    assert isinstance(message, bytes)
                    got += message[: len(message) // 2]
            await caller.send(json.dumps({"event": "stop"}))
            assert await end_of(socket) == (1000, "the call is over")
        # Used up, and the call is over.
        async with opened(client, f"/ws/listen/{call_id}") as socket:
            await socket.send(json.dumps({"ticket": ticket}))
            assert (await end_of(socket))[0] == 1008
        assert (await client.post(f"/api/live/{call_id}/listen", headers=origin_of(client))).status_code == 404


async def test_logout_ends_listening() -> None:
    """A page that was logged out hears no more of a call, and a ticket from before its logout is worth nothing."""
    async with served(browser_phone=True, dashboard_token=TOKEN) as client:
        await client.post("/dashboard/login", data={"token": TOKEN}, headers=origin_of(client))
        async with a_call(client) as (call_id, caller), opened(client, f"/ws/listen/{call_id}") as socket:
            used, unused = await ticket_of(client, call_id), await ticket_of(client, call_id)
            await socket.send(json.dumps({"ticket": used}))
            await caller.send(media(bytes(160)))
            await client.post("/dashboard/logout", headers=origin_of(client))
            assert await end_of(socket) == (1008, "the login is over")
            async with opened(client, f"/ws/listen/{call_id}") as other:
                await other.send(json.dumps({"ticket": unused}))
                assert await end_of(other) == (1008, "the login is over")


async def end_of(socket: WebSocket) -> tuple[int, str]:
    """Return the code and the reason with which the server closes a socket."""
    while True:
        try:
            await socket.receive()
        except SocketClosed as closed:
            return closed.code, closed.reason


@pytest.mark.parametrize(
    "message", ["{}", '{"ticket": ""}', '{"ticket": 7}', "[" * 900, "no JSON", '{"ticket": "x"}', b"\xff" * 2000]
)
async def test_listener_without_ticket_is_refused(message: str | bytes) -> None:
    """A socket whose first message has no valid ticket is closed, and gets no audio."""
    async with served(browser_phone=True) as client, opened(client, "/ws/listen/CA1") as socket:
        await socket.send(message)
        assert (await end_of(socket))[0] == 1008


async def test_silent_listener_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    """A socket without a ticket within 10 s is closed and refused; nothing of the call is opened for it."""
    del autojump_clock
    phone, places, proven = Patter(), StreamPlaces(), trio.Event()
    listening = Listening(live_calls(phone))
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            head = await theirs.receive_some()
            upgrade = await receive_upgrade(theirs, bytes(head))
            began = trio.current_time()
            with pytest.raises(ListeningRefused, match="must send its ticket first"):
                await listening.serve(upgrade, places, proven.set)
            assert trio.current_time() - began >= TICKET_TIMEOUT_S

        nursery.start_soon(serve)
        socket = await connect(ours, "ws://desk.test/ws/listen/CA1", {"Origin": "http://desk.test"})
        assert (await end_of(socket))[0] == 1008
    assert not proven.is_set()


async def test_pages_of_other_sites_do_not_listen() -> None:
    """Another site gets neither a ticket nor a socket, even with the ticket of a page of ours."""
    async with served(browser_phone=True) as client, a_call(client) as (call_id, _):
        path = f"/api/live/{call_id}/listen"
        for headers in ({}, {"origin": "http://evil.test"}):
            assert (await client.post(path, headers=headers)).status_code == 403
        with pytest.raises(WireError, match="403"):
            async with opened(client, f"/ws/listen/{call_id}", "http://evil.test"):
                pass


async def test_listener_sends_nothing_more() -> None:
    """A listener that goes on sending is closed, and one that leaves harms nobody."""
    async with served(browser_phone=True) as client, a_call(client) as (call_id, _):
        for says in (True, False):
            async with opened(client, f"/ws/listen/{call_id}") as socket:
                await socket.send(json.dumps({"ticket": await ticket_of(client, call_id)}))
                if says:
                    await socket.send("hello")
                    assert (await end_of(socket))[0] == 1008
        assert len((await client.get("/api/live")).json()["calls"]) == 1


async def test_without_a_dashboard_nobody_listens() -> None:
    """A server without dashboard=True has no such socket and no tickets."""
    async with served(dashboard=False, browser_phone=True) as client:
        assert (await client.post("/api/live/CA1/listen", headers=origin_of(client))).status_code in (404, 405)
