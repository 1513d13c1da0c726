"""What is promised of the speech edges beyond a plain turn: one test for each promise."""

from typing import Any

import pytest
import trio

from patter_trio import Patter
from patter_trio.events.edges import EDGES
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from tests.kit.call import SORRY, Backend, agent_of, edges, never_returns, raises, reported_events, sleeps
from tests.kit.depth import few

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]


@pytest.mark.pipeline("on_message answers")
async def test_reply_with_gaps_has_one_started_and_ended(call_simulator: CallSimulator) -> None:
    """A reply with long gaps fires agent_speech_started, agent_speech_ended, llm_token and audio_out once each."""

    async def on_message(event: dict[str, Any]) -> Any:
        for sentence in ("Let me see. ", "Still looking for it. ", "Here it is."):
            yield sentence
            await trio.sleep(4.0)

    async with call_simulator(agent_of(llm=None), on_message=on_message) as caller:
        await caller.speaks("Where is it?", seconds=0.5)
        heard = await caller.hears()
    assert heard.text == "Let me see. Still looking for it. Here it is."
    assert len(caller.times("agent_speech_started")) == len(caller.times("agent_speech_ended")) == 1
    assert len(caller.times("llm_token")) == len(caller.times("audio_out")) == 1


@pytest.mark.pipeline("on_message answers")
async def test_failed_turn_fires_first_token_and_audio_once(
    call_simulator: CallSimulator,
) -> None:
    """A turn that fails and gets an apology fires llm_token and audio_out exactly once."""

    async def on_message(event: dict[str, Any]) -> Any:
        yield "One moment, I am looking. Here"
        await trio.sleep(1.5)
        raise ValueError("no such customer")

    async with call_simulator(agent_of(llm=None), on_message=on_message) as caller:
        await caller.speaks("Go on", seconds=0.5)
        await caller.hears()
        assert (await caller.hears()).text == SORRY
    assert [event["turn_idx"] for event in caller.payloads("llm_token")] == [1]
    assert [event["turn_idx"] for event in caller.payloads("audio_out")] == [1]


@pytest.mark.pipeline("on_message answers")
async def test_on_message_reply_names_function_in_llm_token(call_simulator: CallSimulator) -> None:
    """The llm_token event of an on_message reply carries the provider on_message and the function's name."""

    async def look_it_up(event: dict[str, Any]) -> str:
        return "Here it is."

    async with call_simulator(agent_of(llm=None), on_message=look_it_up) as caller:
        await caller.speaks("Where is it?", seconds=0.5)
        await caller.hears()
    [token] = caller.payloads("llm_token")
    assert (token["llm_provider"], token["model"]) == ("on_message", "look_it_up")


async def test_a_fixed_greeting_has_audio_out_only(call_simulator: CallSimulator, backend: Backend) -> None:
    """A greeting fires audio_out and the two agent edges, and no llm_token."""
    async with call_simulator(backend.agent_of(first_message="Hello.")) as caller:
        await caller.hears()
    names = [name for _, name, _ in reported_events(caller) if name in EDGES]
    assert names == ["audio_out", "agent_speech_started", "agent_speech_ended"]


async def test_say_keeps_turn_and_fires_its_own_pair(call_simulator: CallSimulator, backend: Backend) -> None:
    """A say() after the answer keeps the turn index and fires its own agent_speech_started and _ended."""
    phone = Patter()
    async with call_simulator(backend.agent_of("Yes."), phone=phone) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
        phone.calls[0].say("One more thing.")
        await caller.hears()
    assert [event["turn_idx"] for event in caller.payloads("agent_speech_started")] == [1, 1]
    assert [event["turn_idx"] for event in caller.payloads("agent_speech_ended")] == [1, 1]
    assert len(caller.payloads("audio_out")) == 1  # of the turn's first reply


@pytest.mark.pipeline("on_message answers")
async def test_silent_reply_fires_no_agent_event(call_simulator: CallSimulator) -> None:
    """A reply without sound returns the agent to idle and fires no agent event."""
    async with call_simulator(agent_of(llm=None), on_message=lambda event: None) as caller:
        await caller.speaks("Hello", seconds=0.5)
        await caller.waits(2.0)
        assert caller.state["agent"] == "idle"
    assert [name for _, name in edges(caller) if name in EDGES] == [
        "user_speech_started",
        "user_speech_ended",
        "user_speech_eos",
    ]


