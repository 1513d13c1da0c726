"""The event bus: what is published and when, to whom, and that no subscriber can hurt a call."""

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, get_args

import attrs
import pytest
import trio
import trio.lowlevel
import trio.testing

from patter_trio import Agent, ConfigurationError, EventBus, Patter, PatterEventType, in_thread
from patter_trio.abc import CallInfo
from patter_trio.carriers.twilio import Twilio
from patter_trio.conversation.history import Entry
from patter_trio.events.call_events import CallEvents
from patter_trio.events.delivery import MAX_QUEUED_EVENTS, HandlerTasks
from patter_trio.events.kinds import FREQUENT_EVENTS, LOSSY_TYPES, PAYLOADS, PUBLISHED, PublishedEvent
from patter_trio.events.payloads import ConversationStateSnapshot
from patter_trio.metrics.internal_events import (
    CallEvent,
    LlmChunk,
    ToolCallCompleted,
    ToolCallStarted,
    TtsChunk,
)
from patter_trio.metrics.public_events import (
    CallOver,
    DigitReceived,
    InterimTranscript,
    TranscriptCommitted,
    TurnMeasured,
)
from patter_trio.metrics.results import CostBreakdown, LatencyBreakdown, TurnMetrics
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.server.calls import open_call_server
from patter_trio.server.connection import serve_connection
from patter_trio.server.options import Seams
from patter_trio.testing import CallRefused, ScriptedLLM, ScriptedSTT, ScriptedTTS, SimulatedTwilio
from patter_trio.testing.simulation.caller import SimulatedCaller
from patter_trio.testing.simulation.simulator import EPOCH_UNIX_S
from patter_trio.user_code.context import current_call
from tests.kit.call import SORRY, Backend, agent_of, edges, never_returns, raises, sleeps
from tests.kit.depth import few

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]

T = PatterEventType
STATE = ConversationStateSnapshot(user="listening", agent="idle")
TURN = TurnMetrics(turn_index=1, user_text="", agent_text="", latency=LatencyBreakdown())
LONG = "Our opening hours are from nine to five, every day of the week."


def ask(caller: SimulatedCaller, text: str = "Your hours?") -> Any:
    return caller.speaks(text, seconds=1.0)


def collect(phone: Patter, *kinds: PatterEventType) -> list[tuple[PatterEventType, dict[str, Any]]]:
    """What is published of these types (of all, if none is given) from here on."""
    seen: list[tuple[PatterEventType, dict[str, Any]]] = []
    for kind in kinds or T:
        phone.events.on(kind, lambda event, kind=kind: seen.append((kind, event)), scope="all")
    return seen


def sent(caller: SimulatedCaller) -> list[tuple[float, int, Any]]:
    """All that the carrier got, with its instant."""
    return [(round(arrival.at, 6), len(arrival.audio), arrival.mark) for arrival in caller.carrier.arrivals]


@attrs.frozen
class OneCall:
    """A call as the bus sees it, without one."""

    events: CallEvents
    bus: EventBus

    def publish(self, event: CallEvent) -> None:
        self.events.on_event(event, trio.current_time(), STATE)

    def end(self, *, cancelled: bool = False) -> None:
        self.publish(CallOver(info=CallInfo("CA1", "", "", "inbound"), ended_at=0.0, outcome="completed"))
        self.events.grace.begin(cancelled=cancelled)
        self.events.close()


async def one_call(
    run: Callable[[OneCall], Any], subscribe: Callable[[EventBus], None], call_id: str = "CA1"
) -> OneCall:
    """Run a call that publishes what ``run`` says; return when its handlers are through."""
    bus = EventBus()
    subscribe(bus)
    async with trio.open_nursery() as nursery:
        deliveries = HandlerTasks(nursery)
        call = OneCall(CallEvents(call_id, bus._everywhere, deliveries, epoch=EPOCH_UNIX_S), bus)
        await run(call)
        deliveries.close()
    return call


# What is published ----------------------------------------------------------------------------------------------------
async def test_payload_keys_match_their_types(call_simulator: CallSimulator, backend: Backend) -> None:
    """Every published payload has exactly the keys of its declared type."""
    phone = Patter()
    seen = collect(phone)
    agent = backend.agent_of(
        LONG, first_message="Hello.", stt=ScriptedSTT(interim_every=0.4), tts=ScriptedTTS(duration=3.0), dtmf=False
    )
    async with call_simulator(agent, phone=phone) as caller:
        await caller.hears()
        await ask(caller)
        await caller.presses("1")
        await caller.waits(2.0)
        await caller.speaks("Stop", seconds=0.5)
        await caller.hears()
    kinds = {kind for kind, _ in seen}
    later = {T.TOOL_CALL_STARTED, T.TOOL_CALL_COMPLETED, T.METRICS_COLLECTED}
    # Of the carrier's own accord: tests/server/test_machines.py and tests/server/test_carrier_recording.py.
    by_carrier = {T.MACHINE_DETECTED, T.RECORDING_SAVED, T.COST_REPORTED}
    assert (kinds | later) - by_carrier == set(T) - by_carrier
    for kind, payload in seen:
        shape: Any = PAYLOADS[kind]
        assert shape.__required_keys__ <= payload.keys() <= shape.__required_keys__ | shape.__optional_keys__, kind
        assert payload["call_id"] == caller.carrier.call_id
        assert None not in [value for key, value in payload.items() if key != "metrics"]


