"""Random calls with hooks that take their time: no word is lost, doubled, or reported before the hook saw it."""

import random
from typing import Any

import attrs
import pytest
import trio

from patter_trio import Agent, PipelineHooks
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedSTT
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.call.test_random_calls import act, pipeline_for
from tests.kit.depth import few

pytestmark = [pytest.mark.no_coverage, pytest.mark.all_carriers]


def marked(text: str) -> str:
    return f"<{text}>"


async def held(call_simulator: CallSimulator, agent: Agent, chance: random.Random, **callbacks: Any) -> SimulatedCaller:
    async with call_simulator(agent, **callbacks) as caller:
        for _ in range(chance.randint(1, 8)):
            await act(caller, chance)
        if chance.random() < 0.2:
            caller.carrier.drop()
    return caller


@pytest.mark.parametrize("seed", few(range(40), 10))
async def test_hook_delay_keeps_each_turn_once_in_transcript(
    call_simulator: CallSimulator, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    """Each turn stands in the transcript once, however long the hook takes."""
    chance = random.Random(seed)  # noqa: S311 (a test's)
    delays = random.Random(seed)  # noqa: S311 (a test's)

    async def slowly(text: str) -> str:
        await trio.sleep(delays.choice([0, 0.1, 0.5, 1.0, 2.5, 10.0]))
        return marked(text)

    stt = ScriptedSTT(chance.choice([0, 0.2, 0.7]))
    agent = attrs.evolve(pipeline_for(chance), stt=stt, hooks=PipelineHooks(after_transcribe=slowly))
    ends: list[Any] = []
    caller = await held(call_simulator, agent, chance, on_call_end=ends.append)
    entries = [entry["text"] for end in ends for entry in end["transcript"] if entry["role"] == "user"]
    said = [entry.strip("<>") for entry in entries]
    decided = [payload["transcript_so_far"] for payload in caller.payloads("user_speech_eos")]
    assert len(said) <= len(decided) + 1  # one more where the call ended before a decision
    place = 0
    for text, later in zip(decided, [*decided[1:], ""], strict=False):
        if later.startswith(f"{text} "):
            continue  # the caller went on before the agent was heard: one message
        found = [index for index in range(place, len(said)) if said[index].startswith(text)]
        assert found, f"{text!r} of {decided} is not in {said} from {place} on"
        place = found[0] + 1
    as_they_are = [entry for entry in entries if not entry.startswith("<")]
    assert len(as_they_are) <= sum("the original passes" in record.message for record in caplog.records)
    reported = [payload["text"].strip("<>") for payload in caller.payloads("transcript") if payload["role"] == "user"]
    assert all(any(entry.startswith(text) for text in reported) for entry in said)  # late words amend earlier ones
