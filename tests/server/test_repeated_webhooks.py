"""Webhooks that a carrier repeats, delays or sends in another order: each counts once, over each carrier."""

from typing import Any

import pytest
import trio
import trio.testing

from patter_trio import PatterEventType, ProviderTimeout
from patter_trio.testing.carriers.news import NEWS
from patter_trio.testing.simulation.carriers import CARRIERS
from tests.kit.wire import Wire, wire_to_server

CLOCK = trio.testing.MockClock
each_carrier = pytest.mark.parametrize("name", CARRIERS)
TO = "+15550100003"


def outcomes(wire: Wire) -> list[str]:
    return [end["outcome"] for end in wire.ends]


# Calls that come in ---------------------------------------------------------------------------------------------------
@each_carrier
@pytest.mark.parametrize("times", [2, 5])
async def test_repeated_announcement_is_one_call(name: str, times: int, autojump_clock: CLOCK) -> None:
    """A voice webhook that comes several times makes one call, whose caller hears the greeting once."""
    async with wire_to_server(name) as wire:
        orders = [await wire.announce(wire.call_id()) for _ in range(times)]
        order = [order for order in orders if order is not None][-1]
        stream = await wire.open_stream(wire.call_id(), order)
        await trio.sleep(2.0)
        assert stream.words == "Hello."
        await stream.hang_up()
    assert len(wire.starts) == 1
    assert outcomes(wire) == ["caller_hung_up"]
    # One stream was asked for by command, and the hang-up after the call is the only other one.
    assert [command for command, _ in wire.commands] == (["answer", "hangup"] if name == "telnyx" else [])


@each_carrier
async def test_announcement_of_live_call_spares_it(name: str, autojump_clock: CLOCK) -> None:
    """A voice webhook for a call that is live asks for no second stream, sends no command, and the call goes on."""
    async with wire_to_server(name) as wire:
        order = await wire.announce(wire.call_id())
        assert order is not None
        stream = await wire.open_stream(wire.call_id(), order)
        await trio.sleep(0.3)
        before = len(wire.commands)
        assert await wire.announce(wire.call_id()) is None
        await trio.sleep(2.0)
        assert (stream.words, stream.closed, len(wire.commands)) == ("Hello.", None, before)
        await stream.hang_up()
        assert await wire.announce(wire.call_id()) is None
    assert len(wire.starts) == 1
    assert outcomes(wire) == ["caller_hung_up"]


@each_carrier
@pytest.mark.parametrize("final", ["completed", "busy"])
async def test_end_before_the_announcement_stays_an_end(name: str, final: str, autojump_clock: CLOCK) -> None:
    """A call that is reported over before it is announced is not answered, and no callback hears of it."""
    async with wire_to_server(name) as wire:
        assert wire.post(final, wire.call_id()).status == 204
        assert await wire.announce(wire.call_id()) is None
        other = await wire.announce(wire.call_id(2))
        assert other is not None
        stream = await wire.open_stream(wire.call_id(2), other)
        await trio.sleep(2.0)
        assert stream.words == "Hello."
    assert [start["call_id"] for start in wire.starts] == [wire.call_id(2)]
    assert [end["call_id"] for end in wire.ends] == [wire.call_id(2)]


@each_carrier
@pytest.mark.parametrize("second", ["completed", "busy"])
async def test_two_ends_are_one(name: str, second: str, autojump_clock: CLOCK) -> None:
    """Of two final statuses of an announced call the first counts, and its stream comes too late."""
    async with wire_to_server(name) as wire:
        order = await wire.announce(wire.call_id())
        assert order is not None
        for final in ("completed", second, "completed"):
            assert wire.post(final, wire.call_id()).status == 204
        stream = await wire.open_stream(wire.call_id(), order)
        await stream.over.wait()
        assert stream.words == ""
        assert stream.closed is not None
        assert stream.closed[0] == 1008
    assert len(wire.starts) == 1
    assert outcomes(wire) == ["caller_hung_up"]


@each_carrier
@pytest.mark.parametrize("what", [what for what in NEWS if what != "voice"])
async def test_news_of_live_call_spare_it(name: str, what: str, autojump_clock: CLOCK) -> None:
    """Whatever is reported about a live call, twice, its caller hears the agent, and it ends by its stream, once."""
    async with wire_to_server(name) as wire:
        order = await wire.announce(wire.call_id())
        assert order is not None
        stream = await wire.open_stream(wire.call_id(), order)
        await trio.sleep(0.1)
        for _ in range(2):
            assert wire.post(what, wire.call_id()).status == 204
        await trio.sleep(2.0)
        assert (stream.words, stream.closed) == ("Hello.", None)
        await stream.hang_up()
        for _ in range(2):
            assert wire.post(what, wire.call_id()).status == 204
    assert len(wire.starts) == 1
    assert outcomes(wire) == ["caller_hung_up"]