async def test_tool_calls_and_measured_turns_are_published(autojump_clock: trio.testing.MockClock) -> None:
    """The bus publishes tool calls and measured turns with the keys of their payload types."""
    seen: dict[str, Any] = {}

    async def run(call: OneCall) -> None:
        await trio.sleep(1.5)
        room = {"room": 7}
        call.publish(ToolCallStarted("book", "t1", room))
        call.publish(ToolCallCompleted(name="book", tool_call_id="t1", arguments=room, result="done", duration=0.5))
        call.publish(TurnMeasured(TURN, CostBreakdown(total=0.5)))

    def subscribe(bus: EventBus) -> None:
        for kind in (T.TOOL_CALL_STARTED, T.TOOL_CALL_COMPLETED, T.METRICS_COLLECTED):
            bus.on(kind, partial(seen.__setitem__, kind))

    await one_call(run, subscribe)
    book = {
        "call_id": "CA1",
        "timestamp_ms": round((EPOCH_UNIX_S + 1.5) * 1000),
        "name": "book",
        "tool_call_id": "t1",
        "arguments": {"room": 7},
    }
    assert seen == {
        T.TOOL_CALL_STARTED: book,
        T.TOOL_CALL_COMPLETED: {**book, "result": "done", "duration": 0.5},
        T.METRICS_COLLECTED: {"call_id": "CA1", "turn": TURN, "cost_so_far": CostBreakdown(total=0.5)},
    }
    for kind, payload in seen.items():
        shape: Any = PAYLOADS[PatterEventType(kind)]
        assert payload.keys() == shape.__required_keys__


async def test_transcript_final_equals_on_transcript(
    call_simulator: CallSimulator,
    backend: Backend,
) -> None:
    """The bus publishes transcript_final with the on_transcript payload, once per turn for each speaker."""
    phone, reported = Patter(), []
    seen = collect(phone, T.TRANSCRIPT_FINAL)
    agent = backend.agent_of("Nine.", first_message="Hello.")
    async with call_simulator(agent, phone=phone, on_transcript=reported.append) as caller:
        await caller.hears()
        await ask(caller)
        await caller.hears()
    assert [payload for _, payload in seen] == reported
    assert [(event["role"], event["text"]) for event in reported] == [
        ("assistant", "Hello."),
        ("user", "Your hours?"),
        ("assistant", "Nine."),
    ]


@pytest.mark.pipeline("about the STT")
async def test_transcript_partial_has_every_interim_result(
    call_simulator: CallSimulator,
) -> None:
    """The bus publishes every interim STT result as transcript_partial before the utterance ends."""
    phone = Patter()
    seen = collect(phone, T.TRANSCRIPT_PARTIAL)
    async with call_simulator(agent_of(stt=ScriptedSTT(interim_every=0.4)), phone=phone) as caller:
        await caller.speaks("One two three four", seconds=1.2)
        await caller.hears()
    assert [payload["text"] for _, payload in seen] == ["One", "One two", "One two three four"]
    eos = caller.payloads("user_speech_eos")[0]["timestamp_ms"]
    assert all(payload["timestamp_ms"] < eos for _, payload in seen)


async def test_llm_chunk_has_generated_text_only(
    call_simulator: CallSimulator,
    backend: Backend,
) -> None:
    """The bus publishes every piece of LLM text as llm_chunk, and no piece of a fixed text."""
    phone = Patter()
    seen = collect(phone, T.LLM_CHUNK)
    llm = ScriptedLLM(["One two. Three."], first_token=0.1, duration=0.2)
    async with call_simulator(backend.agent_of(llm=llm, first_message="Hello."), phone=phone) as caller:
        await caller.hears()
        phone.calls[0].say("One moment.")
        await caller.hears()
        await ask(caller)
        await caller.hears()
        asked = caller.payloads("user_speech_eos")[0]["timestamp_ms"]
    assert "".join(payload["text"] for _, payload in seen) == "One two. Three."
    assert [payload["timestamp_ms"] - asked for _, payload in seen] == [100, 200, 300]
    assert {payload["turn_idx"] for _, payload in seen} == {1}


@pytest.mark.pipeline("on_message answers")
async def test_llm_chunk_has_every_on_message_piece(call_simulator: CallSimulator) -> None:
    """The bus publishes every piece of an on_message reply as llm_chunk."""
    phone = Patter()
    seen = collect(phone, T.LLM_CHUNK)

    async def on_message(event: dict[str, Any]) -> Any:
        for piece in ("At ", "nine."):
            yield piece

    async with call_simulator(agent_of(llm=None), phone=phone, on_message=on_message) as caller:
        await ask(caller)
        await caller.hears()
    assert [payload["text"] for _, payload in seen] == ["At ", "nine."]


async def test_tts_chunk_has_all_audio_sent_to_carrier(call_simulator: CallSimulator, backend: Backend) -> None:
    """The bus publishes as tts_chunk exactly the audio that is written to the carrier."""
    phone = Patter()
    seen = collect(phone, T.TTS_CHUNK)
    async with call_simulator(backend.agent_of("Nine."), phone=phone) as caller:
        await ask(caller)
        await caller.hears()
    assert b"".join(payload["audio"] for _, payload in seen) == b"".join(
        arrival.audio for arrival in caller.carrier.arrivals
    )
    assert {payload["turn_idx"] for _, payload in seen} == {1}


async def test_call_events_equal_their_callback_payloads(call_simulator: CallSimulator, backend: Backend) -> None:
    """The call_started and call_ended events have the payloads of on_call_start and on_call_end."""
    phone, reported = Patter(), []
    seen = collect(phone, T.CALL_STARTED, T.CALL_ENDED)
    async with call_simulator(
        backend.agent_of(), phone=phone, on_call_start=reported.append, on_call_end=reported.append
    ) as caller:
        await caller.waits(1.0)
    assert [payload for _, payload in seen] == reported
    assert caller.times("call_started") == [0.0]


