"""The ends of calls that never connect, and of calls that somebody announces again."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import pytest
import trio
import trio.testing

from patter_trio import CallControl, Patter, PatterEventType
from patter_trio.abc import CarrierRequest
from patter_trio.carriers.twilio import SIGNATURE_HEADER
from patter_trio.server.ended import MAX_REMEMBERED_IDS, REMEMBERED_S, EndedCalls
from patter_trio.server.webhooks import carrier_webhook
from patter_trio.testing import CallRefused
from tests.kit.call import agent_of
from tests.kit.running_server import CARRIER, PUBLIC, RunningServer, running_server

FINAL = {
    "completed": "caller_hung_up",
    "canceled": "cancelled",
    "no-answer": "no_answer",
    "busy": "busy",
    "failed": "failed",
}


def report(here: RunningServer, status: str, number: int = 1) -> None:
    """Report a call's status as the carrier does."""
    form = {"CallSid": f"CA{number:032d}", "AccountSid": "AC1", "CallStatus": status}
    signature = CARRIER.sign(f"{PUBLIC}{CARRIER.status_path}", form)
    request = CarrierRequest(
        "status", f"{PUBLIC}{CARRIER.status_path}", {SIGNATURE_HEADER: signature}, urlencode(form).encode()
    )
    assert carrier_webhook(here.call_server.context, request).status == 204