@pytest.mark.pipeline("only an STT tells a cough from words")
async def test_noise_fires_voice_edges_without_eos(call_simulator: CallSimulator) -> None:
    """Noise without words fires user_speech_started and user_speech_ended, and no user_speech_eos."""
    async with call_simulator(agent_of()) as caller:
        await caller.coughs(0.4)
        await caller.waits(5.0)
    assert [name for _, name in edges(caller) if name in EDGES] == ["user_speech_started", "user_speech_ended"]
    assert caller.dialogue == []


@pytest.mark.parametrize(("final_delay", "eos_after"), [(0.2, 0.5), (0.5, 0.5), (1.0, 1.0), (1.9, 1.9)])
async def test_eos_follows_silence_or_late_words(
    call_simulator: CallSimulator, final_delay: float, eos_after: float, backend: Backend
) -> None:
    """The eos comes half a second after the last voice, or when the STT delivers late words."""
    if backend.is_engine:
        eos_after = 0.5  # which waits for no words
    async with call_simulator(backend.agent_of("Yes.", stt=ScriptedSTT(final_delay=final_delay))) as caller:
        await caller.speaks("Hello there", seconds=1.0)
        await caller.hears()
        [eos] = caller.times("user_speech_eos")
        [ended] = caller.times("user_speech_ended")
        assert eos == pytest.approx(1.0 + eos_after, abs=0.021)
        assert ended <= eos
        assert caller.payloads("user_speech_eos")[0]["trailing_silence_ms"] == pytest.approx(eos_after * 1000, abs=21)


async def test_eos_never_comes_before_user_speech_ended(call_simulator: CallSimulator, backend: Backend) -> None:
    """The eos follows user_speech_ended even if the words arrive 1.5 s before the VAD ends the voice."""
    agent = backend.agent_of(
        "Yes.", vad=ScriptedVAD(end_delay=1.5), stt=ScriptedSTT(final_delay=0.0), endpointing_ms=100
    )
    async with call_simulator(agent) as caller:
        await caller.speaks("Hello there", seconds=1.0)
        await caller.hears()
    names = [name for _, name in edges(caller)]
    assert names.index("user_speech_ended") < names.index("user_speech_eos")


async def test_short_utterances_in_quick_succession_are_kept(call_simulator: CallSimulator, backend: Backend) -> None:
    """Short answers such as yes and no are utterances, and one within half a second of another is kept."""
    llm = ScriptedLLM(["Noted."], first_token=1.0)
    async with call_simulator(backend.agent_of(llm=llm)) as caller:
        for word in ("Yes.", "No."):
            await caller.speaks(word, seconds=0.3)
            await caller.hears()
        await caller.speaks("Yes.", seconds=0.3)
        await caller.waits(0.6)
        await caller.speaks("No.", seconds=0.3)  # within 0.5 s of the end of the utterance before
        await caller.hears()
    assert [text for role, text in caller.dialogue if role == "user"] == ["Yes.", "No.", "Yes. No."]
    known = ["Yes.", "No.", "Yes.", "Yes. No."] if backend.is_pipeline else [None] * 4
    assert [event.get("transcript_so_far") for event in caller.payloads("user_speech_eos")] == known


async def test_the_message_is_in_the_request_once(call_simulator: CallSimulator, backend: Backend) -> None:
    """The caller's message is in the request to the LLM exactly once."""
    llm = ScriptedLLM(["Yes."])
    async with call_simulator(backend.agent_of(llm=llm)) as caller:
        await caller.speaks("Hello there", seconds=0.5)
        await caller.hears()
    assert [message["content"] for message in llm.requests[0]].count("Hello there") == 1


def spoils(event: dict[str, Any]) -> str:
    for entry in event.get("history", ()):
        entry["text"] = "spoiled"
    event.clear()
    return "not what was asked for"


