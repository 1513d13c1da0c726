"""The dispatcher of speech edges: one's own, and the phone's, which speaks for the call that it is used in."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, get_args

import attrs
import pytest
import trio
import trio.testing

import patter_trio
from patter_trio import ConfigurationError, ConversationStateSnapshot, EouTrigger, Patter, SpeechEvents
from patter_trio.abc import LanguageModel, Message, SpeechChunk, TextToSpeech, TextToSpeechSession
from patter_trio.events.edges import EDGES
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedTTS
from tests.kit.call import Backend, agent_of, edges, reported_events

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]

FIRE: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "user_speech_started": ("fire_user_speech_started", {}, {"vad_confidence": 0.9, "audio_offset_ms": 40}),
    "user_speech_ended": (
        "fire_user_speech_ended",
        {"speech_duration_ms": 800},
        {"vad_confidence": 0.9, "audio_offset_ms": 840},
    ),
    "user_speech_eos": (
        "fire_user_speech_eos",
        {"trigger": "manual_commit"},
        {"trailing_silence_ms": 500, "transcript_so_far": "Hello"},
    ),
    "agent_speech_started": ("fire_agent_speech_started", {}, {"tts_provider": "mine", "engine": "mine too"}),
    "agent_speech_ended": ("fire_agent_speech_ended", {"speech_duration_ms": 700}, {"interrupted": True}),
    "llm_token": ("fire_llm_first_token", {"llm_provider": "mine", "model": "m1"}, {}),
    "audio_out": ("fire_audio_out", {"tts_provider": "mine"}, {}),
}
"""What fires each edge: method, what it must be given, and what it may be."""
OF_A_TURN = ("agent_speech_started", "agent_speech_ended", "llm_token", "audio_out")
T0 = 1_700_000_000_000


def witness(events: Any) -> list[tuple[str, dict[str, Any]]]:
    """Have every callback of a dispatcher, or of a phone, record its payload."""
    seen: list[tuple[str, dict[str, Any]]] = []
    for name in EDGES:
        setattr(events, f"on_{name}", lambda event, name=name: seen.append((name, event)))
    return seen


# One's own ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", EDGES)
async def test_each_fire_has_exactly_its_payload(autojump_clock: trio.testing.MockClock, name: str) -> None:
    """Each fire method calls its callback with the given fields, the turn and the time, and nothing else."""
    events = SpeechEvents()
    seen = witness(events)
    method, required, optional = FIRE[name]
    turn = {"turn_idx": 0} if name in OF_A_TURN else {}
    defaults = {"interrupted": False} if name == "agent_speech_ended" else {}
    await getattr(events, method)(timestamp_ms=T0, **required)
    assert seen == [(name, {"timestamp_ms": T0, **turn, **required, **defaults})]
    other = SpeechEvents()
    seen = witness(other)
    await getattr(other, method)(timestamp_ms=T0, call_id="CA1", **required, **optional)
    assert seen == [(name, {"timestamp_ms": T0, "call_id": "CA1", **turn, **required, **optional})]


@pytest.mark.parametrize("name", EDGES)
async def test_fire_is_async_and_keyword_only(autojump_clock: trio.testing.MockClock, name: str) -> None:
    """Each fire method is async and takes only keywords."""
    method = getattr(SpeechEvents(), FIRE[name][0])
    assert inspect.iscoroutinefunction(method)
    kinds = {parameter.kind for parameter in inspect.signature(method).parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}


async def test_fired_edges_set_the_state_before_callbacks(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each fired edge sets the documented conversation state before its callback runs."""
    events, seen = SpeechEvents(), []
    assert events.conversation_state == {"user": "listening", "agent": "initializing"}
    events.mark_call_started()
    assert events.conversation_state == {"user": "listening", "agent": "idle"}
    for name in EDGES:
        setattr(events, f"on_{name}", lambda event, name=name: seen.append((name, *events.conversation_state.values())))
    turn = ["user_speech_started", "user_speech_ended", "user_speech_eos", "llm_token", "audio_out"]
    for name in [*turn, "agent_speech_started", "user_speech_started", "agent_speech_ended"]:
        method, required, _ = FIRE[name]
        await getattr(events, method)(**required)
    assert seen == [
        ("user_speech_started", "speaking", "idle"),
        ("user_speech_ended", "listening", "idle"),
        ("user_speech_eos", "listening", "thinking"),
        ("llm_token", "listening", "thinking"),
        ("audio_out", "listening", "thinking"),
        ("agent_speech_started", "listening", "speaking"),
        ("user_speech_started", "speaking", "speaking"),
        ("agent_speech_ended", "speaking", "idle"),
    ]
    snapshot = events.conversation_state
    snapshot["user"] = "spoiled"
    assert events.conversation_state["user"] == "speaking"


