"""The one-time token of a media stream, over each carrier: it opens one stream of one call, within a minute."""

import pytest
import trio
import trio.testing

from patter_trio.server.pending import TOKEN_LIFETIME_S
from patter_trio.testing.simulation.carriers import CARRIERS
from tests.kit.wire import Order, Stream, Wire, wire_to_server

CLOCK = trio.testing.MockClock
each_carrier = pytest.mark.parametrize("name", CARRIERS)
REFUSED = (1008, "the call is unknown, or its token is wrong, used or expired")


async def announced(wire: Wire, number: int = 1) -> Order:
    order = await wire.announce(wire.call_id(number))
    assert order is not None
    return order


async def refused(stream: Stream) -> tuple[int, str] | None:
    with trio.fail_after(20):
        await stream.over.wait()
    assert stream.words == ""
    return stream.closed


@each_carrier
async def test_wrong_token_opens_no_stream(name: str, autojump_clock: CLOCK) -> None:
    """A guessed token, a cut one and one in capitals are refused, and the right one still opens the call."""
    async with wire_to_server(name) as wire:
        order = await announced(wire)
        for token in ("0" * 64, order.token[:-1], order.token.upper() + "A"):
            assert await refused(await wire.open_stream(wire.call_id(), order, token)) == REFUSED
        stream = await wire.open_stream(wire.call_id(), order)
        await trio.sleep(2.0)
        assert stream.words == "Hello."


@each_carrier
async def test_used_token_opens_nothing_more(name: str, autojump_clock: CLOCK) -> None:
    """A token works once: while its call is live, and after the end of it."""
    async with wire_to_server(name) as wire:
        order = await announced(wire)
        stream = await wire.open_stream(wire.call_id(), order)
        assert await refused(await wire.open_stream(wire.call_id(), order)) == REFUSED
        await trio.sleep(2.0)
        assert (stream.words, stream.closed) == ("Hello.", None)
        await stream.hang_up()
        assert await refused(await wire.open_stream(wire.call_id(), order)) == REFUSED
    assert [end["outcome"] for end in wire.ends] == ["caller_hung_up"]


@each_carrier
async def test_token_is_bound_to_its_call(name: str, autojump_clock: CLOCK) -> None:
    """A token opens neither the stream of another call, nor one whose start message and path name two calls."""
    async with wire_to_server(name) as wire:
        one, other = await announced(wire, 1), await announced(wire, 2)
        assert await refused(await wire.open_stream(wire.call_id(1), one, other.token)) == REFUSED
        assert await refused(await wire.open_stream(wire.call_id(2), other, one.token)) == REFUSED
        two = (1008, "the start message must name the call of the path")
        assert await refused(await wire.open_stream(wire.call_id(2), one, other.token)) == two
        streams = [await wire.open_stream(wire.call_id(1), one), await wire.open_stream(wire.call_id(2), other)]
        await trio.sleep(2.0)
        assert [stream.words for stream in streams] == ["Hello."] * 2


@each_carrier
@pytest.mark.parametrize("early", [0.5, 0.0])
async def test_token_expires_after_60_s(name: str, early: float, autojump_clock: CLOCK) -> None:
    """Half a second before its minute is over a token opens the call; at the end of it the call is given up."""
    async with wire_to_server(name) as wire:
        order = await announced(wire)
        await trio.sleep(TOKEN_LIFETIME_S - early)
        stream = await wire.open_stream(wire.call_id(), order)
        if early:
            await trio.sleep(2.0)
            assert stream.words == "Hello."
        else:
            assert await refused(stream) == REFUSED
    assert [end["outcome"] for end in wire.ends] == (["cancelled"] if early else ["failed"])


@each_carrier
async def test_lost_answer_makes_its_token_worthless(name: str, autojump_clock: CLOCK) -> None:
    """A repeated webhook makes a new token, and the first one opens nothing; Telnyx gets no second command."""
    async with wire_to_server(name) as wire:
        first = await announced(wire)
        second = await wire.announce(wire.call_id())
        if name == "telnyx":
            assert second is None
            second = first
        else:
            assert second is not None
            assert await refused(await wire.open_stream(wire.call_id(), first)) == REFUSED
        stream = await wire.open_stream(wire.call_id(), second)
        await trio.sleep(2.0)
        assert stream.words == "Hello."
    assert len(wire.starts) == 1
