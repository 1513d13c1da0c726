"""Calls made up at random: whatever is said and goes wrong in them, what holds in every call holds."""

import random
from typing import Any

import pytest
import trio

from patter_trio import Agent, Patter, end_call, tool
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedEngine, ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD, tool_call
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.call import reported_events
from tests.kit.depth import few

pytestmark = [pytest.mark.no_coverage, pytest.mark.all_carriers]

REPLIES = (
    "Yes.",
    "A longer answer, in two parts. Here is the second! And more.",
    "One two three four five six. Seven.",
)


def llm_for(chance: random.Random) -> ScriptedLLM:
    return ScriptedLLM(
        chance.choices(REPLIES, k=3),
        chance.choice([0, 0.1, 0.5]),
        chance.choice([0, 0.3, 1]),
        fail_after=chance.choice([None] * 8 + [0, 2]),
        hang_after=chance.choice([None] * 9 + [1]),
    )


def voice_for(chance: random.Random) -> ScriptedTTS:
    return ScriptedTTS(
        chance.choice([0, 0.2, 0.5]),
        chance.choice([None, 3.0, 10.0]),
        timings=chance.random() < 0.5,
        speed=chance.choice([1.5, 20, 1000]),
        mute=chance.random() < 0.05,
        fail_after=chance.choice([None] * 8 + [0, 1.0]),
        hang_after=chance.choice([None] * 9 + [0.5]),
    )


def pipeline_for(chance: random.Random) -> Agent:
    return Patter().agent(
        "x",
        vad=ScriptedVAD(chance.choice([0, 0.05, 0.1]), chance.choice([0.2, 0.5, 0.8])),
        stt=ScriptedSTT(
            chance.choice([0, 0.2, 0.7, 1.5]),
            chance.choice([None, 0.3]),
            noise=chance.choice(["", None, "uh"]),
            duplicates=chance.choice([0, 0, 1]),
            silent=chance.random() < 0.05,
            fail_at=chance.choice([None] * 9 + [5.0]),
        ),
        llm=llm_for(chance),
        tts=voice_for(chance),
        first_message=chance.choice(["", "Good evening, how may I help?"]),
        barge_in_threshold_ms=chance.choice([250, 250, 0, 600]),
        barge_in_min_words=chance.choice([0, 0, 0, 2]),
    )


@tool
async def look_up(name: str) -> str:
    """Look up a guest."""
    await trio.sleep(len(name) / 4)
    return "room 12"


def engine_for(chance: random.Random) -> Agent:
    llm = llm_for(chance)
    calls: list[Any] = [["Let me see.", tool_call("look_up", name="Miller")], [tool_call("end_call")]]
    tools = chance.random() < 0.3
    if tools:
        llm = ScriptedLLM(chance.choices([*REPLIES, *calls], k=4), chance.choice([0, 0.5]), chance.choice([0, 0.3]))
    return Patter().agent(
        "x",
        vad=ScriptedVAD(chance.choice([0, 0.05, 0.1]), chance.choice([0.2, 0.5, 0.8])),
        engine=ScriptedEngine(
            llm=llm,
            tts=voice_for(chance),
            words_delay=chance.choice([0, 0.2, 1.0, 4.0]),
            interim=chance.random() < 0.5,
            silent=chance.random() < 0.1,
            turn_delay=chance.choice([None, None, 0.3]),
            ends_turns=chance.choice(["", "vad_silence", "semantic_turn_detector"]),
            fail_at=chance.choice([None] * 9 + [5.0]),
            fail_to_open=chance.random() < 0.05,
        ),
        tts=chance.choice([None, None, ScriptedTTS()]),
        tools=[look_up, end_call] if tools else [],
        first_message=chance.choice(["", "Good evening, how may I help?"]),
        barge_in_threshold_ms=chance.choice([250, 250, 0, 600]),
    )


async def act(caller: SimulatedCaller, chance: random.Random) -> None:
    match chance.choice(["speaks", "speaks", "speaks", "waits", "coughs", "hums", "presses", "stalls"]):
        case "speaks":
            text = chance.choice(["Hello", "What are your hours please", "Stop"])
            await caller.speaks(text, chance.choice([0.4, 1, 2.5]), wait=chance.random() < 0.8)
        case "waits":
            await caller.waits(chance.choice([0.1, 0.5, 1.3, 4]))
        case "coughs":
            await caller.coughs(chance.choice([0.1, 0.4]))
        case "hums":
            await caller.hums("mhm", 0.4)
        case "presses":
            await caller.presses("1")
        case _:
            caller.carrier.stall(chance.choice([0.1, 0.3]))


@pytest.mark.parametrize("seed", few(range(40), 10))
async def test_random_pipeline_call_keeps_invariants(call_simulator: CallSimulator, seed: int) -> None:
    """A random call with a pipeline keeps all invariants of a call."""
    chance = random.Random(seed)  # noqa: S311 (a test's)
    await holds(call_simulator, pipeline_for(chance), chance)


@pytest.mark.parametrize("seed", few(range(30), 10))
async def test_random_engine_call_keeps_invariants(call_simulator: CallSimulator, seed: int) -> None:
    """A random call with an engine keeps all invariants of a call."""
    chance = random.Random(f"engine {seed}")  # noqa: S311 (a test's)
    await holds(call_simulator, engine_for(chance), chance)


async def holds(call_simulator: CallSimulator, agent: Agent, chance: random.Random) -> None:
    async with call_simulator(agent) as caller:
        if chance.random() < 0.3:
            caller.carrier.up_delay, caller.carrier.down_delay = chance.choice([0.05, 0.2]), chance.choice([0.05, 0.2])
        caller.carrier.echo_marks = chance.random() < 0.9
        for _ in range(chance.randint(1, 8)):
            if caller.carrier.ended is None:
                await act(caller, chance)
        if chance.random() < 0.1:
            caller.carrier.drop()
    # Some carriers report the cost of a call behind its end.
    names = [name for _, name, _ in caller.events if name != "cost_reported"]
    assert not names or names[-1] == "call_ended"
    reported = [event for event in caller.events if event[1] in ("user_speech_eos", "turn_started", "turn_ended")]
    started = [payload["turn_idx"] for _, name, payload in reported if name == "turn_started"]
    ended = [payload["turn_idx"] for _, name, payload in reported if name == "turn_ended"]
    assert started == ended == sorted(set(started))
    assert [turn for turn in started if turn] == list(range(1, len(caller.times("user_speech_eos")) + 1))
    assert not reported_events(caller) or reported_events(caller)[-1][1] == "call_end"