@each_carrier
@pytest.mark.parametrize("when", ["live", "over", "both"])
async def test_recording_is_published_once(name: str, when: str, autojump_clock: CLOCK) -> None:
    """A recording that is reported several times, during the call, after it or both, is published once."""
    saved: list[Any] = []
    async with wire_to_server(name) as wire:
        wire.phone.events.on(PatterEventType.RECORDING_SAVED, saved.append)
        order = await wire.announce(wire.call_id())
        assert order is not None
        stream = await wire.open_stream(wire.call_id(), order)
        await trio.sleep(2.0)

        def report() -> None:
            for _ in range(2):
                assert wire.post("recording", wire.call_id()).status == 204

        if when != "over":
            report()
        await trio.sleep(1.0)
        assert (stream.words, stream.closed) == ("Hello.", None)
        await stream.hang_up()
        if when != "live":
            report()
    assert [event["call_id"] for event in saved] == [wire.call_id()]
    assert outcomes(wire) == ["caller_hung_up"]


@each_carrier
@pytest.mark.parametrize("dial", ["", "not-ours"])
@pytest.mark.parametrize("what", [what for what in NEWS if what != "voice"])
async def test_news_of_unknown_call_change_nothing(name: str, what: str, dial: str, autojump_clock: CLOCK) -> None:
    """A report about a call that nobody knows is taken, asks the carrier for nothing, and no callback hears of it."""
    async with wire_to_server(name) as wire:
        for _ in range(2):
            assert wire.post(what, wire.call_id(), dial).status == 204
        await trio.sleep(1.0)
    assert (wire.starts, wire.ends, wire.commands) == ([], [], [])


@each_carrier
async def test_answered_call_that_nobody_placed_is_ended(name: str, autojump_clock: CLOCK) -> None:
    """A call that somebody has answered and nobody here has placed is ended, also by request."""
    async with wire_to_server(name) as wire:
        assert await wire.announce(wire.call_id(), "not-ours") is None
        await trio.sleep(1.0)
        assert wire.hang_ups == 1
    assert (wire.starts, wire.ends) == ([], [])


# Calls that we place --------------------------------------------------------------------------------------------------
@each_carrier
async def test_repeated_answer_is_one_call(name: str, autojump_clock: CLOCK) -> None:
    """A placed call whose answer is announced twice, while it rings twice as often, greets once and ends once."""
    async with wire_to_server(name) as wire:
        call = await wire.phone.call(TO)
        dial = wire.reference
        assert wire.post("ringing", wire.placed_id, dial).status == 204
        orders = [await wire.announce(wire.placed_id, dial) for _ in range(2)]
        assert wire.post("ringing", wire.placed_id, dial).status == 204
        order = [order for order in orders if order is not None][-1]
        stream = await wire.open_stream(wire.placed_id, order)
        await trio.sleep(2.0)
        assert stream.words == "Hello."
        assert await call.answered()
        for _ in range(2):
            assert wire.post("completed", wire.placed_id, dial).status == 204
        assert stream.closed is None
        await stream.hang_up()
        assert await call.ended() == "caller_hung_up"
        for _ in range(2):
            assert wire.post("busy", wire.placed_id, dial).status == 204
    assert len(wire.starts) == 1
    assert outcomes(wire) == ["caller_hung_up"]
    assert sum("stream_url" in fields for _, fields in wire.commands) == (name == "telnyx")


@each_carrier
async def test_end_before_the_answer_stays_an_end(name: str, autojump_clock: CLOCK) -> None:
    """A placed call that is reported busy twice, and then answered, ended as busy; the person is hung up on."""
    async with wire_to_server(name) as wire:
        call = await wire.phone.call(TO)
        dial = wire.reference
        for _ in range(2):
            assert wire.post("busy", wire.placed_id, dial).status == 204
        assert await call.ended() == "busy"
        assert await wire.announce(wire.placed_id, dial) is None
        await trio.sleep(1.0)
        # Its end by webhook makes a request needless, until it is answered all the same.
        assert wire.hang_ups == 1
    assert len(wire.starts) == 1
    assert outcomes(wire) == ["busy"]


@each_carrier
async def test_repeated_answer_spares_transferred_call(name: str, autojump_clock: CLOCK) -> None:
    """A repeated announcement of a placed call that was transferred sends no hang-up: two people are talking."""
    async with wire_to_server(name) as wire:
        call = await wire.phone.call(TO)
        dial = wire.reference
        order = await wire.announce(wire.placed_id, dial)
        assert order is not None
        stream = await wire.open_stream(wire.placed_id, order)
        await trio.sleep(2.0)
        await call.control.transfer("+15550100004")
        await stream.over.wait()
        assert await call.ended() == "transferred"
        await wire.announce(wire.placed_id, dial)
        await trio.sleep(2.0)
        assert wire.hang_ups == 0
    assert outcomes(wire) == ["transferred"]


