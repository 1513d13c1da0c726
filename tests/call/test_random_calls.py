"""Calls made up at random: whatever is said and goes wrong in them, what holds in every call holds."""

import random

import pytest
from call_kit import told_events

from patter_trio import Agent, Patter
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD
from patter_trio.testing.caller import SimulatedCaller

REPLIES = (
    "Yes.",
    "A longer answer, in two parts. Here is the second! And more.",
    "One two three four five six. Seven.",
)


def agent_for(chance: random.Random) -> Agent:
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
        llm=ScriptedLLM(
            chance.choices(REPLIES, k=3),
            chance.choice([0, 0.1, 0.5]),
            chance.choice([0, 0.3, 1]),
            fail_after=chance.choice([None] * 8 + [0, 2]),
            hang_after=chance.choice([None] * 9 + [1]),
        ),
        tts=ScriptedTTS(
            chance.choice([0, 0.2, 0.5]),
            chance.choice([None, 3.0, 10.0]),
            timings=chance.random() < 0.5,
            speed=chance.choice([1.5, 20, 1000]),
            mute=chance.random() < 0.05,
            fail_after=chance.choice([None] * 8 + [0, 1.0]),
            hang_after=chance.choice([None] * 9 + [0.5]),
        ),
        first_message=chance.choice(["", "Good evening, how may I help?"]),
        barge_in_threshold_ms=chance.choice([250, 250, 0, 600]),
        barge_in_min_words=chance.choice([0, 0, 0, 2]),
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


@pytest.mark.parametrize("seed", range(40))
async def test_what_holds_in_every_call_holds_in_this_one(call_simulator: CallSimulator, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 (a test's)
    async with call_simulator(agent_for(chance)) as caller:
        if chance.random() < 0.3:
            caller.carrier.up_delay, caller.carrier.down_delay = chance.choice([0.05, 0.2]), chance.choice([0.05, 0.2])
        caller.carrier.echo_marks = chance.random() < 0.9
        for _ in range(chance.randint(1, 8)):
            await act(caller, chance)
        if chance.random() < 0.1:
            caller.carrier.drop()
    assert not caller.events or caller.events[-1][1] == "call_ended"
    told = [event for event in caller.events if event[1] in ("user_speech_eos", "turn_started", "turn_ended")]
    started = [payload["turn_idx"] for _, name, payload in told if name == "turn_started"]
    ended = [payload["turn_idx"] for _, name, payload in told if name == "turn_ended"]
    assert started == ended == sorted(set(started))
    assert [turn for turn in started if turn] == list(range(1, len(caller.times("user_speech_eos")) + 1))
    assert not told_events(caller) or told_events(caller)[-1][1] == "call_end"
