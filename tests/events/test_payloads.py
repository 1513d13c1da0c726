"""The payloads that an application gets: their keys are those of the exported TypedDicts, for callbacks and bus."""

from collections.abc import Mapping
from typing import Any, get_args

import attrs
import pytest

import patter_trio
from patter_trio import (
    AgentSpeechEndedEvent,
    AgentSpeechStartedEvent,
    AudioOutEvent,
    CallEndEvent,
    CallStartEvent,
    DtmfEvent,
    LlmTokenEvent,
    MessageEvent,
    MetricsEvent,
    Patter,
    PatterEventType,
    TranscriptEvent,
    UserSpeechEndedEvent,
    UserSpeechEosEvent,
    UserSpeechStartedEvent,
    tool,
)
from patter_trio.events import payloads
from patter_trio.events.edges import EDGES
from patter_trio.events.kinds import PAYLOADS
from patter_trio.metrics.public_events import SpeechEdge
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, tool_call
from tests.kit.call import agent_of

pytestmark = pytest.mark.all_carriers

SPEECH_EDGES: Mapping[str, Any] = {
    "user_speech_started": UserSpeechStartedEvent,
    "user_speech_ended": UserSpeechEndedEvent,
    "user_speech_eos": UserSpeechEosEvent,
    "agent_speech_started": AgentSpeechStartedEvent,
    "agent_speech_ended": AgentSpeechEndedEvent,
    "llm_token": LlmTokenEvent,
    "audio_out": AudioOutEvent,
}
SERVE: Mapping[str, Any] = {
    "call_start": CallStartEvent,
    "transcript": TranscriptEvent,
    "metrics": MetricsEvent,
    "dtmf": DtmfEvent,
    "call_end": CallEndEvent,
}


def assert_keys(payload: Mapping[str, Any], shape: Any) -> None:
    """Every required key is there, and every key that is there is required or optional."""
    keys = payload.keys()
    assert shape.__required_keys__ <= keys <= shape.__required_keys__ | shape.__optional_keys__, (shape, keys)


async def test_payloads_of_a_call_have_the_typed_keys(call_simulator: CallSimulator) -> None:
    """A call with a greeting, a key, a tool and a barge-in gives every payload; each has its TypedDict's keys."""
    phone, got, published = Patter(), {}, {}
    for name in SPEECH_EDGES:
        setattr(phone, f"on_{name}", lambda event, name=name: got.setdefault(name, []).append(event))
    for kind in PatterEventType:
        phone.events.on(kind, lambda event, kind=kind: published.setdefault(kind, []).append(event), scope="all")

    @tool
    def hours() -> str:
        """Return the opening hours."""
        return "nine to five"

    llm = ScriptedLLM([tool_call("hours"), "Our hours are from nine to five, on every day of the week."])
    agent = agent_of(
        llm=llm, tools=[hours], first_message="Hello.", stt=ScriptedSTT(interim_every=0.4), tts=ScriptedTTS()
    )
    callbacks = {f"on_{name}": got.setdefault(name, []).append for name in SERVE}
    async with call_simulator(agent, phone=phone, **callbacks) as caller:
        await caller.hears()
        await caller.speaks("Your hours?", seconds=1.0)
        await caller.presses("1")
        await caller.waits(2.5)
        await caller.speaks("Stop", seconds=0.5)
        await caller.waits(2.0)
    for name, shape in {**SPEECH_EDGES, **SERVE}.items():
        assert got[name], name
        for payload in got[name]:
            assert_keys(payload, shape)
    # Of the carrier's own accord: tests/server/test_machines.py and tests/server/test_carrier_recording.py.
    reports = {PatterEventType.MACHINE_DETECTED, PatterEventType.RECORDING_SAVED, PatterEventType.COST_REPORTED}
    if caller.carrier.protocol.name == "plivo":
        # The only carrier whose report of the end has the price.
        reports.remove(PatterEventType.COST_REPORTED)
    assert set(published) == set(PAYLOADS) - reports
    for kind, shape in PAYLOADS.items():
        for payload in published.get(kind, ()):
            assert_keys(payload, shape)


@pytest.mark.pipeline("on_message answers")
async def test_on_message_gets_the_typed_keys(call_simulator: CallSimulator) -> None:
    """``on_message`` is called with exactly the keys of ``MessageEvent``."""
    got: list[dict[str, Any]] = []

    def on_message(event: MessageEvent) -> str:
        got.append(dict(event))
        return "At nine."

    async with call_simulator(agent_of(llm=None), on_message=on_message) as caller:
        await caller.speaks("Your hours?", seconds=1.0)
        await caller.hears()
    [payload] = got
    assert_keys(payload, MessageEvent)


def test_an_edges_fields_are_its_payloads_keys() -> None:
    """The payload of a speech edge is made of its fields, under their names."""
    assert {edge.name for edge in get_args(SpeechEdge)} == set(EDGES)
    for edge in get_args(SpeechEdge):
        fields = {field.name for field in attrs.fields(edge)}
        assert SPEECH_EDGES[edge.name].__annotations__.keys() == fields | {"call_id"}


def test_every_payload_type_is_exported() -> None:
    """Each TypedDict of ``events/payloads.py`` that describes an event is in ``patter_trio.__all__``."""
    shapes = {name for name in vars(payloads) if name.endswith("Event")}
    assert shapes <= set(patter_trio.__all__)
    assert {shape.__name__ for shape in PAYLOADS.values()} <= shapes