@each_carrier
async def test_end_may_overtake_the_dial(name: str, autojump_clock: CLOCK) -> None:
    """A call whose end is reported, twice, before the answer to its dial began and ended once."""
    async with wire_to_server(name) as wire:
        wire.rings = False

        def busy() -> None:
            for _ in range(2):
                assert wire.post("busy", wire.placed_id, wire.reference).status == 204

        wire.during_dial = busy
        call = await wire.phone.call(TO)
        assert (call.call_id, await call.ended()) == (wire.placed_id, "busy")
        assert len(wire.commands) == 1
    assert len(wire.starts) == 1
    assert outcomes(wire) == ["busy"]


@each_carrier
@pytest.mark.parametrize("when", ["ringing", "live", "over"])
async def test_machine_is_found_once(name: str, when: str, autojump_clock: CLOCK) -> None:
    """A finding about who answers is told once, by two reports before, during or after the stream.

    None after the end.
    """
    found: list[dict[str, Any]] = []
    async with wire_to_server(name) as wire:
        call = await wire.phone.call(TO, machine_detection=True, on_machine_detection=found.append)
        dial = wire.reference

        def report() -> None:
            for _ in range(2):
                assert wire.post("machine", wire.placed_id, dial).status == 204

        order = await wire.announce(wire.placed_id, dial)
        assert order is not None
        if when == "ringing":
            report()
        stream = await wire.open_stream(wire.placed_id, order)
        await trio.sleep(2.0)
        if when == "live":
            report()
            await trio.sleep(1.0)
        assert stream.words == "Hello."
        await stream.hang_up()
        assert await call.ended() == "caller_hung_up"
        report()
    assert [finding["answered_by"] for finding in found] == ([] if when == "over" else ["machine"])
    assert outcomes(wire) == ["caller_hung_up"]


@each_carrier
async def test_report_of_one_call_spares_another(name: str, autojump_clock: CLOCK) -> None:
    """A report with the reference of one call and the id of another ends at most the one whose reference it has."""
    async with wire_to_server(name) as wire:
        order = await wire.announce(wire.call_id())
        assert order is not None
        stream = await wire.open_stream(wire.call_id(), order)
        call = await wire.phone.call(TO)
        assert wire.post("busy", wire.call_id(), wire.reference).status == 204
        assert await call.ended() == "busy"
        await trio.sleep(2.0)
        assert (stream.words, stream.closed) == ("Hello.", None)
        await stream.hang_up()
    assert sorted(outcomes(wire)) == ["busy", "caller_hung_up"]


@each_carrier
async def test_number_dialled_twice_is_two_calls(name: str, autojump_clock: CLOCK) -> None:
    """One number that is called twice at once is dialled twice, under two references; each hears the greeting."""
    async with wire_to_server(name) as wire:
        references: list[str] = []
        wire.during_dial = lambda: references.append(wire.reference)
        calls: list[Any] = []

        async def place() -> None:
            calls.append(await wire.phone.call(TO))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(place)
            nursery.start_soon(place)
        ids = [wire.placed(number) for number in (1, 2)]
        assert sorted(call.call_id for call in calls) == sorted(ids)
        assert len(set(references)) == 2
        streams = []
        for call_id, reference in zip(ids, references, strict=True):
            order = await wire.announce(call_id, reference)
            assert order is not None
            streams.append(await wire.open_stream(call_id, order))
        await trio.sleep(2.0)
        assert [stream.words for stream in streams] == ["Hello.", "Hello."]
        await streams[0].hang_up()
        await trio.sleep(1.0)
        assert (streams[1].closed, wire.dials) == (None, 2)
        await streams[1].hang_up()
    assert outcomes(wire) == ["caller_hung_up"] * 2


@each_carrier
async def test_dial_without_answer_is_not_repeated(name: str, autojump_clock: CLOCK) -> None:
    """A dial whose answer is lost is not repeated: it raises, and the call is hung up as soon as it rings."""
    async with wire_to_server(name) as wire:

        def lost() -> None:
            raise ConnectionResetError("connection reset by peer")

        wire.during_dial = lost
        with pytest.raises(ProviderTimeout, match="unknown whether the request was carried out"):
            await wire.phone.call(TO)
        assert wire.dials == 1
        assert wire.post("ringing", wire.placed_id, wire.reference).status == 204
        await trio.sleep(1.0)
        assert (wire.dials, wire.hang_ups) == (1, 1)
    assert (wire.starts, wire.ends) == ([], [])
