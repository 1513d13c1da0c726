"""Announced calls whose media stream never comes: the server ends them at the carrier, once, over REST."""

import logging
from collections.abc import Mapping
from typing import Any

import pytest
import trio
import trio.testing

from patter_trio.abc import StreamFailed
from patter_trio.carriers.local import LocalCarrier
from patter_trio.net.http import answered_here
from patter_trio.server.hang_ups import HANG_UP_TIMEOUT_S, RETRY_WAIT_S, HangUps
from patter_trio.server.pending import TOKEN_LIFETIME_S
from patter_trio.testing.simulation.carriers import CARRIERS, call_id_of
from tests.kit.wire import Wire, carrier_of, wire_to_server

CLOCK = trio.testing.MockClock
each_carrier = pytest.mark.parametrize("name", CARRIERS)
TO = "+15550100003"
OVER = b'{"code": 20404, "status": 404, "errors": [{"code": "90018"}], "api_id": "1"}'
"""What each carrier says about a call that is over, in one."""


def outcomes(wire: Wire) -> list[str]:
    return [end["outcome"] for end in wire.ends]


@each_carrier
@pytest.mark.parametrize("placed", [False, True])
async def test_call_without_media_is_hung_up(name: str, autojump_clock: CLOCK, *, placed: bool) -> None:
    """A minute after its announcement a call without a stream ends at the carrier, too, by one request."""
    async with wire_to_server(name) as wire:
        if placed:
            await wire.phone.call(TO)
        call_id = wire.placed_id if placed else wire.call_id()
        await wire.announce(call_id, wire.reference)
        await trio.sleep(TOKEN_LIFETIME_S - 0.1)
        assert (wire.hang_ups, outcomes(wire)) == (0, [])
        await trio.sleep(0.2)
        assert (wire.hang_ups, outcomes(wire)) == (1, ["failed"])
        await trio.sleep(30.0)
        assert wire.hang_ups == 1


@each_carrier
async def test_closed_server_hangs_up_announced_calls(name: str, autojump_clock: CLOCK) -> None:
    """A server that closes ends the calls that it cannot answer any more."""
    async with wire_to_server(name) as wire:
        await wire.announce(wire.call_id())
        wire.server.expire_all()
        await trio.sleep(1.0)
        assert (wire.hang_ups, outcomes(wire)) == (1, ["cancelled"])


@each_carrier
async def test_stream_that_fails_to_open_hangs_up(name: str, autojump_clock: CLOCK) -> None:
    """A carrier's report that it could not open the stream ends the call at once, here and there."""
    async with wire_to_server(name) as wire:
        await wire.announce(wire.call_id())
        wire.server.on_report(StreamFailed(wire.call_id(), "31920"))
        await trio.sleep(TOKEN_LIFETIME_S + 1.0)
        assert (wire.hang_ups, outcomes(wire)) == (1, ["failed"])


async def test_carrier_without_requests_gets_none(autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture) -> None:
    """A carrier that cannot end calls by request, such as that of this machine, is left alone without a warning."""
    async with trio.open_nursery() as nursery:
        HangUps(LocalCarrier(), nursery).end("CA1", is_lost=True)
        await trio.sleep(HANG_UP_TIMEOUT_S + 5.0)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("name", ["twilio", "plivo"])
async def test_question_about_failed_stream_needs_no_request(name: str, autojump_clock: CLOCK) -> None:
    """A carrier that asks how a call goes on whose stream did not open is answered with the hang-up."""
    async with wire_to_server(name) as wire:
        order = await wire.announce(wire.call_id())
        assert order is not None
        assert await wire.again(wire.call_id(), order) is None
        await trio.sleep(TOKEN_LIFETIME_S + 1.0)
        assert (wire.hang_ups, outcomes(wire)) == (0, ["failed"])


@each_carrier
@pytest.mark.parametrize(
    ("status", "body", "tries"),
    [
        pytest.param(404, OVER, 1, id="over"),
        pytest.param(401, b"{}", 1, id="credentials"),
        pytest.param(500, b"{}", round(HANG_UP_TIMEOUT_S / RETRY_WAIT_S), id="server error"),
    ],
)
async def test_hang_up_is_bounded(
    name: str, status: int, body: bytes, tries: int, autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture
) -> None:
    """A call that is over needs nothing more, refused credentials are of no more use; else it is tried for 5 s."""
    asked: list[float] = []

    async def refuse(method: str, url: str, headers: Mapping[str, str], content: bytes) -> Any:
        await trio.lowlevel.checkpoint()
        asked.append(trio.current_time())
        return status, {}, body

    carrier = carrier_of(name)
    async with trio.open_nursery() as nursery:
        with answered_here(carrier.api_url, refuse):
            assert HangUps(carrier, nursery).end(call_id_of(name, f"{1:032d}"), is_lost=True)
            await trio.sleep(HANG_UP_TIMEOUT_S + 5.0)
    assert len(asked) == tries
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert bool(warnings) == (status != 404)
