"""Recordings at the carrier: when they begin, what a refusal costs, and how what they lead to is published."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from patter_trio import Patter, PatterEventType, ProviderError
from patter_trio.abc import CallInfo, CallStatus, CostReported, RecordingSaved
from patter_trio.carriers.twilio import Twilio
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.server.calls import CallServer
from patter_trio.testing import ScriptedTTS
from tests.kit.call import agent_of

RECORDING = "RE" + "1" * 32


@attrs.frozen(slots=False)
class RecordingTwilio(Twilio):
    """Twilio whose requests to record, and for the cost, are noted instead of sent."""

    refusal: str = attrs.field(default="", kw_only=True)
    costs: list[float | None] = attrs.field(factory=list, kw_only=True)
    asked: list[tuple[float, str, str]] = attrs.field(factory=list, init=False)
    asked_cost: list[float] = attrs.field(factory=list, init=False)

    async def start_recording(self, call: CallInfo, callback_url: str) -> str:
        await trio.lowlevel.checkpoint()
        self.asked.append((trio.current_time(), call.call_id, callback_url))
        if self.refusal:
            raise ProviderError(self.refusal)
        return RECORDING

    async def cost(self, call_id: str) -> float | None:
        await trio.lowlevel.checkpoint()
        del call_id
        self.asked_cost.append(trio.current_time())
        return self.costs.pop(0)


def twilio(refusal: str = "", costs: tuple[float | None, ...] = ()) -> RecordingTwilio:
    return RecordingTwilio("AC" + "5" * 32, "simulated", refusal=refusal, costs=list(costs))


def server_of(phone: Patter) -> CallServer:
    [server] = phone._call_servers
    assert isinstance(server, CallServer)
    return server


def published(phone: Patter, *kinds: PatterEventType) -> list[dict[str, Any]]:
    """Return the list into which the payloads of these events come."""
    seen: list[dict[str, Any]] = []
    for kind in kinds:
        phone.events.on(kind, seen.append)
    return seen


async def test_carrier_records_from_the_begin(call_simulator: CallSimulator) -> None:
    """As the call goes live, the carrier is asked once, with our webhook for its report."""
    carrier = twilio()
    async with call_simulator(agent_of(first_message="Hello."), Patter(carrier=carrier), recording=True) as caller:
        await caller.hears()
    [(at, call_id, url)] = carrier.asked
    assert at - caller.carrier.media_start < 0.1
    assert call_id == caller.carrier.call_id
    assert url == "http://agent.test/webhooks/twilio/recording"


async def test_carrier_records_after_the_notice(call_simulator: CallSimulator) -> None:
    """With a notice, the carrier is asked when it was heard, before the first message."""
    carrier = twilio()
    agent = agent_of(recording_notice="This call is recorded.", first_message="Hello.", tts=ScriptedTTS(duration=2.0))
    async with call_simulator(agent, Patter(carrier=carrier), recording=True) as caller:
        notice, hello = await caller.heard(0), await caller.heard(1)
    [(at, _, _)] = carrier.asked
    assert (notice.text, hello.text) == ("This call is recorded.", "Hello.")
    assert at - caller.carrier.media_start == pytest.approx(notice.ended, abs=0.05)


async def test_recording_is_tried_without_twilio(call_simulator: CallSimulator) -> None:
    """A simulated Twilio records on request and reports it after the call; no request leaves the test."""
    phone = Patter()
    saved = published(phone, PatterEventType.RECORDING_SAVED)
    async with call_simulator(agent_of(first_message="Hello."), phone, recording=True) as caller:
        await caller.hears()
    [recording] = saved
    assert recording["call_id"] == caller.carrier.call_id
    assert recording["recording_id"] == f"RE{caller.carrier.call_id[2:]}"


async def test_refusal_is_one_warning(call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture) -> None:
    """A carrier that does not record costs the caller nothing."""
    phone = Patter(carrier=twilio("recording is not enabled"))
    with caplog.at_level(logging.WARNING, "patter_trio.call"):
        async with call_simulator(agent_of(first_message="Hello."), phone, recording=True) as caller:
            assert (await caller.hears()).text == "Hello."
            await caller.at(3.0)
    assert [record.getMessage() for record in caplog.records] == [
        f"call {caller.carrier.call_id}: twilio does not record: recording is not enabled"
    ]


async def test_recording_is_asked_for_only_if_wanted(call_simulator: CallSimulator) -> None:
    """Without recording=True, the carrier is not asked."""
    carrier = twilio()
    async with call_simulator(agent_of(first_message="Hello."), Patter(carrier=carrier)) as caller:
        await caller.hears()
    assert carrier.asked == []


def saved(call_id: str, recording_id: str = RECORDING, seconds: float | None = 7.0) -> RecordingSaved:
    return RecordingSaved(call_id, recording_id, "https://api.twilio.com/recording", seconds)


async def test_saved_recording_is_published_once(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A report that the carrier repeats is one event and one line of the log, without the recording's address."""
    phone = Patter()
    seen = published(phone, PatterEventType.RECORDING_SAVED)
    with caplog.at_level(logging.INFO, "patter_trio.call"):
        async with call_simulator(agent_of(), phone) as caller:
            call_id = caller.carrier.call_id
            for report in (saved(call_id), saved(call_id), saved(call_id, "RE" + "2" * 32, None)):
                server_of(phone).on_report(report)
            await caller.at(1.0)
    first, second = seen
    assert {key: first[key] for key in first if key != "timestamp_ms"} == {
        "call_id": call_id,
        "recording_id": RECORDING,
        "url": "https://api.twilio.com/recording",
        "duration": 7.0,
    }
    assert second.keys() == {"call_id", "timestamp_ms", "recording_id", "url"}
    lines = [record.getMessage() for record in caplog.records if "saved" in record.getMessage()]
    assert lines == [
        f"call {call_id}: recording {RECORDING} saved by the carrier, 7 s",
        f"call {call_id}: recording RE{'2' * 32} saved by the carrier",
    ]


