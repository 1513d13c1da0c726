"""Whole calls against the real server: what a user of the kit writes, and what it says when something is wrong."""

import pytest

from patter_trio import Patter
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD

phone = Patter()


async def test_stop_means_stop(call_simulator):
    agent = phone.agent(
        system_prompt="...",
        vad=ScriptedVAD(start_delay=0.05, end_delay=0.5),
        stt=ScriptedSTT(final_delay=0.2),
        llm=ScriptedLLM(["Our opening hours are ..."], first_token=0.1, duration=0.3),
        tts=ScriptedTTS(first_audio=0.2, duration=10.0),
    )
    async with call_simulator(agent) as caller:
        await caller.at(0.5)
        await caller.speaks("What are your hours?", seconds=2.0)
        await caller.at(5.0)
        await caller.speaks("Stop!", seconds=1.0)
        first = await caller.heard(0)
        print(caller.timeline())
        assert first.interrupted and first.text.startswith("Our opening")
        assert caller.times("agent_speech_ended")[0] == pytest.approx(5.25, abs=0.02)
