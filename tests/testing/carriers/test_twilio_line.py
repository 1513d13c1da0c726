"""The simulated Twilio: its messages and their instants, its playout, and its refusals."""

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from patter_trio.testing.carriers.protocol import CallRefused
from patter_trio.testing.carriers.twilio import SimulatedTwilio
from patter_trio.testing.flat_nursery import open_flat_nursery
from patter_trio.testing.scripted_providers.audible_text import encode
from tests.kit.fake_agent import SID, STREAM_SID, TOKEN, TWIML, FakeAgent, carrier_for


@asynccontextmanager
async def calling(agent: FakeAgent, **options: Any) -> AsyncIterator[SimulatedTwilio]:
    carrier = carrier_for(agent, **options)
    async with open_flat_nursery() as nursery:
        agent.nursery = nursery
        await nursery.start(carrier.run)
        yield carrier
        carrier.hang_up()
        await carrier.over.wait()
        nursery.cancel_scope.cancel()


def marks(agent: FakeAgent) -> list[tuple[float, str]]:
    return [(at, message["mark"]["name"]) for at, message in agent.events("mark")]


def hmac_of(text: str) -> str:
    return base64.b64encode(hmac.new(TOKEN.encode(), text.encode(), hashlib.sha1).digest()).decode()


async def test_carrier_signs_requests_and_start_carries_parameters(autojump_clock: MockClock) -> None:
    """The carrier signs webhook and upgrade, and the start message returns the stream parameters."""
    agent = FakeAgent()
    async with calling(agent):
        await trio.sleep(0.1)
    form = {name: values[0] for name, values in parse_qs(agent.webhook["body"].decode()).items()}
    assert (form["From"], form["To"], form["CallStatus"]) == ("+15550100001", "+15550100002", "ringing")
    url = "https://agent.test/webhooks/twilio/voice"
    signed = url + "".join(name + form[name] for name in sorted(form))
    assert agent.webhook["headers"][b"x-twilio-signature"].decode() == hmac_of(signed)
    assert agent.upgrade == {
        "path": "/ws/twilio/stream/x",
        "signature": hmac_of("wss://agent.test/ws/twilio/stream/x"),
    }
    assert agent.got[:2] == [
        (0.0, {"event": "connected", "protocol": "Call", "version": "1.0.0"}),
        (
            0.0,
            {
                "event": "start",
                "sequenceNumber": "1",
                "streamSid": STREAM_SID,
                "start": {
                    "streamSid": STREAM_SID,
                    "accountSid": SID,
                    "callSid": "CA00000000000000000000000000000001",
                    "tracks": ["inbound"],
                    "customParameters": {"token": "t"},
                    "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                },
            },
        ),
    ]


async def test_carrier_sends_complete_frames_with_speech(
    autojump_clock: MockClock,
) -> None:
    """The carrier sends a frame when it is complete, and the frame carries the speech within it."""
    agent = FakeAgent()
    audio = encode("Hello", 2)
    async with calling(agent) as carrier:
        await trio.sleep_until(carrier.media_start + 0.05)
        assert carrier.say(audio) == (0.05, 0.09)
        await trio.sleep_until(carrier.media_start + 0.2)
    media = agent.events("media")
    assert [at for at, _ in media] == pytest.approx([0.02 * (k + 1) for k in range(len(media))])
    assert media[2][1]["sequenceNumber"] == "4"
    assert {name: media[2][1]["media"][name] for name in ("track", "chunk", "timestamp")} == {
        "track": "inbound",
        "chunk": "3",
        "timestamp": "40",
    }
    sent = b"".join(base64.b64decode(message["media"]["payload"]) for _, message in media)
    assert sent.find(audio) == 400
    assert set(sent.replace(audio, b"")) == {0xFF}


async def test_carrier_marks_return_after_preceding_playout(autojump_clock: MockClock) -> None:
    """The carrier returns a mark when the audio before it has played."""

    async def script(agent: FakeAgent) -> None:
        await agent.mark("empty")
        await agent.at(0.5)
        await agent.play(bytes(8000))
        await agent.mark("a")
        await agent.play(bytes(4000))
        await agent.mark("b")
        await agent.at(3.0)
        await agent.play(bytes(800))
        await agent.mark("c")

    agent = FakeAgent(script)
    async with calling(agent) as carrier:
        await trio.sleep_until(carrier.media_start + 4)
        assert [(s.at, len(s.audio)) for s in carrier.played()] == [(0.5, 12000), (3.0, 800)]
    assert marks(agent) == [(0.0, "empty"), (1.5, "a"), (2.0, "b"), (3.1, "c")]


async def test_carrier_clear_stops_playout_and_returns_marks(autojump_clock: MockClock) -> None:
    """A clear stops the playout and returns all marks at once."""

    async def script(agent: FakeAgent) -> None:
        await agent.play(bytes(8000))
        await agent.mark("a")
        await agent.play(bytes(8000))
        await agent.mark("b")
        await agent.at(1.25)
        await agent.clear()
        await agent.mark("probe")
        await agent.play(bytes(800))

    agent = FakeAgent(script)
    async with calling(agent) as carrier:
        await trio.sleep_until(carrier.media_start + 3)
        assert [(s.at, len(s.audio)) for s in carrier.played()] == [(0.0, 10800)]
        assert [arrival.at for arrival in carrier.arrivals if arrival.clears] == [1.25]
    assert marks(agent) == [(1.0, "a"), (1.25, "b"), (1.25, "probe")]


async def test_delays_of_the_network_hold_in_both_directions(autojump_clock: MockClock) -> None:
    """Audio of the agent plays 200 ms late, and caller audio and marks arrive 100 ms late."""

    async def script(agent: FakeAgent) -> None:
        await agent.at(1.0)
        await agent.play(bytes(800))
        await agent.mark("a")

    agent = FakeAgent(script)
    async with calling(agent, up_delay=0.1, down_delay=0.2) as carrier:
        await trio.sleep_until(carrier.media_start + 2)
        assert [(s.at, len(s.audio)) for s in carrier.played()] == [(1.2, 800)]
    assert marks(agent) == [(1.4, "a")]
    assert agent.events("media")[0][0] == 0.12


async def test_carrier_stall_delays_frames_then_releases_them(autojump_clock: MockClock) -> None:
    """A stall holds back all frames and then releases them together."""
    agent = FakeAgent()
    async with calling(agent) as carrier:
        await trio.sleep_until(carrier.media_start + 0.11)
        carrier.stall(0.5)
        await trio.sleep_until(carrier.media_start + 1.01)
    at = [round(at, 3) for at, _ in agent.events("media")]
    assert at[:6] + at[-1:] == [0.02, 0.04, 0.06, 0.08, 0.1, 0.61, 1.0]
    assert at.count(0.61) == 25


async def test_carrier_stall_holds_back_agent_audio(autojump_clock: MockClock) -> None:
    """A stall also holds back a message for which the carrier was already waiting when it began."""

    async def script(agent: FakeAgent) -> None:
        await agent.at(0.3)
        await agent.play(bytes(800))
        await agent.at(0.4)
        await agent.play(bytes(800))

    agent = FakeAgent(script)
    async with calling(agent) as carrier:
        await trio.sleep_until(carrier.media_start + 0.11)
        carrier.stall(0.5)
        await trio.sleep_until(carrier.media_start + 1.0)
        assert [round(arrival.at, 3) for arrival in carrier.arrivals] == [0.61, 0.61]


async def test_without_echo_no_mark_comes_back(autojump_clock: MockClock) -> None:
    """With echo_marks=False the carrier returns no mark, not even after a clear."""

    async def script(agent: FakeAgent) -> None:
        await agent.mark("a")
        await agent.clear()

    agent = FakeAgent(script)
    async with calling(agent, echo_marks=False):
        await trio.sleep(1)
    assert marks(agent) == []


async def test_hang_up_says_stop_and_closes(autojump_clock: MockClock) -> None:
    """A hang-up sends stop with both ids and closes the stream at the same instant."""
    agent = FakeAgent()
    async with calling(agent) as carrier:
        await trio.sleep_until(carrier.media_start + 1.0)
        carrier.press("5")
    assert [(at, message["event"]) for at, message in agent.got[-3:]] == [(1.0, "dtmf"), (1.0, "stop"), (1.0, "closed")]
    assert agent.events("dtmf")[0][1]["dtmf"] == {"track": "inbound_track", "digit": "5"}
    assert agent.events("stop")[0][1]["stop"] == {"accountSid": SID, "callSid": carrier.call_id}
    assert (carrier.ended, carrier.ended_at) == ("caller_hung_up", 1.0)


async def test_a_dropped_connection_has_no_last_words(autojump_clock: MockClock) -> None:
    """A dropped connection ends with code 1006 and without a stop message."""
    agent = FakeAgent()
    async with calling(agent) as carrier:
        await trio.sleep_until(carrier.media_start + 1.0)
        carrier.drop()
        await carrier.over.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert agent.got[-1] == (1.0, {"event": "closed", "code": 1006})
    assert carrier.ended == "dropped"


async def test_agent_close_ends_call_and_sound(autojump_clock: MockClock) -> None:
    """The close by the agent ends the call and its sound."""

    async def script(agent: FakeAgent) -> None:
        await agent.play(bytes(16000))
        await agent.at(1.0)
        await agent.close()

    async with calling(FakeAgent(script)) as carrier:
        await carrier.over.wait()
        assert (carrier.ended, carrier.ended_at, carrier.close_code) == ("agent_hung_up", 1.0, 1000)
        await trio.sleep(5)
        assert [len(s.audio) for s in carrier.played()] == [8000]


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (b"\x00", "binary"),
        ("{", "31951"),
        ({"event": "stop", "streamSid": STREAM_SID}, "31951"),
        ({"event": "clear"}, "streamSid"),
        ({"event": "clear", "streamSid": STREAM_SID, "x": 1}, "unknown field"),
        ({"event": "clear", "streamSid": "MZother"}, "that of this stream"),
        ({"event": "media", "streamSid": STREAM_SID, "media": {"payload": "?"}}, "base64"),
        ({"event": "media", "streamSid": STREAM_SID, "media": {"payload": ""}}, "empty payload"),
        ({"event": "media", "streamSid": STREAM_SID, "media": {"payload": "/w==", "track": "x"}}, "unknown field"),
        ({"event": "mark", "streamSid": STREAM_SID, "mark": {"name": 1}}, "Expected `str`"),
    ],
)
async def test_invalid_twilio_message_is_reported_and_ignored(
    autojump_clock: MockClock, message: object, fault: str
) -> None:
    """The carrier reports a message that Twilio would reject and otherwise ignores it."""

    async def script(agent: FakeAgent) -> None:
        await agent.send(message)
        await agent.mark("after")

    agent = FakeAgent(script)
    async with calling(agent) as carrier:
        await trio.sleep(0.2)
    assert [fault in reported.message for reported in carrier.faults] == [True]
    assert (marks(agent), carrier.arrivals[0].mark) == ([(0.0, "after")], "after")