@pytest.mark.parametrize("callback", few([raises, sleeps, never_returns, spoils], 2))
@pytest.mark.costly
async def test_callbacks_never_shift_call_audio(call_simulator: CallSimulator, callback: Any, backend: Backend) -> None:
    """No speech callback, however slow or broken, shifts the call's audio, its events or its transcript."""

    async def once(callback: Any) -> list[Any]:
        phone, kept = Patter(), {}
        for name in EDGES:
            setattr(phone, f"on_{name}", callback)
        if callback is not None:
            kept = {"on_transcript": callback, "on_dtmf": callback}
        # Keys for on_dtmf alone, with or without it.
        agent = backend.agent_of(
            "From nine to five, every day of the week.", "Fine.", first_message="Hello.", dtmf=False
        )
        async with call_simulator(agent, phone=phone, **kept) as caller:
            await caller.hears()
            await caller.speaks("Your hours?", seconds=1.0)
            await caller.presses("1")
            await caller.waits(2.0)
            await caller.speaks("Stop it", seconds=1.0)
            await caller.hears()
        sent = [(round(arrival.at, 6), len(arrival.audio), arrival.mark) for arrival in caller.carrier.arrivals]
        return [edges(caller), sent, caller.dialogue]

    assert await once(callback) == await once(None)


async def test_barge_in_edges_follow_documented_order(call_simulator: CallSimulator, backend: Backend) -> None:
    """The edges of a barge-in come in the documented order, each with its conversation state."""
    phone, seen = Patter(), []
    for name in EDGES:
        setattr(
            phone,
            f"on_{name}",
            lambda event, name=name: seen.append((name, event.get("interrupted"), *phone.conversation_state.values())),
        )
    agent = backend.agent_of("A long answer that goes on and on.", "Yes.", tts=ScriptedTTS(duration=6.0))
    async with call_simulator(agent, phone=phone) as caller:
        await caller.speaks("Tell me", seconds=0.5)
        await caller.at(3.0)
        await caller.speaks("Stop it", seconds=1.0)
        await caller.waits(0.55)
    begun = [name for name, *_ in seen].index("agent_speech_started")
    assert seen[begun : begun + 5] == [
        ("agent_speech_started", None, "listening", "speaking"),
        ("user_speech_started", None, "speaking", "speaking"),
        ("agent_speech_ended", True, "speaking", "idle"),
        ("user_speech_ended", None, "listening", "idle"),
        ("user_speech_eos", None, "listening", "thinking"),
    ]


async def test_the_state_is_kept_without_any_callback(call_simulator: CallSimulator, backend: Backend) -> None:
    """The conversation state follows the call even if no callback is set."""
    phone = Patter()
    async with call_simulator(backend.agent_of("Yes."), phone=phone) as caller:
        states = [tuple(phone.conversation_state.values())]
        await caller.speaks("Hello", seconds=0.5, wait=False)
        for at in (0.1, 1.05, 1.7, 2.5):
            await caller.at(at)
            states.append(tuple(phone.conversation_state.values()))
    assert states == [
        ("listening", "initializing"),
        ("speaking", "idle"),
        ("listening", "thinking"),
        ("listening", "speaking"),
        ("listening", "idle"),
    ]


async def test_the_pipeline_never_says_that_the_agent_listens(call_simulator: CallSimulator, backend: Backend) -> None:
    """The agent's state is never listening in a call, neither between turns nor while the caller is away."""
    async with call_simulator(backend.agent_of("Yes.", first_message="Hello.", user_away_timeout=2.0)) as caller:
        await caller.hears()
        await caller.speaks("Hello", seconds=0.5)
        await caller.hears()
        await caller.waits(4.0)
        assert caller.state == {"user": "away", "agent": "idle"}
    assert "listening" not in {event.state["agent"] for event in caller._log.events if event.state}


async def test_audio_out_precedes_speech_started_for_held_reply(
    call_simulator: CallSimulator,
    backend: Backend,
) -> None:
    """A voice that holds the reply back delays agent_speech_started by over 0.3 s and not audio_out."""
    agent = backend.agent_of(
        "Two rooms.", tts=ScriptedTTS(first_audio=0.0), llm=ScriptedLLM(["Two rooms."], first_token=0.1)
    )
    async with call_simulator(agent) as caller:
        await caller.speaks("A room", seconds=0.5)
        await caller.at(1.05)
        await caller.coughs(0.4)
        await caller.hears()
        made, wire = caller.times("audio_out")[0], caller.times("agent_speech_started")[0]
        assert wire - made > 0.3
        assert caller.utterances[0].started == pytest.approx(wire)
