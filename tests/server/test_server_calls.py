"""A server of calls: calls from their announcement to their end, in virtual time."""

import json
import time
from typing import Any

import pytest
import trio
import trio.testing

from patter_trio import CallControl, CallEnded, ConfigurationError, Patter
from patter_trio.abc import CallInfo, CarrierRequest
from patter_trio.carriers.local import LocalCarrier
from patter_trio.server.calls import open_call_server
from patter_trio.server.webhooks import ready
from patter_trio.testing import CallRefused, SimulatedTwilio
from tests.kit.call import agent_of
from tests.kit.running_server import PUBLIC, RunningServer, running_server

START_KEYS = {"call_id", "caller", "callee", "direction", "custom_params", "telephony_provider"}


async def hangs(event: dict[str, Any]) -> None:
    await trio.sleep_forever()


async def test_unconnected_call_is_forgotten_after_a_minute(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The server forgets an announced call that does not connect within a minute."""
    cancelled: list[float] = []

    async def on_call_start(event: dict[str, Any]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.append(trio.current_time())

    async with running_server(max_calls=1, on_call_start=on_call_start) as here:
        await here.caller(1).announce()
        with pytest.raises(CallRefused, match="busy"):
            await here.caller(2).announce()
        await trio.sleep(59.9)
        assert cancelled == []
        await trio.sleep(0.2)
        assert cancelled == [60.0]
        assert caplog.text.count(f"call CA{1:032d}: its media stream never connected") == 1
        await here.caller(3).announce()  # and its place is free again


async def test_readiness_follows_drain_and_limit(autojump_clock: trio.testing.MockClock) -> None:
    """/ready names the reason when one announced call fills the server, and when the server drains."""
    async with running_server(max_calls=1) as here:
        assert readiness(here) == (200, "ready")
        await here.caller(1).announce()
        assert readiness(here) == (503, "0 live and 1 announced calls reach the limit of 1")
    async with running_server() as here, trio.open_nursery() as nursery:
        await here.caller(1).announce()
        nursery.start_soon(here.call_server.drain, 5.0)
        await trio.sleep(1.0)
        assert readiness(here) == (503, "the server is draining")


def readiness(here: RunningServer) -> tuple[int, str]:
    """Return the status of GET /ready and what its body says."""
    answer = ready(here.call_server.context, CarrierRequest("voice", "/ready"))
    return answer.status, json.loads(answer.body)["status"]


async def test_control_of_unconnected_call_reports_its_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The CallControl of a call that never connects reports outcome "failed" and raises CallEnded."""
    kept: list[CallControl] = []

    def on_call_start(event: dict[str, Any], call: CallControl) -> None:
        kept.append(call)

    async with running_server(on_call_start=on_call_start) as here:
        await here.caller(1).announce()
        await trio.sleep(59.9)
        assert (kept[0].ended, kept[0].outcome) == (False, "")
        await trio.sleep(0.2)
        assert (kept[0].ended, kept[0].outcome) == (True, "failed")
        with pytest.raises(CallEnded):
            kept[0].say("x")


async def test_direction_and_custom_params_are_set_per_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Every call reports its own direction, and custom_params is always present."""
    starts: list[dict[str, Any]] = []

    def on_call_start(event: dict[str, Any]) -> None:
        starts.append(dict(event))
        event["custom_params"]["spoiled"] = "x"

    async with running_server(on_call_start=on_call_start) as here:
        announce = here.call_server.context.pending.announce
        outbound = CallInfo("CA1", "+15550100002", "+15550100001", "outbound", {"order": "17"}, "twilio")
        calls = [
            announce(outbound, trio.current_time()),
            announce(CallInfo("CA2", "+1", "+2", "inbound", provider="local"), 0.0),
        ]
        for call in calls:
            here.call_server.on_announced(call)
        await trio.sleep(1.0)
        assert [call.info.custom_params for call in calls] == [{"order": "17"}, {}]
    assert {(start["call_id"], start["direction"], start["telephony_provider"]) for start in starts} == {
        ("CA1", "outbound", "twilio"),
        ("CA2", "inbound", "local"),
    }
    assert all(set(start) == START_KEYS for start in starts)


async def test_server_close_ignores_announced_calls(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Closing the server does not wait for a call that is only announced."""
    async with running_server(on_call_start=hangs) as here:
        await here.caller().announce()
    assert trio.current_time() < 1.0


async def test_reannounced_live_call_hears_busy(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The server answers busy when a live call is announced again, and does not start it twice."""
    caplog.set_level("INFO")
    phone, ends, starts = Patter(), [], []
    async with running_server(phone, on_call_end=ends.append, on_call_start=starts.append) as here:
        first = here.caller(1)
        await here.nursery.start(first.run)
        await trio.sleep(1.0)
        with pytest.raises(CallRefused, match="busy"):
            await here.caller(1).announce()
        await trio.sleep(1.0)
        assert (len(phone.calls), len(here.call_server.context.pending)) == (1, 0)
        first.hang_up()
        await first.over.wait()
    assert f"call CA{1:032d}: hears busy, from +1555***0001: the call is live already" in caplog.text
    assert [end["outcome"] for end in ends] == ["caller_hung_up"]
    assert len(starts) == 1


async def test_draining_waits_for_announced_calls(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Draining waits for a call that is announced and not yet connected, for the 10 s in which it should connect."""
    async with running_server() as here:
        caller = here.caller(1)
        stream = await caller.announce()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.call_server.drain, 100.0)
            await trio.sleep(5.0)
            assert not here.call_server.closed.is_set()
            assert stream.url.endswith(caller.call_sid)
            await here.call_server.closed.wait()
            assert trio.current_time() == pytest.approx(10.0)


@pytest.mark.parametrize(("hang_up_after", "closed_at"), [(5.0, 5.0), (1000.0, 20.0)])
async def test_draining_waits_for_last_call_or_grace(
    autojump_clock: trio.testing.MockClock, hang_up_after: float, closed_at: float
) -> None:
    """Draining waits until the last call ends or the grace period is over."""
    async with running_server() as here:
        callers = [here.caller(number) for number in (1, 2)]
        for caller in callers:
            await here.nursery.start(caller.run)
        await trio.sleep(0.01)
        assert repr(here.call_server) == "<CallServer 2 calls>"
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.call_server.drain, 20.0)
            await trio.sleep(1.0)
            assert repr(here.call_server) == "<CallServer 2 calls, draining>"
            # Pages go on to show the calls until these are over.
            assert here.call_server.context.streams.refusal() == ""
            with pytest.raises(CallRefused, match="busy"):
                await here.caller(3).announce()
            callers[0].hang_up()
            nursery.start_soon(_later, hang_up_after - 1.0, callers[1].hang_up)
            await here.call_server.closed.wait()
            assert trio.current_time() - began == pytest.approx(closed_at, abs=0.01)
            assert here.call_server.context.streams.refusal() == "the server is draining"
            nursery.cancel_scope.cancel()
        callers[1].hang_up()


