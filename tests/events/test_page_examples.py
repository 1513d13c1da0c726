"""The examples of the events page, as a program has them: all seven edges, the bus, the two ways to a barge-in."""

from typing import Any

import pytest

from patter_trio import EventBus, Patter, PatterEventType
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedSTT, ScriptedTTS
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.call import Backend, agent_of

pytestmark = [pytest.mark.both_backends, pytest.mark.all_carriers]


async def talked_over(caller: SimulatedCaller) -> None:
    """A question, the answer to which is cut, and another answer."""
    await caller.at(1.0)
    await caller.speaks("What are your hours?", seconds=1.5)
    await caller.at(6.0)
    await caller.speaks("Stop it", seconds=1.0)
    await caller.heard(1)


async def test_the_full_example_with_all_seven_callbacks(call_simulator: CallSimulator, backend: Backend) -> None:
    """The page's example of seven callbacks prints the lines of two turns, the first one cut after 2650 ms."""
    lines: list[str] = []
    phone = Patter()

    async def on_user_speech_started(ev: dict[str, Any]) -> None:
        lines.append(f"[vad+] state={phone.conversation_state}")

    async def on_user_speech_ended(ev: dict[str, Any]) -> None:
        lines.append(f"[vad-] dur={ev['speech_duration_ms']}ms")

    async def on_user_speech_eos(ev: dict[str, Any]) -> None:
        lines.append(f"[eos] trigger={ev['trigger']} silence={ev.get('trailing_silence_ms')}ms")
        on_user_speech_eos.last_eos_ms = ev["timestamp_ms"]  # type: ignore[attr-defined]

    on_user_speech_eos.last_eos_ms = 0  # type: ignore[attr-defined]

    async def on_llm_token(ev: dict[str, Any]) -> None:
        ttft = ev["timestamp_ms"] - on_user_speech_eos.last_eos_ms  # type: ignore[attr-defined]
        lines.append(f"[ttft] {ttft}ms model={ev['model']} provider={ev['llm_provider']}")

    async def on_audio_out(ev: dict[str, Any]) -> None:
        lines.append(f"[tts ] turn={ev['turn_idx']} provider={ev['tts_provider']}")

    async def on_agent_speech_started(ev: dict[str, Any]) -> None:
        lines.append(f"[wire] turn={ev['turn_idx']} engine={ev.get('engine')}")

    async def on_agent_speech_ended(ev: dict[str, Any]) -> None:
        if ev["interrupted"]:
            lines.append(f"[barge] turn={ev['turn_idx']} cut at {ev['speech_duration_ms']}ms")
        else:
            lines.append(f"[done] turn={ev['turn_idx']} spoke {ev['speech_duration_ms']}ms")

    phone.on_user_speech_started = on_user_speech_started
    phone.on_user_speech_ended = on_user_speech_ended
    phone.on_user_speech_eos = on_user_speech_eos
    phone.on_llm_token = on_llm_token
    phone.on_audio_out = on_audio_out
    phone.on_agent_speech_started = on_agent_speech_started
    phone.on_agent_speech_ended = on_agent_speech_ended
    agent = backend.agent_of("From nine to five, every day of the week.", "Fine.", tts=ScriptedTTS(duration=6.0))
    async with call_simulator(agent, phone=phone) as caller:
        await talked_over(caller)
    engine = None if backend.is_pipeline else "scripted"
    assert lines == [
        "[vad+] state={'user': 'speaking', 'agent': 'idle'}",
        "[vad-] dur=1500ms",
        "[eos] trigger=vad_silence silence=500ms",
        "[ttft] 100ms model=scripted provider=scripted",
        "[tts ] turn=1 provider=scripted",
        f"[wire] turn=1 engine={engine}",
        "[vad+] state={'user': 'speaking', 'agent': 'speaking'}",
        "[barge] turn=1 cut at 2650ms",
        "[vad-] dur=1000ms",
        "[eos] trigger=vad_silence silence=500ms",
        "[ttft] 100ms model=scripted provider=scripted",
        "[tts ] turn=2 provider=scripted",
        f"[wire] turn=2 engine={engine}",
        "[done] turn=2 spoke 6000ms",
    ]


async def test_the_two_ways_to_detect_a_barge_in(call_simulator: CallSimulator, backend: Backend) -> None:
    """Both ways on the page detect the barge-in: speech cut after 2650 ms, 190 ms after the voice was noticed."""
    phone, barge_ins, latencies = Patter(), [], []
    last_user_start_ms: list[int] = []

    async def on_user_speech_started(ev: dict[str, Any]) -> None:
        last_user_start_ms[:] = [ev["timestamp_ms"]]

    async def on_agent_speech_ended(ev: dict[str, Any]) -> None:
        if ev["interrupted"]:
            barge_ins.append((ev["turn_idx"], ev["speech_duration_ms"]))
            latencies.append(ev["timestamp_ms"] - last_user_start_ms[0])

    phone.on_user_speech_started = on_user_speech_started
    phone.on_agent_speech_ended = on_agent_speech_ended
    agent = backend.agent_of("From nine to five, every day of the week.", "Fine.", tts=ScriptedTTS(duration=6.0))
    async with call_simulator(agent, phone=phone) as caller:
        await talked_over(caller)
    assert barge_ins == [(1, 2650)]
    assert latencies == [190]  # 250 ms after the voice began, which was noticed 60 ms after that
    assert latencies[0] < 250


@pytest.mark.pipeline("about the STT")
async def test_the_event_bus_example(call_simulator: CallSimulator) -> None:
    """The page's bus example receives partial transcripts and all chunks of the LLM."""
    phone, partials, chunks = Patter(), [], []
    assert isinstance(phone.events, EventBus)
    phone.events.on(PatterEventType.TRANSCRIPT_PARTIAL, lambda ev: partials.append(f"partial: {ev['text']}"))
    phone.events.on(PatterEventType.LLM_CHUNK, lambda ev: chunks.append((ev["call_id"], ev["text"])))
    async with call_simulator(agent_of("At nine.", stt=ScriptedSTT(interim_every=0.5)), phone=phone) as caller:
        await caller.speaks("What are your hours?", seconds=1.5)
        await caller.hears()
    assert partials[0] == "partial: What"
    assert {call_id for call_id, _ in chunks} == {caller.carrier.call_id}
    assert "".join(text for _, text in chunks) == "At nine."