class Reports:
    """What the application hears of starts and ends."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, float]] = []
        self.payloads: list[dict[str, Any]] = []

    async def on_call_start(self, event: dict[str, Any]) -> None:
        self._note("start", event["call_id"])
        try:
            await trio.sleep(1.0)
        finally:
            self._note("started", event["call_id"])

    def on_call_end(self, event: dict[str, Any], call: CallControl) -> None:
        self.payloads.append(event)
        self._note("end", event["call_id"])
        assert (call.ended, call.outcome) == (True, event["outcome"])

    def _note(self, what: str, call_id: str) -> None:
        self.heard.append((what, call_id[-1], round(trio.current_time(), 3)))

    @asynccontextmanager
    async def serving(self, **options: Any) -> AsyncIterator[RunningServer]:
        async with running_server(on_call_start=self.on_call_start, on_call_end=self.on_call_end, **options) as here:
            yield here


async def test_expired_call_has_one_end(autojump_clock: trio.testing.MockClock) -> None:
    """A call whose stream never comes has one on_call_end, a minute after its announcement."""
    reports = Reports()
    async with reports.serving() as here:
        await here.caller(1).announce()
        await trio.sleep(100.0)
    assert reports.heard == [("start", "1", 0.0), ("started", "1", 1.0), ("end", "1", 60.0)]
    [end] = reports.payloads
    assert (end["outcome"], end["error"]) == ("failed", "its media stream never connected")
    assert (end["transcript"], end["metrics"], end["tool_calls"]) == ([], None, [])


@pytest.mark.parametrize("status", FINAL)
async def test_status_webhook_gives_up_announced_call(autojump_clock: trio.testing.MockClock, status: str) -> None:
    """A final status ends an announced call at once: on_call_start is cancelled, then on_call_end is told."""
    reports, phone, seen = Reports(), Patter(), []
    phone.events.on(PatterEventType.CALL_ENDED, seen.append)
    async with reports.serving(phone=phone, max_calls=1) as here:
        await here.caller(1).announce()
        await trio.sleep(0.5)
        report(here, status)
        await trio.sleep(0.0)
        await here.caller(2).announce()  # its place is free
        await trio.testing.wait_all_tasks_blocked()
    assert reports.heard[:4] == [("start", "1", 0.0), ("started", "1", 0.5), ("end", "1", 0.5), ("start", "2", 0.5)]
    assert reports.payloads[0]["outcome"] == FINAL[status]
    assert seen[0] == reports.payloads[0]


@pytest.mark.parametrize("status", ["queued", "ringing", "in-progress", "", "new"])
async def test_other_statuses_change_nothing(autojump_clock: trio.testing.MockClock, status: str) -> None:
    """A status that is not final leaves an announced call alone."""
    reports = Reports()
    async with reports.serving() as here:
        caller = here.caller(1)
        await caller.announce()
        report(here, status)
        await here.nursery.start(caller.run)
        caller.hang_up()
        await trio.sleep(1.0)
    assert reports.payloads[0]["outcome"] == "caller_hung_up"


async def test_status_of_live_call_changes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """A webhook about a live call does not end it: its stream does, and may still carry words."""
    reports = Reports()
    async with reports.serving(agent=agent_of(first_message="Hello.")) as here:
        caller = here.caller(1)
        await here.nursery.start(caller.run)
        await trio.sleep(1.0)
        report(here, "completed")
        await trio.sleep(5.0)
        assert caller.ended is None
        caller.hang_up()
        await trio.sleep(1.0)
    assert [(end["outcome"], len(end["transcript"])) for end in reports.payloads] == [("caller_hung_up", 1)]


async def test_closing_server_reports_announced_calls(autojump_clock: trio.testing.MockClock) -> None:
    """A server that is cancelled reports the end of a call that was only announced."""
    reports = Reports()
    async with reports.serving() as here:
        await here.caller(1).announce()
        await trio.sleep(0.5)
        here.nursery.cancel_scope.cancel()
    assert [what for what, _, _ in reports.heard] == ["start", "started", "end"]
    assert reports.payloads[0]["outcome"] == "cancelled"


async def test_given_up_call_holds_no_drain(autojump_clock: trio.testing.MockClock) -> None:
    """A drain ends as soon as the carrier says that the last announced call is over."""
    async with running_server() as here, trio.open_nursery() as nursery:
        await here.caller(1).announce()
        nursery.start_soon(here.call_server.drain, 100.0)
        await trio.sleep(1.0)
        report(here, "completed")
        await here.call_server.closed.wait()
        assert trio.current_time() == pytest.approx(1.0)


async def test_overdue_call_holds_no_drain(autojump_clock: trio.testing.MockClock) -> None:
    """A drain does not wait for a call that was announced more than 10 s ago."""
    async with running_server() as here:
        await here.caller(1).announce()
        await trio.sleep(10.0)
        await here.call_server.drain(100.0)
        assert trio.current_time() == pytest.approx(10.0)


async def test_callers_who_leave_take_no_place(autojump_clock: trio.testing.MockClock) -> None:
    """Thirty callers who hang up while they are announced do not make a fresh server busy."""
    async with running_server() as here:
        for number in range(1, 31):
            await here.caller(number).announce()
            report(here, "completed", number)
        caller = here.caller(31)
        await here.nursery.start(caller.run)
        caller.hang_up()


async def test_silent_rings_take_no_trust(autojump_clock: trio.testing.MockClock) -> None:
    """Twenty announced calls that never connect keep a server with max_lag busy for 10 s, not for a minute."""
    async with running_server(max_lag=0.1) as here:
        for number in range(1, 21):
            await here.caller(number).announce()
        with pytest.raises(CallRefused):
            await here.caller(21).announce()
        await trio.sleep(10.0)
        await here.caller(22).announce()


@pytest.mark.parametrize("connected", [True, False])
async def test_ended_call_is_not_taken_again(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, connected: bool
) -> None:
    """The webhook of an ended call hears busy for a day, and neither a start nor an end is told again."""
    caplog.set_level(logging.INFO)
    reports, phone, seen = Reports(), Patter(), []
    phone.events.on(PatterEventType.CALL_ENDED, seen.append)
    async with reports.serving(phone=phone) as here:
        caller = here.caller(1)
        if connected:
            await here.nursery.start(caller.run)
            caller.hang_up()
        else:
            await caller.announce()
        await trio.sleep(70.0)
        told = len(reports.heard)
        for _ in range(2):
            with pytest.raises(CallRefused, match="busy"):
                await here.caller(1).announce()
            await trio.sleep(REMEMBERED_S / 2 - 100.0)
        assert "the call is over already" in caplog.text
        assert len(reports.heard) == told
        assert len(seen) == 1
        await trio.sleep(200.0)
        await here.caller(1).announce()


async def test_refused_call_is_not_taken_later(autojump_clock: trio.testing.MockClock) -> None:
    """A call that has heard busy is over, too: its webhook opens no call later."""
    async with running_server(max_calls=0) as here:
        with pytest.raises(CallRefused):
            await here.caller(1).announce()
        assert here.call_server.refusal(f"CA{1:032d}") == "the call is over already"


async def test_status_before_announcement_ends_the_call(autojump_clock: trio.testing.MockClock) -> None:
    """If the webhooks arrive in the wrong order, the call is not announced after its end."""
    async with running_server() as here:
        report(here, "completed")
        with pytest.raises(CallRefused):
            await here.caller(1).announce()


def test_ids_are_remembered_for_a_day() -> None:
    """An id is remembered for a day from the call's first end, and then forgotten."""
    ended = EndedCalls()
    ended.add("one", 0.0)
    ended.add("one", 10.0)
    assert ended.remembers("one", REMEMBERED_S - 0.1)
    assert not ended.remembers("one", REMEMBERED_S)
    ended.add("two", REMEMBERED_S)
    assert len(ended) == 1


def test_remembered_ids_are_bounded() -> None:
    """Beyond the limit the oldest ids are forgotten."""
    ended = EndedCalls(limit=3)
    for number in range(10):
        ended.add(str(number), float(number))
        assert len(ended) <= 3
    assert [ended.remembers(str(number), 10.0) for number in range(10)] == [False] * 7 + [True] * 3
    assert MAX_REMEMBERED_IDS == 100_000