@pytest.mark.parametrize(
    ("report", "kind"),
    [
        pytest.param(saved, PatterEventType.RECORDING_SAVED, id="recording"),
        pytest.param(lambda call_id: CostReported(call_id, 0.02), PatterEventType.COST_REPORTED, id="cost"),
        pytest.param(
            lambda call_id: CallStatus(call_id, "completed", cost_usd=0.02), PatterEventType.COST_REPORTED, id="status"
        ),
    ],
)
async def test_report_after_the_end_is_published(
    call_simulator: CallSimulator, report: Callable[[str], Any], kind: PatterEventType
) -> None:
    """Most reports come when the call is over, and are published all the same, once."""
    phone = Patter()
    seen = published(phone, kind)
    async with call_simulator(agent_of(), phone) as caller:
        await caller.at(1.0)
        await caller.hangs_up()
        await caller.carrier.over.wait()
        await trio.sleep(0.5)
        assert not phone.calls
        for _ in range(2):
            server_of(phone).on_report(report(caller.carrier.call_id))
        await trio.testing.wait_all_tasks_blocked()
    assert [event["call_id"] for event in seen] == [caller.carrier.call_id]


async def test_cost_that_is_known_replaces_the_estimate(call_simulator: CallSimulator) -> None:
    """A cost that the carrier reports before the end is the telephony cost of on_call_end, and a part of the total."""
    phone, ends = Patter(), []
    seen = published(phone, PatterEventType.COST_REPORTED)
    async with call_simulator(agent_of(first_message="Hello."), phone, on_call_end=ends.append) as caller:
        await caller.hears()
        server_of(phone).on_report(CostReported(caller.carrier.call_id, 0.5))
        await caller.at(3.0)
    [end] = ends
    cost = end["metrics"].cost
    assert cost.telephony == 0.5
    assert cost.total == pytest.approx(cost.stt + cost.tts + cost.llm + 0.5)
    assert [event["cost_usd"] for event in seen] == [0.5]


async def test_estimate_stands_without_a_report(call_simulator: CallSimulator) -> None:
    """Without a report, the telephony cost is that of the price list, as before."""
    ends: list[dict[str, Any]] = []
    async with call_simulator(agent_of(first_message="Hello."), on_call_end=ends.append) as caller:
        await caller.at(30.0)
    assert 0 < ends[0]["metrics"].cost.telephony < 0.5


async def test_carrier_is_asked_for_the_cost(call_simulator: CallSimulator) -> None:
    """If somebody listens, the carrier is asked after the call until it tells: after 5 s, and a minute later."""
    carrier = twilio(costs=(None, 0.03))
    phone = Patter(carrier=carrier)
    seen = published(phone, PatterEventType.COST_REPORTED)
    async with call_simulator(agent_of(), phone) as caller:
        await caller.at(1.0)
        await caller.hangs_up()
        await caller.carrier.over.wait()
        ended = trio.current_time()
        await trio.sleep(400.0)
    assert [event["cost_usd"] for event in seen] == [0.03]
    assert [round(at - ended) for at in carrier.asked_cost] == [5, 65]


async def test_cost_is_not_requested_without_subscriber(call_simulator: CallSimulator) -> None:
    """Without a subscriber to COST_REPORTED, no request is spent on the cost."""
    carrier = twilio(costs=(0.03,))
    async with call_simulator(agent_of(), Patter(carrier=carrier)) as caller:
        await caller.hangs_up()
        await caller.carrier.over.wait()
        await trio.sleep(400.0)
    assert carrier.asked_cost == []
