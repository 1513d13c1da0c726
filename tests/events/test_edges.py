"""The seven edges: what each carries and when it comes, in a turn, in one that is cut, and around them."""

import logging
import time
from functools import partial
from typing import Any

import pytest
import trio

from patter_trio import Patter
from patter_trio.events.payloads import EDGES
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS
from patter_trio.testing.simulation.caller import SimulatedCaller
from patter_trio.testing.simulation.simulator import EPOCH_UNIX_S
from patter_trio.user_code import invoke
from patter_trio.user_code.invoke import in_thread
from tests.kit.call import Backend, agent_of, edges, reported_events

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]

STATES = {
    "user_speech_started": ("speaking", "idle"),
    "user_speech_ended": ("listening", "idle"),
    "user_speech_eos": ("listening", "thinking"),
    "llm_token": ("listening", "thinking"),
    "audio_out": ("listening", "thinking"),
    "agent_speech_started": ("listening", "speaking"),
    "agent_speech_ended": ("listening", "idle"),
}


def stamps(caller: SimulatedCaller) -> dict[str, int]:
    """The instants, in ms of call time, that the first payload of each edge names."""
    zero = round((EPOCH_UNIX_S + caller.carrier.media_start) * 1000)
    return {name: caller.payloads(name)[0]["timestamp_ms"] - zero for name in EDGES if caller.payloads(name)}


def listen(phone: Patter, hear: Any) -> None:
    for name in EDGES:
        setattr(phone, f"on_{name}", partial(hear, name))


async def test_turn_edges_have_exact_keys_and_times(call_simulator: CallSimulator, backend: Backend) -> None:
    """Each edge of a turn has exactly the documented keys and comes at the exact instant."""
    async with call_simulator(backend.agent_of("One moment please.")) as caller:
        await caller.at(1.0)
        await caller.speaks("Is a table free?", seconds=1.0)
        await caller.hears()
        call_id = caller.carrier.call_id
        payloads = {name: caller.payloads(name) for name in EDGES}
    assert stamps(caller) == {
        "user_speech_started": 1060,
        "user_speech_ended": 2500,
        "user_speech_eos": 2500,
        "llm_token": 2600,
        "audio_out": 3100,
        "agent_speech_started": 3100,
        "agent_speech_ended": 4180,
    }
    for reported in payloads.values():
        assert len(reported) == 1
        assert (reported[0].pop("call_id"), type(reported[0].pop("timestamp_ms"))) == (call_id, int)
    words = {"transcript_so_far": "Is a table free?"} if backend.is_pipeline else {}  # an engine's come later
    speaker = {"tts_provider" if backend.is_pipeline else "engine": "scripted"}
    assert payloads == {
        "user_speech_started": [{"audio_offset_ms": 1000, "vad_confidence": 1.0}],
        "user_speech_ended": [{"audio_offset_ms": 2000, "speech_duration_ms": 1000, "vad_confidence": 1.0}],
        "user_speech_eos": [{"trigger": "vad_silence", "trailing_silence_ms": 500, **words}],
        "llm_token": [{"turn_idx": 1, "llm_provider": "scripted", "model": "scripted"}],
        "audio_out": [{"turn_idx": 1, "tts_provider": "scripted"}],
        "agent_speech_started": [{"turn_idx": 1, **speaker}],
        "agent_speech_ended": [{"turn_idx": 1, "speech_duration_ms": 1080, "interrupted": False}],
    }


async def test_barge_in_turn_fires_each_edge_in_time(call_simulator: CallSimulator, backend: Backend) -> None:
    """A turn with a barge-in fires each edge at its instant and reports the cut speech and its duration."""
    agent = backend.agent_of("Our opening hours are long.", "All right.", tts=ScriptedTTS(duration=6.0))
    async with call_simulator(agent) as caller:
        await caller.speaks("Your hours?", seconds=1.0)
        await caller.at(4.0)
        await caller.speaks("Stop it", seconds=1.0)
        await caller.heard(1)
    after = [event for event in edges(caller) if 2000 < event[0] < 8000]
    assert after == [
        (2100, "audio_out"), (2100, "agent_speech_started"),
        (4060, "user_speech_started"),
        (4250, "agent_speech_ended"), (4250, "transcript"),  # 250 ms after the voice began
        (5500, "user_speech_ended"), (5500, "user_speech_eos"), (5500, "transcript"),
        (5600, "llm_token"), (6100, "audio_out"), (6100, "agent_speech_started"),
    ]  # fmt: skip
    cut = caller.payloads("agent_speech_ended")[0]
    assert (cut["interrupted"], cut["turn_idx"], cut["speech_duration_ms"]) == (True, 1, 2150)
    assert [payload["turn_idx"] for payload in caller.payloads("audio_out")] == [1, 2]