async def test_dtmf_received_equals_on_dtmf(call_simulator: CallSimulator, backend: Backend) -> None:
    """The bus publishes dtmf_received with the payload of on_dtmf."""
    phone, reported = Patter(), []
    seen = collect(phone, T.DTMF_RECEIVED)
    async with call_simulator(backend.agent_of(), phone=phone, on_dtmf=reported.append) as caller:
        await caller.presses("4#")
        await caller.waits(0.1)
    assert [payload for _, payload in seen] == reported
    assert [payload["digit"] for payload in reported] == ["4", "#"]


async def test_interruption_reports_heard_text_and_duration(call_simulator: CallSimulator, backend: Backend) -> None:
    """The interruption event reports the text that the caller heard and its duration."""
    phone = Patter()
    seen = collect(phone, T.INTERRUPTION)
    async with call_simulator(backend.agent_of(LONG, "Yes.", tts=ScriptedTTS(duration=6.0)), phone=phone) as caller:
        await ask(caller)
        await caller.at(4.0)
        await caller.speaks("Stop it", seconds=1.0)
        await caller.heard(1)
        cut, zero = caller.payloads("agent_speech_ended")[0], round((EPOCH_UNIX_S + caller.carrier.media_start) * 1000)
    [(_, event)] = seen
    assert event == {
        "call_id": caller.carrier.call_id,
        "timestamp_ms": zero + 4250,
        "turn_idx": 1,
        "text": caller.history[1]["text"],
        "speech_duration_ms": cut["speech_duration_ms"],
        "reason": "barge-in",
    }
    assert cut["timestamp_ms"] == event["timestamp_ms"]
    assert LONG.startswith(event["text"])


# Turns ----------------------------------------------------------------------------------------------------------------
def turns(caller: SimulatedCaller) -> list[tuple[int, str, int, str]]:
    """Events about turns: ms of call time, event, turn_idx and reason."""
    return [
        (round(at * 1000), name, payload["turn_idx"], payload.get("reason", ""))
        for at, name, payload in caller.events
        if name in ("turn_started", "turn_ended")
    ]


async def test_turn_spans_eos_to_reply_greeting_is_zero(
    call_simulator: CallSimulator,
    backend: Backend,
) -> None:
    """A turn starts with the eos and ends with its reply, and the greeting is turn 0."""
    async with call_simulator(backend.agent_of("One moment please.", first_message="Hello.")) as caller:
        await caller.at(1.0)
        await caller.speaks("Is a table free?", seconds=1.0)
        await caller.hears()
        phone_says = caller.times("agent_speech_ended")
    assert turns(caller) == [
        (0, "turn_started", 0, ""),
        (round(phone_says[0] * 1000), "turn_ended", 0, "completed"),
        (2500, "turn_started", 1, ""),
        (4180, "turn_ended", 1, "completed"),
    ]


async def test_a_turn_that_is_talked_over_ends_interrupted(call_simulator: CallSimulator, backend: Backend) -> None:
    """A turn ends as interrupted 250 ms after the caller begins to talk over it."""
    async with call_simulator(backend.agent_of(LONG, "Yes.", tts=ScriptedTTS(duration=6.0))) as caller:
        await ask(caller)
        await caller.at(4.0)
        await caller.speaks("Stop it", seconds=1.0)
        await caller.heard(1)
    assert turns(caller)[:3] == [
        (1500, "turn_started", 1, ""),
        (4250, "turn_ended", 1, "interrupted"),
        (5500, "turn_started", 2, ""),
    ]


async def test_turn_ends_continued_when_caller_goes_on(
    call_simulator: CallSimulator,
    backend: Backend,
) -> None:
    """A turn ends as continued when the caller speaks on before the answer is heard."""
    async with call_simulator(backend.agent_of(llm=ScriptedLLM(["Two rooms."], first_token=0.8))) as caller:
        await caller.speaks("A room", seconds=0.5)
        await caller.at(1.2)
        await caller.speaks("or rather two", seconds=0.6)
        await caller.hears()
    assert turns(caller) == [
        (1000, "turn_started", 1, ""),
        (2300, "turn_ended", 1, "continued"),
        (2300, "turn_started", 2, ""),
        (round(caller.times("agent_speech_ended")[0] * 1000), "turn_ended", 2, "completed"),
    ]


async def test_a_turn_that_failed_ends_with_its_apology(call_simulator: CallSimulator, backend: Backend) -> None:
    """A turn that fails ends as completed when its apology has been played."""
    async with call_simulator(backend.agent_of(llm=ScriptedLLM(["x"], fail_after=0))) as caller:
        await ask(caller)
        assert (await caller.hears()).text == SORRY
    ended = round(caller.times("agent_speech_ended")[0] * 1000)
    assert turns(caller) == [(1500, "turn_started", 1, ""), (ended, "turn_ended", 1, "completed")]


async def test_a_turn_whose_apology_fails_too_ends_failed(call_simulator: CallSimulator, backend: Backend) -> None:
    """A turn whose apology fails, too, ends as failed."""
    async with call_simulator(backend.agent_of(tts=ScriptedTTS(fail_after=0.0))) as caller:
        await ask(caller)
        await caller.waits(5.0)
    assert [event[1:] for event in turns(caller)] == [("turn_started", 1, ""), ("turn_ended", 1, "failed")]


@pytest.mark.pipeline("on_message answers")
async def test_unanswered_turn_ends_at_once(call_simulator: CallSimulator) -> None:
    """A turn that gets no answer ends as completed as soon as on_message returns nothing."""
    async with call_simulator(agent_of(llm=None), on_message=lambda event: None) as caller:
        await ask(caller)
        await caller.waits(2.0)
    assert turns(caller) == [(1500, "turn_started", 1, ""), (1500, "turn_ended", 1, "completed")]