async def _later(seconds: float, act: Any) -> None:
    await trio.sleep(seconds)
    act()


async def test_cancelled_server_reports_ends_within_seven_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A cancelled server reports the end of every call and stops within seven seconds."""
    reported: list[tuple[str, float]] = []

    async def on_call_end(event: dict[str, Any]) -> None:
        reported.append((event["outcome"], trio.current_time()))
        await trio.sleep_forever()

    async with trio.open_nursery() as line:
        with trio.CancelScope() as server:
            async with running_server(on_call_end=on_call_end, on_call_start=hangs) as here:
                ended, live = here.caller(1), here.caller(2)
                await line.start(ended.run)
                await line.start(live.run)
                await trio.sleep(3.0)
                ended.hang_up()  # its on_call_end has 30 s, and then only 5
                await trio.sleep(1.0)
                server.cancel()
    assert [outcome for outcome, _ in reported] == ["caller_hung_up", "cancelled"]
    assert reported[1][1] == pytest.approx(4.0, abs=0.2)
    assert trio.current_time() <= 4.0 + 7.2


async def test_phone_callbacks_are_looked_up_at_use(autojump_clock: trio.testing.MockClock) -> None:
    """The server looks up a callback of the phone at the time of use."""
    phone = Patter()
    async with running_server(phone, on_transcript=print) as here:
        assert here.call_server.callback("on_transcript") is print
        assert here.call_server.callback("on_llm_token") is None
        phone.on_llm_token = hangs
        assert here.call_server.callback("on_llm_token") is hangs
        assert here.call_server.callback("on_nothing") is None


async def test_without_a_carrier_only_this_process_can_call(autojump_clock: trio.testing.MockClock) -> None:
    """A server without a carrier uses the local one, whose webhook refuses a guessed auth_token with 403."""
    async with open_call_server(Patter()._serve_options(agent_of(), public_url=PUBLIC)) as call_server:
        assert isinstance(call_server.context.carrier, LocalCarrier)
        unauthenticated = SimulatedTwilio(
            lambda: RunningServer(call_server, nursery)._connect(), PUBLIC, account_sid="AC1", auth_token="guessed"
        )
        async with trio.open_nursery() as nursery:
            with pytest.raises(CallRefused, match="403"):
                await unauthenticated.run()


async def test_what_cannot_be_served_opens_no_desk() -> None:
    """An agent with neither LLM nor on_message raises ConfigurationError when its server opens."""
    with pytest.raises(ConfigurationError, match="this one has neither"):
        async with open_call_server(Patter()._serve_options(agent_of(llm=None), public_url=PUBLIC)):
            pass


async def test_clock_step_is_right_in_next_call(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the machine's clock is set, the next call has the right time; a live call's timestamps still agree."""
    ends: list[dict[str, Any]] = []
    now = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0] + trio.current_time())
    async with running_server(agent=agent_of(first_message="Hello."), on_call_end=ends.append) as here:
        for number in (1, 2):
            caller = here.caller(number)
            await here.nursery.start(caller.run)
            await trio.sleep(5.0)
            now[0] += 86_400.0
            await trio.sleep(5.0)
            caller.hang_up()
            await trio.sleep(1.0)
    for number, end in enumerate(ends):
        zero = 1_000_000.0 + 86_400.0 * number
        assert end["ended_at"] == pytest.approx(zero + 11.0 * number + 10.0, abs=0.5)
        assert end["transcript"][0]["timestamp"] == pytest.approx(zero + 11.0 * number, abs=3.0)