async def test_callback_sees_the_documented_state(call_simulator: CallSimulator, backend: Backend) -> None:
    """Each callback sees the documented conversation state of its event, even after the call has moved on."""
    phone, seen = Patter(), {}

    async def hear(name: str, event: dict[str, Any]) -> None:
        await trio.sleep(1.5)  # long after the call has gone on
        seen.setdefault(name, tuple(phone.conversation_state.values()))

    listen(phone, hear)
    assert phone.conversation_state == {"user": "listening", "agent": "initializing"}
    async with call_simulator(backend.agent_of("One moment please."), phone=phone) as caller:
        await caller.waits(0.1)
        assert phone.conversation_state == {"user": "listening", "agent": "idle"}
        await caller.speaks("Is a table free?", seconds=1.0)
        await caller.hears()
        await caller.waits(20.0)
    assert seen == STATES
    assert phone.conversation_state == {"user": "listening", "agent": "initializing"}


async def test_state_changes_before_its_event_fires(call_simulator: CallSimulator, backend: Backend) -> None:
    """The live conversation state changes before the event of that change reaches a callback."""
    phone, seen = Patter(), {}
    listen(phone, lambda name, event: seen.setdefault(name, tuple(phone.calls[0].conversation_state.values())))
    async with call_simulator(backend.agent_of("One moment please."), phone=phone) as caller:
        await caller.speaks("Is a table free?", seconds=1.0)
        await caller.hears()
    # Callbacks of one instant run after all of it has happened: the live state may be further, never behind.
    assert seen == STATES | {"user_speech_ended": ("listening", "thinking")}


async def test_turns_count_from_first_utterance_greeting_is_zero(
    call_simulator: CallSimulator, backend: Backend
) -> None:
    """Turns count from the caller's first utterance, and the greeting is turn 0."""
    async with call_simulator(
        backend.agent_of("One.", "Two.", first_message="Hello, {who}!", variables={"who": "you"})
    ) as caller:
        greeting = await caller.hears()
        for _ in range(2):
            await caller.speaks("Go on", seconds=0.5)
            await caller.hears()
    assert greeting.text == "Hello, you!"
    assert greeting.started == pytest.approx(0.2)
    names = [(event["turn_idx"], name) for _, name, event in reported_events(caller) if "turn_idx" in event]
    assert names == [
        (0, "audio_out"), (0, "agent_speech_started"), (0, "agent_speech_ended"),
        (1, "llm_token"), (1, "audio_out"), (1, "agent_speech_started"), (1, "agent_speech_ended"),
        (2, "llm_token"), (2, "audio_out"), (2, "agent_speech_started"), (2, "agent_speech_ended"),
    ]  # fmt: skip


async def test_callbacks_can_change_during_a_call(
    call_simulator: CallSimulator,
    backend: Backend,
) -> None:
    """An application can set, replace and remove a callback during a call."""
    phone, heard = Patter(), []
    async with call_simulator(backend.agent_of("One."), phone=phone) as caller:
        for hear in (lambda event: heard.append(1), None, lambda event: heard.append(3)):
            phone.on_user_speech_eos = hear
            await caller.speaks("Go on", seconds=0.5)
            await caller.hears()
    assert heard == [1, 3]


async def test_sleeping_callback_delays_neither_audio_nor_call_end(
    call_simulator: CallSimulator, backend: Backend
) -> None:
    """A callback that sleeps delays neither the audio nor the end of the call."""

    async def once(slow: bool) -> tuple[list[Any], list[float]]:
        phone, called = Patter(), []

        async def hear(name: str, event: dict[str, Any]) -> None:
            called.append(trio.current_time())
            if slow:
                await trio.sleep(10)

        listen(phone, hear)
        async with call_simulator(backend.agent_of("One.", "Two."), phone=phone) as caller:
            for _ in range(2):
                await caller.speaks("Go on", seconds=0.5)
                await caller.hears()
        sent = [(round(arrival.at, 6), len(arrival.audio), arrival.mark) for arrival in caller.carrier.arrivals]
        return [edges(caller), sent], [round(at - caller.carrier.media_start, 6) for at in called]

    quick, _ = await once(slow=False)
    slow, called = await once(slow=True)
    assert slow == quick
    # One at a time; the second began in time and was cancelled 2 s after the call, the others' time was over by then.
    assert called == [0.06]


async def test_raising_edge_callback_is_logged_by_name(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, backend: Backend
) -> None:
    """A raising edge callback is logged as a warning with its name, and the call continues."""
    phone = Patter()

    def broken(event: dict[str, Any]) -> None:
        raise KeyError("customer")

    phone.on_llm_token = broken
    async with call_simulator(backend.agent_of("One."), phone=phone) as caller:
        await caller.speaks("Go on", seconds=0.5)
        assert (await caller.hears()).text == "One."
    [record] = [record for record in caplog.records if record.name == "patter_trio.events"]
    assert (record.levelno, record.exc_info is not None) == (logging.WARNING, True)
    assert record.message.endswith("broken raised KeyError: 'customer'")
    assert "patter.event.llm_first_token" in record.message