def twiml(inside: str) -> str:
    return f"<Response>{inside}</Response>"


@pytest.mark.parametrize(
    ("agent", "outcome", "message"),
    [
        (lambda: FakeAgent(status=403, twiml="bad signature"), "failed", "answered 403: bad signature"),
        (lambda: FakeAgent(content_type="text/plain"), "failed", "must answer with TwiML"),
        (lambda: FakeAgent(twiml="<Response>"), "failed", "must be XML"),
        (lambda: FakeAgent(twiml="<X/>"), "failed", "got <X>"),
        (lambda: FakeAgent(twiml=twiml('<Reject reason="busy"/>')), "busy", "refused"),
        (lambda: FakeAgent(twiml=twiml("<Reject/>")), "rejected", "refused"),
        (lambda: FakeAgent(twiml=twiml("<Hangup/>")), "completed", "refused"),
        (lambda: FakeAgent(twiml=twiml("<Say>hi</Say>")), "failed", "got <Say>"),
        (lambda: FakeAgent(twiml=twiml("<Connect/>")), "failed", "must contain <Stream>"),
        (lambda: FakeAgent(twiml=TWIML.replace("stream/x", "stream/x?a=1")), "failed", "31920"),
        (lambda: FakeAgent(twiml=TWIML.replace("wss:", "https:")), "failed", "31922"),
        (lambda: FakeAgent(twiml=TWIML.replace("wss:", "ws:")), "failed", "31922"),
        (lambda: FakeAgent(twiml=TWIML.replace('"t"', f'"{"t" * 500}"')), "failed", "at most 500"),
        (lambda: FakeAgent(twiml=TWIML.replace("Parameter", "P")), "failed", "<Parameter> elements"),
        (lambda: FakeAgent(refuse_media=True), "failed", "31920"),
        (lambda: FakeAgent(silent=True), "failed", "within 15 s"),
    ],
)
async def test_refused_call_reports_its_reason(
    autojump_clock: MockClock, agent: Callable[[], FakeAgent], outcome: str, message: str
) -> None:
    """A call that fails to start raises CallRefused with its outcome and its reason."""
    with pytest.raises(CallRefused, match=message) as raised:
        async with calling(agent()):
            pass
    assert raised.value.outcome == outcome


async def test_the_recording_has_both_sides_in_step(autojump_clock: MockClock) -> None:
    """The recording has both sides with equal length, each sound at its own sample."""

    async def script(agent: FakeAgent) -> None:
        await agent.at(0.5)
        await agent.play(encode("Hello", 10))

    async with calling(FakeAgent(script)) as carrier:
        await trio.sleep_until(carrier.media_start + 0.1)
        carrier.say(encode("Hi", 10))
        await trio.sleep_until(carrier.media_start + 1.001)
        caller, agent = carrier.recording()
    assert len(caller) == len(agent) == 8000
    assert [np.flatnonzero(side)[[0, -1]].tolist() for side in (caller, agent)] == [[800, 2399], [4000, 5599]]