async def test_turn_ends_with_call_and_say_opens_none(call_simulator: CallSimulator, backend: Backend) -> None:
    """An open turn ends with the call, and a say() after the answer opens no turn."""
    phone = Patter()
    agent = backend.agent_of("Nine.", LONG, tts=ScriptedTTS(duration=4.0))
    async with call_simulator(agent, phone=phone) as caller:
        await ask(caller)
        await caller.hears()
        phone.calls[0].say("Anything else?")
        await caller.hears()
        await caller.speaks("Yes", seconds=0.5)
        await caller.waits(2.0)
    assert [event[1:] for event in turns(caller)] == [
        ("turn_started", 1, ""),
        ("turn_ended", 1, "completed"),
        ("turn_started", 2, ""),
        ("turn_ended", 2, "call_ended"),
    ]


# Whose it is ----------------------------------------------------------------------------------------------------------
async def test_handler_from_a_callback_serves_its_call_only(call_simulator: CallSimulator, backend: Backend) -> None:
    """A handler that is subscribed in a call's callback gets that call's events only and ends with it."""
    phone, seen = Patter(), []

    async def first_only(event: dict[str, Any]) -> None:
        if not seen:
            seen.append(event["call_id"])
            phone.events.on(T.TRANSCRIPT_FINAL, lambda event: seen.append((event["call_id"], event["text"])))

    agent = backend.agent_of("Nine.")
    async with call_simulator(agent, phone=phone, on_call_start=first_only) as one:
        await one.waits(0.1)
        async with call_simulator(agent, phone=phone) as two:  # at the same time, at another server of the same phone
            await two.speaks("I am two", seconds=0.5)
            await one.speaks("I am one", seconds=0.5)
            await one.hears()
    async with call_simulator(agent, phone=phone, on_call_start=first_only) as three:
        await three.speaks("I am three", seconds=0.5)
        await three.hears()
    assert seen == [one.carrier.call_id, (one.carrier.call_id, "I am one"), (one.carrier.call_id, "Nine.")]
    assert phone.events._everywhere == {}


async def test_scope_all_subscribes_to_every_call(call_simulator: CallSimulator, backend: Backend) -> None:
    """A subscription with scope="all" from a callback receives the events of every call."""
    phone, seen = Patter(), []
    subscriptions: list[Any] = []

    async def once(event: dict[str, Any]) -> None:
        if not subscriptions:
            subscriptions.append(
                phone.events.on(T.CALL_ENDED, lambda event: seen.append(event["call_id"]), scope="all")
            )

    calls = []
    for _ in range(2):
        async with call_simulator(backend.agent_of(), phone=phone, on_call_start=once) as caller:
            await caller.waits(0.1)
        calls.append(caller.carrier.call_id)
    assert seen == calls


async def test_handlers_subscribed_outside_serving_work(call_simulator: CallSimulator, backend: Backend) -> None:
    """Handlers that are subscribed before serving or between two servers receive the events of later calls."""
    phone = Patter()
    before = collect(phone, T.CALL_STARTED)
    async with call_simulator(backend.agent_of(), phone=phone) as caller:
        await caller.waits(0.1)
    between = collect(phone, T.CALL_STARTED)
    async with call_simulator(backend.agent_of(), phone=phone) as caller:
        await caller.waits(0.1)
    assert (len(before), len(between)) == (2, 1)


async def test_several_servers_of_a_phone_share_its_bus(call_simulator: CallSimulator, backend: Backend) -> None:
    """The bus of a phone publishes the calls of all its servers."""
    phone = Patter()
    seen = collect(phone, T.CALL_STARTED)
    async with (
        call_simulator(backend.agent_of(), phone=phone) as one,
        call_simulator(backend.agent_of(), phone=phone) as two,
    ):
        await one.waits(0.5)
    assert [payload["call_id"] for _, payload in seen] == [one.carrier.call_id, two.carrier.call_id]


async def test_handler_sees_call_and_state_of_event(call_simulator: CallSimulator, backend: Backend) -> None:
    """A handler sees the call of its event and the conversation state at the moment of the event."""
    phone, seen = Patter(), []

    async def look(event: dict[str, Any]) -> None:
        await trio.sleep(1.0)  # long after the call has gone on
        seen.append((current_call.get() == event["call_id"], phone.conversation_state))

    phone.events.on(T.TURN_STARTED, look)
    async with call_simulator(backend.agent_of("Yes."), phone=phone) as caller:
        await ask(caller)
        await caller.hears()
    assert seen == [(True, {"user": "listening", "agent": "thinking"})]


async def test_handler_from_a_handler_serves_its_call_only(call_simulator: CallSimulator, backend: Backend) -> None:
    """A handler that is subscribed within another handler receives the events of that call only."""
    phone, seen = Patter(), []
    phone.events.on(
        T.CALL_STARTED, lambda event: phone.events.on(T.CALL_ENDED, lambda end: seen.append((event, end["call_id"])))
    )
    for _ in range(2):
        async with call_simulator(backend.agent_of(), phone=phone) as caller:
            await caller.waits(0.1)
    assert [start["call_id"] == end for start, end in seen] == [True, True]


@pytest.mark.pipeline("on_message answers")
async def test_handler_from_on_message_serves_its_call_only(call_simulator: CallSimulator) -> None:
    """A handler that is subscribed in on_message receives the events of that call only."""
    phone, seen = Patter(), []

    def on_message(event: dict[str, Any]) -> str:
        phone.events.on(T.TURN_ENDED, lambda event: seen.append((event["call_id"], event["turn_idx"])))
        return "Yes."

    for handler in (on_message, lambda event: "Yes."):
        async with call_simulator(agent_of(llm=None), phone=phone, on_message=handler) as caller:
            await ask(caller)
            await caller.hears()
        if handler is on_message:
            first = caller.carrier.call_id
    assert seen == [(first, 1)]