async def test_blocking_edge_callback_is_reported_with_its_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An edge callback that blocks the event loop for 60 ms is logged with its name and time.

    The test runs on the real clock.
    """

    def writes_to_a_slow_disk(event: object) -> str:
        time.sleep(0.06)
        return "written"

    assert await invoke.call(writes_to_a_slow_disk, {}) == "written"
    [record] = caplog.records
    assert "writes_to_a_slow_disk blocked every call for " in record.message
    assert 60 <= int(record.message.partition(" for ")[2].partition(" ms")[0]) < 5000
    assert "wrap it: in_thread(writes_to_a_slow_disk)" in record.message


async def test_threaded_edge_callback_receives_its_event(call_simulator: CallSimulator, backend: Backend) -> None:
    """A speech callback wrapped by in_thread receives its event while the call continues."""
    phone, seen = Patter(), []
    phone.on_user_speech_eos = in_thread(lambda event: seen.append(event.get("transcript_so_far")))
    async with call_simulator(backend.agent_of("One."), phone=phone) as caller:
        await caller.speaks("Go on", seconds=0.5)
        await caller.hears()
    assert seen == ["Go on" if backend.is_pipeline else None]


async def test_early_second_words_fire_eos_but_one_message(call_simulator: CallSimulator, backend: Backend) -> None:
    """More words before the agent is heard fire a new eos, and the LLM gets one joined user message."""
    llm = ScriptedLLM(["Two rooms, certainly."], first_token=0.8)
    async with call_simulator(backend.agent_of(llm=llm)) as caller:
        await caller.speaks("A room", seconds=0.5)
        await caller.at(1.2)
        await caller.speaks("or rather two", seconds=0.6)
        await caller.hears()
    known = ["A room", "A room or rather two"] if backend.is_pipeline else [None, None]
    assert [p.get("transcript_so_far") for p in caller.payloads("user_speech_eos")] == known
    assert [p["turn_idx"] for p in caller.payloads("agent_speech_started")] == [2]
    assert llm.requests[-1][1:] == [{"role": "user", "content": "A room or rather two"}]
    assert caller.dialogue == [("user", "A room or rather two"), ("assistant", "Two rooms, certainly.")]


@pytest.mark.pipeline("about the STT")
async def test_late_final_words_amend_message_without_eos(call_simulator: CallSimulator) -> None:
    """A second final after the commit amends the message and fires no second eos."""
    llm = ScriptedLLM(["Good."], first_token=0.8)
    stt = ScriptedSTT(final_delay=0.4, interim_every=0.3)
    async with call_simulator(agent_of(llm=llm, stt=stt, endpointing_ms=0)) as caller:
        await caller.speaks("A room for two nights", seconds=1.0)
        await caller.hears()
    assert caller.dialogue[0] == ("user", "A room for two nights")
    assert llm.requests[-1][-1]["content"] == "A room for two nights"
    assert len(caller.times("user_speech_eos")) == 1


async def test_silent_caller_becomes_away(call_simulator: CallSimulator, backend: Backend) -> None:
    """The caller's state becomes away after user_away_timeout without speech and ends with the next speech."""
    async with call_simulator(backend.agent_of("Yes.", user_away_timeout=3.0)) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
        ended = caller.times("agent_speech_ended")[0]
        await caller.at(ended + 2.9)
        assert caller.state == {"user": "listening", "agent": "idle"}
        await caller.at(ended + 3.1)
        assert caller.state == {"user": "away", "agent": "idle"}
        await caller.speaks("Back again", seconds=0.5)
        assert caller.state["user"] == "speaking"
        await caller.hears()


async def test_keys_are_reported_as_they_are_pressed(call_simulator: CallSimulator, backend: Backend) -> None:
    """on_dtmf gets one event for each key, in the order of pressing."""
    pressed: list[Any] = []
    async with call_simulator(backend.agent_of(), on_dtmf=pressed.append) as caller:
        await caller.presses("1#")
        await caller.waits(0.1)
        assert pressed == [{"call_id": caller.carrier.call_id, "digit": digit} for digit in "1#"]


async def test_interim_results_reach_no_transcript_callback(call_simulator: CallSimulator, backend: Backend) -> None:
    """An interim result is an event of its own, not an on_transcript."""
    said: list[Any] = []
    agent = backend.agent_of("Yes.", stt=ScriptedSTT(interim_every=0.4))
    async with call_simulator(agent, on_transcript=said.append) as caller:
        await caller.speaks("One two three four", seconds=1.2)
        await caller.hears()
    assert [payload["text"] for payload in caller.payloads("transcript_partial")]
    assert [entry["text"] for entry in said] == ["One two three four", "Yes."]
    assert [len(entry["history"]) for entry in said] == [1, 2]
    assert set(said[0]) == {"call_id", "role", "text", "history"}
    assert set(said[0]["history"][0]) == {"role", "text", "timestamp"}