async def test_the_state_is_kept_without_any_callback(autojump_clock: trio.testing.MockClock) -> None:
    """The dispatcher keeps conversation state and turn count even if no callback is set."""
    events = SpeechEvents()
    await events.fire_user_speech_started()
    await events.fire_user_speech_eos(trigger="vad_silence")
    assert (events.conversation_state, events.turn_idx) == ({"user": "listening", "agent": "thinking"}, 1)


async def test_first_token_and_audio_fire_once_per_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """First token and first audio fire once per turn, and the eos arms them again."""
    events = SpeechEvents()
    seen = witness(events)
    for _ in range(3):
        for _ in range(2):
            await events.fire_llm_first_token(llm_provider="mine", model="m1")
            await events.fire_audio_out(tts_provider="mine")
        await events.fire_user_speech_eos(trigger="vad_silence")
    firsts = [(name, event["turn_idx"]) for name, event in seen if name != "user_speech_eos"]
    assert firsts == [(name, turn) for turn in range(3) for name in ("llm_token", "audio_out")]
    assert events.turn_idx == 3


async def test_unknown_eos_trigger_warns_and_still_fires(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An unknown eos trigger logs a warning, and the event still fires."""
    events = SpeechEvents()
    seen = witness(events)
    for trigger in get_args(EouTrigger):
        await events.fire_user_speech_eos(trigger=trigger)
    assert caplog.records == []
    await events.fire_user_speech_eos(trigger="a feeling")
    assert (events.turn_idx, seen[-1][1]["trigger"]) == (4, "a feeling")
    [record] = caplog.records
    assert (record.levelno, record.name) == (logging.WARNING, "patter_trio.events")
    assert "patter.event.user_speech_eos: unknown trigger 'a feeling'" in record.message


async def test_fire_returns_after_sync_and_async_callbacks(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A fire method returns only after its sync or async callback has finished."""
    events, seen = SpeechEvents(), []

    async def slowly(event: dict[str, Any]) -> None:
        await trio.sleep(2.0)
        seen.append("slowly")

    events.on_audio_out = slowly
    events.on_llm_token = lambda event: seen.append("at once")
    await events.fire_audio_out(tts_provider="mine")
    assert (seen, trio.current_time()) == (["slowly"], 2.0)
    await events.fire_llm_first_token(llm_provider="mine", model="m1")
    assert seen == ["slowly", "at once"]


async def test_fired_callback_error_is_logged_and_contained(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in a fired callback is logged with its span event and does not reach the caller of fire."""
    events = SpeechEvents()

    async def broken(event: dict[str, Any]) -> None:
        raise KeyError("customer")

    events.on_audio_out = broken
    await events.fire_audio_out(tts_provider="mine")
    [record] = caplog.records
    assert (record.levelno, record.name, record.exc_info is not None) == (logging.WARNING, "patter_trio.events", True)
    assert "patter.event.tts_first_audio" in record.message
    assert record.message.endswith("broken raised KeyError: 'customer'")


async def test_stamps_and_offsets_are_of_trios_clock(autojump_clock: trio.testing.MockClock) -> None:
    """Time stamps and audio offsets follow trio's clock, and an offset that is given takes precedence."""
    events = SpeechEvents()
    seen = witness(events)
    await events.fire_user_speech_started()
    assert "audio_offset_ms" not in seen[0][1]  # from where? nothing has begun
    events.mark_call_started()
    await trio.sleep(1.25)
    await events.fire_user_speech_ended(speech_duration_ms=1250)
    assert seen[1][1]["audio_offset_ms"] == 1250
    assert seen[1][1]["timestamp_ms"] - seen[0][1]["timestamp_ms"] == 1250
    await events.fire_user_speech_started(audio_offset_ms=77)
    assert seen[2][1]["audio_offset_ms"] == 77


def test_a_misspelled_callback_is_an_error() -> None:
    """Assigning to a callback that a dispatcher does not have raises an AttributeError."""
    with pytest.raises(AttributeError):
        SpeechEvents().on_llm_tokens = print  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        Patter().speech_events.on_llm_tokens = print  # type: ignore[attr-defined]


def test_under_asyncio_it_says_so_in_one_line() -> None:
    """A fire method under asyncio raises one line that says what to write for trio."""
    with pytest.raises(ConfigurationError, match=r"^patter_trio runs on trio, not asyncio: .*trio\.run"):
        asyncio.run(SpeechEvents().fire_audio_out(tts_provider="mine"))


def test_every_name_of_the_page_is_exported() -> None:
    """The package exports each name of the page, and the types have the documented values."""
    names = [
        "EventBus",
        "PatterEventType",
        "SpeechEvents",
        "SpeechEventCallback",
        "ConversationStateSnapshot",
        "UserState",
        "AgentState",
        "EouTrigger",
    ]
    assert set(names) <= set(patter_trio.__all__)
    assert get_args(patter_trio.UserState) == ("listening", "speaking", "thinking", "away")
    assert get_args(patter_trio.AgentState) == ("initializing", "idle", "listening", "thinking", "speaking")
    assert get_args(EouTrigger) == ("vad_silence", "semantic_turn_detector", "manual_commit")
    assert ConversationStateSnapshot(user="away", agent="idle") == {"user": "away", "agent": "idle"}


# The phone's ----------------------------------------------------------------------------------------------------------
@attrs.frozen
class FiringLLM(LanguageModel):
    """A model of one's own that knows of its first token before the pipeline does."""

    phone: Patter
    inner: LanguageModel = attrs.field(factory=lambda: ScriptedLLM(["Certainly."], first_token=0.4))
    provider: str = "pipeline"
    model: str = "pipeline"

    @asynccontextmanager
    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[AsyncIterator[str]]:
        async with self.inner.stream(messages) as pieces:
            await trio.sleep(0.1)
            for _ in range(2):
                await self.phone.speech_events.fire_llm_first_token(llm_provider="adapter", model="a1")
            yield pieces


@attrs.frozen
class FiringTTS(TextToSpeech):
    """A voice of one's own that knows of its first audio before the pipeline does."""

    phone: Patter
    inner: TextToSpeech = attrs.field(factory=ScriptedTTS)
    provider: str = "pipeline"
    model: str = "pipeline"

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[TextToSpeechSession]:
        async with self.inner.open(language=language) as session:
            yield _FiringVoice(self.phone, session)


class _FiringVoice(TextToSpeechSession):
    def __init__(self, phone: Patter, inner: TextToSpeechSession) -> None:
        self.phone, self.inner = phone, inner

    @asynccontextmanager
    async def speak(self, sentences: AsyncIterable[str]) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
        async with self.inner.speak(sentences) as chunks:
            await self.phone.speech_events.fire_audio_out(tts_provider="adapter")
            await self.phone.speech_events.fire_llm_first_token(llm_provider="too late", model="")
            yield chunks


async def test_adapter_fired_first_token_replaces_the_pipelines(
    call_simulator: CallSimulator,
    backend: Backend,
) -> None:
    """A first token that an adapter fires counts as the turn's, and the pipeline fires no second one."""
    phone = Patter()
    seen = witness(phone)
    async with call_simulator(backend.agent_of(llm=FiringLLM(phone)), phone=phone) as caller:
        for _ in range(2):
            await caller.speaks("Hello", seconds=0.5)
            await caller.hears()
        eos = caller.payloads("user_speech_eos")
    tokens = [event for name, event in seen if name == "llm_token"]
    assert tokens == caller.payloads("llm_token")
    assert tokens == [
        {
            "call_id": caller.carrier.call_id,
            "timestamp_ms": said["timestamp_ms"] + 100,
            "turn_idx": turn,
            "llm_provider": "adapter",
            "model": "a1",
        }
        for turn, said in enumerate(eos, 1)
    ]


async def test_fired_events_keep_their_place_in_order(call_simulator: CallSimulator, backend: Backend) -> None:
    """Fired events keep their order, and a first token that is fired after the audio is dropped."""
    phone = Patter()
    async with call_simulator(
        backend.agent_of("Yes.", first_message="Hello.", tts=FiringTTS(phone)), phone=phone
    ) as caller:
        await caller.hears()
        assert [event["tts_provider"] for event in caller.payloads("audio_out")] == ["adapter"]
        assert caller.times("llm_token") == []
    assert [name for _, name in edges(caller)][:4] == [
        "call_start",
        "audio_out",
        "agent_speech_started",
        "agent_speech_ended",
    ]


async def test_fired_user_edges_move_state_and_turn_count(call_simulator: CallSimulator, backend: Backend) -> None:
    """Fired user edges change the call's conversation state and advance its turn count."""
    phone = Patter()
    async with call_simulator(backend.agent_of("Yes."), phone=phone) as caller:
        await caller.at(1.0)
        fire, call_id = phone.speech_events, caller.carrier.call_id
        await fire.fire_user_speech_started(vad_confidence=0.7, call_id=call_id)
        await caller.waits(0.5)
        assert phone.conversation_state == {"user": "speaking", "agent": "idle"}
        await fire.fire_user_speech_ended(speech_duration_ms=500, call_id=call_id)
        await fire.fire_user_speech_eos(trigger="manual_commit", transcript_so_far="1", call_id=call_id)
        await caller.waits(0.1)
        assert phone.conversation_state == {"user": "listening", "agent": "idle"}
        assert phone.calls[0].turn_idx == 1
        await caller.speaks("And then?", seconds=0.5)
        await caller.hears()
        reported = [(name, payload) for _, name, payload in reported_events(caller)][1:4]
    zero = caller.payloads("user_speech_started")[0]["timestamp_ms"] - 1000
    assert reported == [
        (
            "user_speech_started",
            {"call_id": call_id, "timestamp_ms": zero + 1000, "audio_offset_ms": 1000, "vad_confidence": 0.7},
        ),
        (
            "user_speech_ended",
            {"call_id": call_id, "timestamp_ms": zero + 1500, "audio_offset_ms": 1500, "speech_duration_ms": 500},
        ),
        (
            "user_speech_eos",
            {
                "call_id": call_id,
                "timestamp_ms": zero + 1500,
                "trigger": "manual_commit",
                "transcript_so_far": "1",
            },
        ),
    ]
    assert [event["turn_idx"] for event in caller.payloads("agent_speech_started")] == [2]
    assert [event["turn_idx"] for event in caller.payloads("turn_started")] == [1, 2]


async def test_fired_eos_keeps_turn_of_live_reply(call_simulator: CallSimulator, backend: Backend) -> None:
    """An eos that an adapter fires during a reply changes the turn_idx of later replies, not of that one's events."""
    phone = Patter()
    agent = backend.agent_of("A long answer to the caller's question.", "Yes.", first_message="")
    async with call_simulator(agent, phone=phone) as caller:
        await caller.speaks("Hello?", seconds=0.5)
        while not caller.times("agent_speech_started"):
            await caller.waits(0.1)
        await phone.speech_events.fire_user_speech_eos(trigger="manual_commit", call_id=caller.carrier.call_id)
        assert (await caller.hears()).text == "A long answer to the caller's question."
        await caller.speaks("And then?", seconds=0.5)
        assert (await caller.hears()).text == "Yes."
    names = ("llm_token", "audio_out", "agent_speech_started", "agent_speech_ended")
    assert [[event["turn_idx"] for event in caller.payloads(name)] for name in names] == [[1, 3]] * 4
    assert {event["turn_idx"] for event in caller.payloads("llm_chunk")} == {1, 3}


@pytest.mark.parametrize("trigger", ["manual_commit", "vad_silence", "semantic_turn_detector"])
async def test_fired_eos_leaves_the_agents_state(call_simulator: CallSimulator, backend: Backend, trigger: str) -> None:
    """After a fired eos the agent stays idle until the call itself answers the caller, who hears that answer."""
    phone, seen = Patter(), []
    phone.on_user_speech_eos = lambda event: seen.append(phone.conversation_state["agent"])
    async with call_simulator(backend.agent_of("Yes.", first_message="Good evening."), phone=phone) as caller:
        greeting = await caller.hears()
        await caller.waits(0.5)
        await phone.speech_events.fire_user_speech_eos(trigger=trigger, call_id=caller.carrier.call_id)
        await caller.waits(10.0)
        assert phone.conversation_state == {"user": "listening", "agent": "idle"}
        await caller.speaks("And then?", seconds=0.5)
        reply = await caller.hears()
    assert (greeting.text, reply.text) == ("Good evening.", "Yes.")
    assert seen == ["idle", "thinking"]


@pytest.mark.pipeline("on_message answers")
async def test_fire_targets_the_current_or_named_call(
    call_simulator: CallSimulator,
) -> None:
    """The fire methods and turn_idx refer to the current task's call, or to the call that is named."""
    phone, turns = Patter(), {}

    async def on_message(event: dict[str, Any]) -> str:
        turns[event["text"]] = phone.speech_events.turn_idx
        await phone.speech_events.fire_llm_first_token(llm_provider=event["text"], model="m")
        return "Yes."

    agent = agent_of(llm=None)
    async with (
        call_simulator(agent, phone=phone, on_message=on_message) as one,
        call_simulator(agent, phone=phone, on_message=on_message) as two,
    ):
        await one.speaks("a", seconds=0.5)
        await one.hears()
        await two.speaks("b", seconds=0.5, wait=False)
        await one.speaks("c", seconds=0.5)
        await one.hears()
        assert phone.speech_events.turn_idx == 0  # outside of any call
        await phone.speech_events.fire_audio_out(tts_provider="named", call_id=two.carrier.call_id)
        await one.waits(0.1)
    assert turns == {"a": 1, "b": 1, "c": 2}
    assert [event["llm_provider"] for event in one.payloads("llm_token")] == ["a", "c"]
    assert [event["llm_provider"] for event in two.payloads("llm_token")] == ["b"]
    assert len(two.payloads("audio_out")) == 1  # the pipeline had reported it


@pytest.mark.pipeline("on_message answers")
async def test_conversation_state_belongs_to_the_current_call(
    call_simulator: CallSimulator,
) -> None:
    """The conversation state is that of the current task's call, and in a callback that of its event."""
    phone, seen = Patter(), {}

    async def see(event: dict[str, Any]) -> None:
        await trio.sleep(0.05)
        seen["user_speech_started"] = phone.speech_events.conversation_state
        seen["in between"] = phone.conversation_state

    async def on_message(event: dict[str, Any]) -> str:
        seen["message"] = phone.speech_events.conversation_state
        return "Yes."

    phone.on_user_speech_started = see
    async with call_simulator(agent_of(llm=None), phone=phone, on_message=on_message) as caller:
        await caller.speaks("a", seconds=0.5)
        await caller.hears()
        assert phone.speech_events.conversation_state == {"user": "listening", "agent": "initializing"}  # of no call
    assert seen["user_speech_started"] == seen["in between"] == {"user": "speaking", "agent": "idle"}
    assert seen["message"] == {"user": "listening", "agent": "thinking"}


async def test_fire_in_a_call_waits_for_no_callback(call_simulator: CallSimulator, backend: Backend) -> None:
    """A fire method in a call does not wait for the callback: a slow or broken one changes no instant."""

    async def once(callback: Any) -> list[Any]:
        phone = Patter()
        phone.on_llm_token = callback
        async with call_simulator(backend.agent_of(llm=FiringLLM(phone)), phone=phone) as caller:
            await caller.speaks("Hello", seconds=0.5)
            await caller.hears()
        return [edges(caller), [(round(arrival.at, 6), len(arrival.audio)) for arrival in caller.carrier.arrivals]]

    async def slow(event: dict[str, Any]) -> None:
        await trio.sleep(10.0)

    async def broken(event: dict[str, Any]) -> None:
        raise ValueError("x")

    quick = await once(None)
    assert await once(slow) == quick
    assert await once(broken) == quick


async def test_dispatcher_outside_calls_uses_phone_callbacks(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Outside a call the phone's dispatcher works on its own and uses the phone's callbacks."""
    phone = Patter()
    seen = witness(phone)
    await phone.speech_events.fire_user_speech_eos(trigger="manual_commit")
    assert [name for name, _ in seen] == ["user_speech_eos"]
    assert phone.conversation_state == {"user": "listening", "agent": "thinking"}
    assert phone.speech_events.turn_idx == 1


def test_its_callbacks_are_the_phones() -> None:
    """The callbacks of a phone and those of its dispatcher are the same."""
    phone = Patter()
    for name in EDGES:
        assert getattr(phone.speech_events, f"on_{name}") is None
        setattr(phone.speech_events, f"on_{name}", print)
        assert getattr(phone, f"on_{name}") is print
        setattr(phone, f"on_{name}", None)
        assert getattr(phone.speech_events, f"on_{name}") is None


async def test_firing_for_a_dead_call_only_warns(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Firing for a call that is not live logs a warning and calls no callback."""
    phone = Patter()
    seen = witness(phone)
    await phone.speech_events.fire_audio_out(tts_provider="mine", call_id="CA9")
    assert seen == []
    assert "call CA9: patter.event.tts_first_audio was fired, but the call is not live" in caplog.text


async def test_firing_after_call_end_is_harmless(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """Firing from on_call_end has no effect and logs nothing."""
    phone, done = Patter(), []

    async def on_call_end(event: dict[str, Any]) -> None:
        await phone.speech_events.fire_audio_out(tts_provider="mine")
        done.append(event["outcome"])

    async with call_simulator(backend.agent_of(), phone=phone, on_call_end=on_call_end) as caller:
        await caller.waits(0.5)
    assert done == ["caller_hung_up"]
    assert caplog.records == []


def test_conversation_state_is_read_only() -> None:
    """Assigning to the conversation state of a phone or a dispatcher raises an AttributeError."""
    for holder in (Patter(), SpeechEvents()):
        with pytest.raises(AttributeError):
            holder.conversation_state = {}  # type: ignore[misc,assignment]