async def test_handler_after_call_end_warns_and_gets_nothing(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """A handler that is subscribed after its call has ended gets no event, and the log says so."""
    phone, seen = Patter(), []
    for _ in range(2):
        async with call_simulator(
            backend.agent_of(), phone=phone, on_call_end=lambda event: phone.events.on(T.CALL_ENDED, seen.append)
        ) as caller:
            await caller.waits(0.1)
    assert seen == []
    assert caplog.text.count("a subscription to call_ended after the end of the call gets nothing") == 2


async def test_subscription_to_other_phone_gets_all_calls(call_simulator: CallSimulator, backend: Backend) -> None:
    """A handler subscribed to another phone's bus within a callback gets all calls of that phone."""
    phone, other, seen = Patter(), Patter(), []
    async with call_simulator(
        backend.agent_of(),
        phone=phone,
        on_call_start=lambda event: other.events.on(T.CALL_STARTED, seen.append) and None,
    ) as caller:
        await caller.waits(0.1)
    async with call_simulator(backend.agent_of(), phone=other) as caller:
        await caller.waits(0.1)
    assert [event["call_id"] for event in seen] == [caller.carrier.call_id]


# Handlers -------------------------------------------------------------------------------------------------------------
async def test_sync_and_async_handlers_run_in_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The bus calls sync and async handlers in event order, one event at a time for each handler."""
    seen: list[Any] = []

    async def slow(event: dict[str, Any]) -> None:
        await trio.sleep(1.0)
        seen.append(("slow", event["text"], trio.current_time()))

    async def run(call: OneCall) -> None:
        for text in "abc":
            call.publish(InterimTranscript(0, text))
        await trio.sleep(10.0)

    def subscribe(bus: EventBus) -> None:
        bus.on(T.TRANSCRIPT_PARTIAL, slow)
        bus.on("transcript_partial", lambda event: seen.append(("quick", event["text"], trio.current_time())))

    await one_call(run, subscribe)
    assert [entry for entry in seen if entry[0] == "quick"] == [("quick", text, 0.0) for text in "abc"]
    assert [entry for entry in seen if entry[0] == "slow"] == [
        ("slow", "a", 1.0),
        ("slow", "b", 2.0),
        ("slow", "c", 3.0),
    ]


async def test_each_subscriber_gets_its_own_payload_copy(autojump_clock: trio.testing.MockClock) -> None:
    """Each handler and each channel gets its own copy of the payload."""
    seen: list[Any] = []

    def spoil(event: dict[str, Any]) -> None:
        event["history"][0]["text"] = "spoiled"
        seen.append(event)

    history: list[Entry] = [{"role": "user", "text": "hi", "timestamp": 0.0}]

    async def run(call: OneCall) -> None:
        async with call.bus.subscribe(T.TRANSCRIPT_FINAL) as channel:
            call.publish(TranscriptCommitted("user", "hi", history))
            seen.append(await channel.receive())
        await trio.sleep(1.0)

    await one_call(run, lambda bus: [bus.on(T.TRANSCRIPT_FINAL, spoil) for _ in range(2)] and None)
    assert history == [{"role": "user", "text": "hi", "timestamp": 0.0}]
    assert len({id(event["history"][0]) for event in seen}) == 3
    assert [event["history"][0]["text"] for event in seen].count("hi") == 1


async def test_unsubscribe_is_immediate_and_idempotent(autojump_clock: trio.testing.MockClock) -> None:
    """Unsubscribing stops a handler at once, and a second unsubscribe has no effect."""
    seen: list[Any] = []
    subscriptions: list[Any] = []

    async def once(event: dict[str, Any]) -> None:
        seen.append(event["text"])
        await trio.sleep(1.0)
        for _ in range(2):
            subscriptions[0]()

    async def run(call: OneCall) -> None:
        for text in "abc":
            call.publish(InterimTranscript(0, text))
        await trio.sleep(3.0)
        call.publish(InterimTranscript(0, "d"))

    def subscribe(bus: EventBus) -> None:
        subscriptions.append(bus.on(T.TRANSCRIPT_PARTIAL, once))

    call = await one_call(run, subscribe)
    assert seen == ["a"]
    assert call.bus._everywhere == {}
    assert subscriptions[0].tasks == {}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda bus: bus.on("llm_chunks", print),
            r"the event type must be one of TRANSCRIPT_PARTIAL, .*, got 'llm_chunks'",
        ),
        (lambda bus: bus.on(T.LLM_CHUNK, "print"), r"a handler must be callable, got str: 'print'"),
        (lambda bus: bus.on(T.LLM_CHUNK, print, scope="CA1"), r'scope must be "call" or "all", got \'CA1\''),
        (
            lambda bus: bus.on(T.LLM_CHUNK, print, scope="call"),
            r'scope="call" must be used inside a callback of a call',
        ),
        (lambda bus: bus.subscribe(T.LLM_CHUNK, size=0), r"size must be a whole number of at least 1, got 0"),
    ],
)
def test_invalid_subscription_is_refused_at_once(wrong: Callable[[EventBus], Any], message: str) -> None:
    """An invalid event type, handler, scope or size raises a ConfigurationError that names it."""
    with pytest.raises(ConfigurationError, match=message):
        wrong(EventBus())


# What a handler cannot do to a call -----------------------------------------------------------------------------------
def spoils(event: dict[str, Any]) -> str:
    for key in list(event):
        event[key] = None
    return "not what was asked for"


def takes_nothing() -> None:
    """A handler of the wrong shape."""


async def whole_call(backend: Backend, call_simulator: CallSimulator, handler: Any) -> list[Any]:
    """Return the events, the audio and the transcript of a call whose handler is subscribed to each kind of event."""
    phone = Patter()
    if handler is not None:
        for kind in T:
            phone.events.on(kind, handler)
    agent = backend.agent_of(LONG, "Yes.", first_message="Hello.", stt=ScriptedSTT(interim_every=0.4))
    async with call_simulator(agent, phone=phone) as caller:
        await caller.hears()
        await ask(caller)
        await caller.waits(2.5)
        await caller.speaks("Stop it", seconds=1.0)
        await caller.hears()
    return [edges(caller), sent(caller), caller.dialogue]


@pytest.mark.parametrize("handler", few([raises, sleeps, never_returns, spoils, takes_nothing, (7).__add__], 2))
async def test_handlers_never_shift_call_audio(call_simulator: CallSimulator, handler: Any, backend: Backend) -> None:
    """No event handler, however slow or broken, shifts the call's audio, its events or its transcript."""
    assert await whole_call(backend, call_simulator, handler) == await whole_call(backend, call_simulator, None)


async def test_raising_handler_is_logged_and_called_again(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A raising handler is logged as a warning with its name and receives the next event."""
    seen: list[Any] = []

    def broken(event: dict[str, Any]) -> None:
        seen.append(event)
        raise ValueError("no such customer")

    async def run(call: OneCall) -> None:
        for _ in range(2):
            call.publish(DigitReceived("1"))
        await trio.sleep(1.0)

    await one_call(run, lambda bus: bus.on(T.DTMF_RECEIVED, broken) and None)
    records = [record for record in caplog.records if record.name == "patter_trio.events"]
    assert (len(seen), len(records)) == (2, 2)
    assert records[0].levelno == logging.WARNING
    assert records[0].exc_info is not None
    assert records[0].message.startswith("call CA1: dtmf_received: ")
    assert records[0].message.endswith("broken raised ValueError: no such customer")


async def test_frequent_handler_errors_are_logged_once_per_call(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that raises on a frequent event is logged once per call."""

    async def run(call: OneCall) -> None:
        for _ in range(100):
            call.publish(InterimTranscript(0, "x"))
        await trio.sleep(1.0)

    await one_call(run, lambda bus: bus.on(T.TRANSCRIPT_PARTIAL, raises) and None)
    assert caplog.text.count("raises raised ValueError: no such customer (not reported again in this call)") == 1


async def test_event_overflow_drops_oldest_with_one_warning(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A full handler queue drops the oldest events, logs one warning and counts the dropped events."""
    seen: list[int] = []
    subscriptions: list[Any] = []

    async def run(call: OneCall) -> None:
        for number in range(MAX_QUEUED_EVENTS + 10):
            call.publish(InterimTranscript(number, ""))
        await trio.sleep(1.0)

    def subscribe(bus: EventBus) -> None:
        subscriptions.append(bus.on(T.TRANSCRIPT_PARTIAL, lambda event: seen.append(event["timestamp_ms"])))

    await one_call(run, subscribe)
    assert seen == list(range(10, MAX_QUEUED_EVENTS + 10))
    assert subscriptions[0].dropped == 10
    assert caplog.text.count("cannot keep up with transcript_partial; events are being dropped") == 1


@pytest.mark.parametrize(
    ("event", "cancelled", "until"),
    [
        (InterimTranscript(0, "x"), False, 2.0),
        (TranscriptCommitted("user", "x", []), False, 2.0 + 15.0),
        (None, False, 2.0 + 30.0),
        (TranscriptCommitted("user", "x", []), True, 2.0 + 2.5),
        (None, True, 2.0 + 5.0),
    ],
    ids=["interim", "kept", "end", "kept-cancelled", "end-cancelled"],
)
async def test_handlers_have_callback_deadlines_after_call(
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    event: CallEvent | None,
    cancelled: bool,
    until: float,
) -> None:
    """After the call a handler has the same deadline as the corresponding callback and is then cancelled."""
    kind = T.CALL_ENDED if event is None else PUBLISHED[type(event)]

    async def run(call: OneCall) -> None:
        if event is not None:
            call.publish(event)
        await trio.sleep(100.0)
        call.end(cancelled=cancelled)

    await one_call(run, lambda bus: bus.on(kind, never_returns) and None)
    assert trio.current_time() == pytest.approx(100.0 + until)
    assert caplog.text.count(f"call CA1: {kind}: never_returns was cancelled: its time limit was over") == 1


async def test_events_past_the_deadline_are_dropped_and_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Events that still wait when the handler's deadline passes are dropped and counted."""
    subscriptions: list[Any] = []

    async def run(call: OneCall) -> None:
        for _ in range(3):
            call.publish(InterimTranscript(0, "x"))
        await trio.sleep(1.0)
        call.end()

    def subscribe(bus: EventBus) -> None:
        subscriptions.append(bus.on(T.TRANSCRIPT_PARTIAL, never_returns))

    await one_call(run, subscribe)
    assert trio.current_time() == 3.0
    assert subscriptions[0].dropped == 2


async def test_hanging_handler_still_serves_the_next_call(call_simulator: CallSimulator, backend: Backend) -> None:
    """A handler that hangs in one call still receives the events of the next call."""
    phone, seen = Patter(), []

    async def hangs_once(event: dict[str, Any]) -> None:
        seen.append(event["call_id"])
        if len(seen) == 1:
            await trio.sleep_forever()

    phone.events.on(T.TURN_STARTED, hangs_once)
    calls = []
    for _ in range(2):
        async with call_simulator(backend.agent_of("Yes."), phone=phone) as caller:
            await ask(caller)
            await caller.hears()
        calls.append(caller.carrier.call_id)
    assert seen == calls


async def test_frequent_events_cost_nothing_without_subscribers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The bus wants no chunk events until a handler is subscribed to them."""
    phone = Patter()
    async with served(phone, agent_of(first_message="Hello there.")) as connect:
        caller = simulated(connect)
        async with trio.open_nursery() as nursery:
            await nursery.start(caller.run)
            await trio.sleep(3.0)
            [call] = phone._live.values()
            bus = call._reporter._events
            assert bus is not None
            assert not bus.wants(TtsChunk)
            assert not bus.wants(LlmChunk)
            phone.events.on(T.TTS_CHUNK, print)
            assert bus.wants(TtsChunk)
            caller.hang_up()


async def test_blocking_handler_is_reported_with_its_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A bus handler that blocks the event loop for 60 ms is logged with its name. The test runs on the real clock."""

    def writes_to_a_slow_disk(event: dict[str, Any]) -> None:
        time.sleep(0.06)

    async def run(call: OneCall) -> None:
        call.publish(DigitReceived("1"))
        await trio.lowlevel.checkpoint()

    await one_call(run, lambda bus: bus.on(T.DTMF_RECEIVED, writes_to_a_slow_disk) and None)
    [record] = caplog.records
    assert record.message.startswith("call CA1: ")
    assert "writes_to_a_slow_disk blocked every call for " in record.message
    assert "wrap it: in_thread(writes_to_a_slow_disk)" in record.message


async def test_threaded_handler_receives_its_event(call_simulator: CallSimulator, backend: Backend) -> None:
    """A bus handler wrapped by in_thread receives its event while the call continues."""
    phone, seen = Patter(), []
    phone.events.on(T.TURN_STARTED, in_thread(lambda event: seen.append(event["turn_idx"])))
    async with call_simulator(backend.agent_of("Yes."), phone=phone) as caller:
        await ask(caller)
        await caller.hears()
    assert seen == [1]


async def test_event_during_server_close_is_delivered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """An event that is published while the server closes is delivered and delays nothing."""
    seen: list[Any] = []

    async def run(call: OneCall) -> None:
        call.events.handler_tasks.close()
        call.publish(DigitReceived("1"))

    await one_call(run, lambda bus: bus.on(T.DTMF_RECEIVED, seen.append) and None)
    assert [event["digit"] for event in seen] == ["1"]


async def test_reprs_of_bus_show_handlers_and_counts(autojump_clock: trio.testing.MockClock) -> None:
    """The repr of each part of the bus shows its event, its handler and its counts."""
    shown: list[str] = []

    async def run(call: OneCall) -> None:
        [subscription] = call.bus._everywhere[T.DTMF_RECEIVED]
        call.publish(DigitReceived("1"))
        [delivery] = subscription.tasks.values()  # type: ignore[attr-defined]
        parts = (call.bus, subscription, delivery, call.events.handler_tasks, call.events, call.events.grace)
        shown.extend(repr(part) for part in (*parts, call.bus.subscribe(T.LLM_CHUNK)))

    await one_call(run, lambda bus: bus.on(T.DTMF_RECEIVED, raises) and None)
    assert shown == [
        "<EventBus, 1 subscriptions to all calls>",
        "<Subscription of raises to dtmf_received, 0 dropped>",
        "<HandlerTask of <Subscription of raises to dtmf_received, 0 dropped>, 1 waiting>",
        "<HandlerTasks, 1 running>",
        "<CallEvents of CA1>",
        "<GracePeriods edges inf, kept inf, end inf>",
        "<EventChannel of llm_chunk, 0 dropped>",
    ]


# Channels -------------------------------------------------------------------------------------------------------------
async def test_task_can_read_a_channel_of_all_calls(call_simulator: CallSimulator, backend: Backend) -> None:
    """A task of the application can read one channel with the events of every call."""
    phone, said = Patter(), []

    async def read(*, task_status: trio.TaskStatus[None]) -> None:
        async with phone.events.subscribe(T.LLM_CHUNK) as channel:
            task_status.started()
            async for event in channel:
                said.append(event["text"])  # noqa: PERF401 (as users write it)

    async with trio.open_nursery() as nursery:
        await nursery.start(read)
        for _ in range(2):
            async with call_simulator(backend.agent_of("One two."), phone=phone) as caller:
                await ask(caller)
                await caller.hears()
        nursery.cancel_scope.cancel()
    assert "".join(said) == "One two." * 2
    assert phone.events._everywhere == {}


async def test_channel_from_a_callback_ends_with_its_call(call_simulator: CallSimulator, backend: Backend) -> None:
    """A channel that is opened in a callback ends with its call."""
    phone, said = Patter(), []

    async def on_call_start(event: dict[str, Any]) -> None:
        async with phone.events.subscribe(T.TRANSCRIPT_FINAL) as channel:
            async for reported in channel:
                said.append(reported["text"])  # noqa: PERF401 (as users write it)
        said.append("over")

    async with call_simulator(backend.agent_of("Nine."), phone=phone, on_call_start=on_call_start) as caller:
        await caller.waits(2.0)
        await ask(caller)
        await caller.hears()
    assert said == ["Your hours?", "Nine.", "over"]


async def test_full_channel_drops_oldest_and_never_blocks(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A full channel drops and counts its oldest events, warns once, and never blocks the call."""
    got: list[Any] = []

    async def run(call: OneCall) -> None:
        subscription = call.bus.subscribe(T.TRANSCRIPT_PARTIAL, size=3)
        async with subscription as channel:
            for number in range(10):
                call.publish(InterimTranscript(number, ""))
            got.extend([(await channel.receive())["timestamp_ms"] for _ in range(3)])
            got.append(subscription.dropped)
            with pytest.raises(trio.WouldBlock):
                channel.receive_nowait()

    await one_call(run, lambda bus: None)
    assert got == [7, 8, 9, 7]
    assert caplog.text.count("a channel of transcript_partial is not read fast enough; events are being dropped") == 1


async def test_call_channel_delivers_last_event_then_ends(autojump_clock: trio.testing.MockClock) -> None:
    """A channel of one call delivers the last event and then ends."""
    got: list[Any] = []

    async def run(call: OneCall) -> None:
        call.events.enter()
        late = call.bus.subscribe(T.CALL_ENDED)
        async with call.bus.subscribe(T.CALL_ENDED) as channel:
            call.end()
            got.extend([event["call_id"] async for event in channel])
        async with late as channel:
            got.extend([event async for event in channel])

    await one_call(run, lambda bus: None)
    assert got == ["CA1"]


# Calls that are none --------------------------------------------------------------------------------------------------
# Requests find nobody at that port of this machine, and fail at once.
CARRIER = Twilio("AC1", "hush", api_url="http://127.0.0.1:1")


@asynccontextmanager
async def served(phone: Patter, agent: Agent | None = None, **options: Any) -> AsyncIterator[Any]:
    """Serve without a call; gives how to connect."""
    async with (
        open_call_server(
            phone._serve_options(agent or agent_of(), public_url="http://agent.test", carrier=CARRIER, **options),
            Seams(epoch=EPOCH_UNIX_S),
        ) as call_server,
        trio.open_nursery() as nursery,
    ):

        async def connect() -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(serve_connection, call_server.context, theirs)
            return ours

        yield connect


def simulated(connect: Any, number: int = 1) -> SimulatedTwilio:
    return SimulatedTwilio(
        connect, "http://agent.test", account_sid="AC1", auth_token="hush", call_sid=f"CA{number:032d}"
    )


async def test_unconnected_call_publishes_its_end_and_outcome(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The bus publishes call_ended with outcome failed for a call that never connected."""
    phone, own, ends = Patter(), [], []
    seen = collect(phone, T.CALL_STARTED, T.CALL_ENDED)
    callbacks = {
        "on_call_start": lambda event: phone.events.on(T.CALL_ENDED, own.append) and None,
        "on_call_end": ends.append,
    }
    async with served(phone, callbacks=callbacks) as connect:
        await simulated(connect).announce()
        await trio.sleep(61.0)
    expected = {
        "call_id": f"CA{1:032d}",
        "caller": "+15550100001",
        "callee": "+15550100002",
        "direction": "inbound",
        "ended_at": EPOCH_UNIX_S + 60.0,
        "transcript": [],
        "metrics": None,
        "tool_calls": [],
        "outcome": "failed",
        "error": "its media stream never connected",
    }
    assert seen == [(T.CALL_ENDED, expected)]
    assert own == [expected]
    assert ends == [expected]  # on_call_start was told of it


async def test_refused_call_publishes_busy(autojump_clock: trio.testing.MockClock) -> None:
    """The bus publishes call_ended with outcome busy for a refused call, and a live call is unaffected."""
    phone = Patter()
    seen = collect(phone, T.CALL_ENDED)
    async with served(phone, max_calls=1) as connect, trio.open_nursery() as nursery:
        first = simulated(connect, 1)
        await nursery.start(first.run)
        for number in (2, 1):  # the live one, announced again, hears busy and goes on
            with pytest.raises(CallRefused):
                await simulated(connect, number).announce()
        await trio.sleep(0.1)
        assert [(event["call_id"], event["outcome"]) for _, event in seen] == [(f"CA{2:032d}", "busy")]
        assert seen[0][1]["error"]
        first.hang_up()
    assert [event["outcome"] for _, event in seen] == ["busy", "caller_hung_up"]


async def test_announced_call_at_close_publishes_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The bus publishes call_ended with outcome cancelled for an announced call when the server closes."""
    phone = Patter()
    seen = collect(phone, T.CALL_ENDED)
    phone.events.on(T.CALL_ENDED, never_returns)
    with trio.CancelScope() as server:
        async with served(phone) as connect:
            await simulated(connect).announce()
            await trio.sleep(1.0)
            server.cancel()
    assert [event["outcome"] for _, event in seen] == ["cancelled"]
    assert trio.current_time() == pytest.approx(1.0 + 7.0)


async def test_cancelled_server_publishes_ends_within_seven_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A cancelled server publishes the end of every call and is gone within seven seconds."""
    phone = Patter()
    seen = collect(phone, T.CALL_ENDED)
    phone.events.on(T.CALL_ENDED, never_returns)
    async with trio.open_nursery() as line:
        with trio.CancelScope() as server:
            async with served(phone) as connect:
                ended, live = simulated(connect, 1), simulated(connect, 2)
                await line.start(ended.run)
                await line.start(live.run)
                await trio.sleep(3.0)
                ended.hang_up()  # its handlers have 30 s, and then only 5
                await trio.sleep(1.0)
                server.cancel()
    assert [event["outcome"] for _, event in seen] == ["caller_hung_up", "cancelled"]
    assert trio.current_time() <= 4.0 + 7.2


async def test_ended_call_leaves_no_subscription(call_simulator: CallSimulator, backend: Backend) -> None:
    """An ended call leaves no subscription and no task on the bus."""
    phone = Patter()
    subscription = phone.events.on(T.CALL_ENDED, lambda event: None)

    def on_call_start(event: dict[str, Any]) -> None:
        for kind in T:
            phone.events.on(kind, lambda event: None)

    async with call_simulator(backend.agent_of("Yes."), phone=phone, on_call_start=on_call_start) as caller:
        await ask(caller)
        await caller.hears()
    assert phone.events._everywhere == {T.CALL_ENDED: [subscription]}
    assert subscription.tasks == {}


def test_every_type_has_a_payload_and_a_source() -> None:
    """Each event type has a payload type and an event of the call that it is published for."""
    assert set(PAYLOADS) == set(T)
    assert set(PUBLISHED.values()) == set(T)
    assert set(PUBLISHED) == set(get_args(PublishedEvent))
    assert {kind: PUBLISHED[kind] for kind in FREQUENT_EVENTS} == FREQUENT_EVENTS
    assert set(T) > LOSSY_TYPES
    assert isinstance(T.LLM_CHUNK, str)
    assert T.LLM_CHUNK == "llm_chunk"
