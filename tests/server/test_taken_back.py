"""Calls that are transferred to a party that does not answer: they come back to the agent, over each carrier."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from patter_trio.call.streams import RECONNECT_TIMEOUT_S
from patter_trio.call.transfers import REACH_TIMEOUT_S
from patter_trio.testing.simulation.carriers import CARRIERS
from tests.kit.wire import Stream, Wire, wire_to_server

CLOCK = trio.testing.MockClock
each_carrier = pytest.mark.parametrize("name", CARRIERS)
DESK = "+15550100003"


async def transferred(wire: Wire, end: Callable[[Stream], Awaitable[None]] = Stream.hang_up) -> Stream:
    """Hold a call to its transfer: the carrier has taken it, and ended the stream in a way; the desk rings."""
    order = await wire.announce(wire.call_id())
    assert order is not None
    stream = await wire.open_stream(wire.call_id(), order)
    await trio.sleep(2.0)
    [call] = wire.phone.calls
    with trio.fail_after(10):
        wire.nursery.start_soon(_hand_over, call)
        await trio.sleep(0.1)
        await end(stream)
    await trio.sleep(5.0)
    assert wire.ends == []
    return stream


async def _hand_over(call: Any) -> None:
    await call.transfer(DESK, error_message="Nobody answers.")


@each_carrier
async def test_unanswered_transfer_comes_back(name: str, autojump_clock: CLOCK) -> None:
    """If nobody answers, the caller is back with the agent, who says so and goes on; the call ends once."""
    async with wire_to_server(name) as wire:
        assert (await transferred(wire)).words == "Hello."
        order = await wire.unreached(wire.call_id())
        assert order is not None
        back = await wire.open_stream(wire.call_id(), order)
        await trio.sleep(3.0)
        assert back.words == "Nobody answers."
        [call] = wire.phone.calls
        call.say("Goodbye.")
        await trio.sleep(2.0)
        assert back.words == "Nobody answers.Goodbye."
        await back.hang_up()
        await trio.sleep(1.0)
    assert [end["outcome"] for end in wire.ends] == ["caller_hung_up"]
    assert len(wire.starts) == 1


@each_carrier
async def test_answered_transfer_ends_the_call(name: str, autojump_clock: CLOCK) -> None:
    """As soon as the party answers, the call has ended for the agent as transferred, and nothing hangs it up."""
    async with wire_to_server(name) as wire:
        await transferred(wire)
        before = wire.hang_ups
        wire.post("reached", wire.call_id())
        await trio.sleep(1.0)
        assert [end["outcome"] for end in wire.ends] == ["transferred"]
        assert wire.hang_ups == before


async def _garble(stream: Stream) -> None:
    await stream.socket._stream.send_all(b"\xff" * 64)
    await stream.over.wait()


@each_carrier
@pytest.mark.parametrize("end", [Stream.lose, _garble], ids=["reset", "garbage"])
@pytest.mark.parametrize("reached", [True, False])
async def test_stream_may_break_while_party_rings(
    name: str, end: Callable[[Stream], Awaitable[None]], reached: bool, autojump_clock: CLOCK
) -> None:
    """However the stream ends, the carrier decides: nothing hangs up a caller for whom a party rings."""
    async with wire_to_server(name) as wire:
        await transferred(wire, end)
        # Longer than a call waits for a stream that is lost without a transfer.
        await trio.sleep(RECONNECT_TIMEOUT_S)
        assert (wire.ends, wire.hang_ups) == ([], 0)
        if reached:
            wire.post("reached", wire.call_id())
            await trio.sleep(1.0)
            assert [call["outcome"] for call in wire.ends] == ["transferred"]
            assert wire.hang_ups == 0
        else:
            order = await wire.unreached(wire.call_id())
            assert order is not None
            back = await wire.open_stream(wire.call_id(), order)
            await trio.sleep(3.0)
            assert back.words == "Nobody answers."
            await back.hang_up()
            await trio.sleep(1.0)


@each_carrier
async def test_caller_may_leave_a_ringing_transfer(name: str, autojump_clock: CLOCK) -> None:
    """A caller who hangs up while the party rings ends the call as transferred, at once."""
    async with wire_to_server(name) as wire:
        await transferred(wire)
        wire.post("completed", wire.call_id())
        await trio.sleep(1.0)
        assert [end["outcome"] for end in wire.ends] == ["transferred"]


@each_carrier
async def test_transfer_without_a_report_ends(name: str, autojump_clock: CLOCK) -> None:
    """A carrier that reports nothing about the party has taken the call over after half a minute."""
    async with wire_to_server(name) as wire:
        await transferred(wire)
        await trio.sleep(REACH_TIMEOUT_S + 2.0)
        assert [end["outcome"] for end in wire.ends] == ["transferred"]


@pytest.mark.parametrize("name", ["twilio", "plivo"])
async def test_call_after_a_conversation_is_over(name: str, autojump_clock: CLOCK) -> None:
    """After a conversation with the other party the carrier asks how the call goes on: it does not."""
    async with wire_to_server(name) as wire:
        await transferred(wire)
        wire.post("reached", wire.call_id())
        await trio.sleep(60.0)
        assert await wire.again(wire.call_id(), what="talked") is None
    assert [end["outcome"] for end in wire.ends] == ["transferred"]


async def test_late_hang_up_of_telnyx_party(autojump_clock: CLOCK) -> None:
    """A Telnyx party that gives up when the agent's call is over leaves no caller on a silent line."""
    async with wire_to_server("telnyx") as wire:
        await transferred(wire)
        await trio.sleep(REACH_TIMEOUT_S + 10.0)
        before = wire.hang_ups
        wire.post("unreached", wire.call_id())
        await trio.sleep(1.0)
        assert wire.hang_ups == before + 1
