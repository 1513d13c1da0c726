"""Carriers of the application's own: whatever their methods raise ends no other call, and not the server."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import pytest
import trio
import trio.testing

from patter_trio import PatterError, PatterEventType, Telnyx
from patter_trio.carriers.telnyx_signature import public_key_of
from tests.kit.depth import few
from tests.kit.wire import CALLEE, PRIVATE, Stream, Wire, wire_to_server
from tests.server.test_lost_streams import live

CLOCK = trio.testing.MockClock


class OwnBase(BaseException):
    """A BaseException of the application's own."""


class Crashing(Telnyx):
    """A carrier whose requests crash; ``pick_up`` works, so that calls begin."""

    error: type[BaseException] = RuntimeError

    async def _crash(self, *_: object, **__: object) -> NoReturn:
        await trio.lowlevel.checkpoint()
        raise self.error("own")

    reconnect = hang_up = start_recording = cost = dial = _crash  # type: ignore[assignment]


class CrashingBase(Crashing):
    """The same with what is not an Exception."""

    error = OwnBase


class CrashingPickUp(Crashing):
    """The same, and its second call is not even picked up."""

    async def pick_up(self, call: Any, *arguments: Any, **options: Any) -> None:
        if call.call_id.endswith("2"):
            await self._crash()
        await super().pick_up(call, *arguments, **options)


@asynccontextmanager
async def two_calls(kind: type[Crashing], **options: Any) -> AsyncIterator[tuple[Wire, Stream, Stream]]:
    """Serve a carrier; yield two live calls, and check that the second one ends well after whatever happened."""
    carrier = kind("KEY", public_key_of(PRIVATE), "7267")
    async with wire_to_server("telnyx", carrier=carrier, options=options) as wire:
        wire.phone.events.on(PatterEventType.COST_REPORTED, lambda _: None)
        _, one = await live(wire)
        order = await wire.announce(wire.call_id(3))
        assert order is not None
        two = await wire.open_stream(wire.call_id(3), order)
        await trio.sleep(0.5)
        yield wire, one, two
        assert two.closed is None
        assert "Hello." in two.words
        await two.hang_up()
        # What the carrier is asked for when a call is over, its cost included.
        await trio.sleep(60.0)
    assert {end["call_id"]: end["outcome"] for end in wire.ends}[wire.call_id(3)] == "caller_hung_up"


@pytest.mark.parametrize("kind", few([Crashing, CrashingBase], 1))
async def test_crash_of_reconnect_fails_one_call(
    kind: type[Crashing], autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture
) -> None:
    """A call whose next stream cannot be asked for ends after its wait, as after refusals; the other call goes on."""
    caplog.set_level(logging.INFO)
    async with two_calls(kind, recording=True) as (wire, one, _):
        await one.lose()
        await trio.sleep(20.0)
        assert [(end["call_id"], end["outcome"]) for end in wire.ends] == [(wire.call_id(), "failed")]
    logged = {(record.getMessage(), record.exc_info is not None) for record in caplog.records}
    described = f"the carrier {kind.__name__} raised {kind.error.__name__}: own"
    assert (f"call {wire.call_id()}: {described}", True) in logged
    # Of each request, its own line, too.
    assert (f"call {wire.call_id()}: no other stream: {described}", False) in logged
    assert (f"call {wire.call_id()}: hang-up failed: {described}", False) in logged
    assert (f"call {wire.call_id()}: telnyx does not record: {described}", False) in logged
    assert (f"call {wire.call_id(3)}: telnyx did not tell its cost: {described}", False) in logged


@pytest.mark.costly
async def test_crash_of_pick_up_gives_the_call_up(autojump_clock: CLOCK, caplog: pytest.LogCaptureFixture) -> None:
    """A call that the carrier's code does not pick up is over, and asked to be ended; the others go on."""
    caplog.set_level(logging.INFO)
    async with two_calls(CrashingPickUp) as (wire, *_):
        assert await wire.announce(wire.call_id(2)) is None
        await trio.sleep(20.0)
        [end] = wire.ends
        assert (end["call_id"], end["outcome"]) == (wire.call_id(2), "failed")


@pytest.mark.parametrize("kind", few([Crashing, CrashingBase], 1))
@pytest.mark.costly
async def test_crash_of_dial_raises_its_reason(kind: type[Crashing], autojump_clock: CLOCK) -> None:
    """A call that the carrier's code does not place raises an error of the package, caused by the carrier's."""
    async with two_calls(kind) as (wire, *_):
        with pytest.raises(PatterError, match=r"raised \w+: own") as raised:
            await wire.phone.call(CALLEE)
        assert type(raised.value.__cause__) is kind.error
