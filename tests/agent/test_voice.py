"""``voice=``: another voice of the agent's TTS, for all calls or for one."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from patter_trio import Agent, ConfigurationError, ElevenLabsTTS, Patter
from patter_trio.testing import ScriptedLLM, ScriptedSTT, ScriptedTTS, ScriptedVAD, SimulatedCaller
from patter_trio.testing.servers.elevenlabs import serve_elevenlabs

Simulate = Callable[..., AbstractAsyncContextManager[SimulatedCaller]]


def make(tts: Any, **options: Any) -> Agent:
    return Patter().agent("x", vad=ScriptedVAD(), stt=ScriptedSTT(), llm=ScriptedLLM(["Yes."]), tts=tts, **options)


def test_voice_is_given_to_the_resolved_tts() -> None:
    """The agent keeps the TTS that it was given, and its resolved copy has that TTS with the voice."""
    tts = ElevenLabsTTS(api_key="key", voice="one", speed=1.1)
    agent = make(tts, voice="two")
    assert agent.tts is tts
    assert agent.voice == "two"
    assert agent.resolved.tts == ElevenLabsTTS(api_key="key", voice="two", speed=1.1)
    assert agent.resolved is agent.resolved
    plain = make(tts)
    assert plain.resolved is plain
    assert plain.tts is tts


def test_a_tts_with_one_voice_says_so() -> None:
    """A voice that is blank, or meant for a TTS with only one voice, raises a ConfigurationError."""
    with pytest.raises(ConfigurationError, match="ScriptedTTS has only one voice, got 'two'"):
        make(ScriptedTTS(), voice="two")
    with pytest.raises(ConfigurationError, match="voice= must be a string that is not empty"):
        make(ElevenLabsTTS(api_key="key"), voice=" ")


def test_voice_and_tts_overrides_apply_as_given() -> None:
    """An override of the voice or the TTS applies as given, and a TTS with only one voice causes a complaint."""
    agent = make(ElevenLabsTTS(api_key="key", voice="one"), voice="two")
    changed, complaints = agent.overridden({"voice": "three"})
    assert changed.tts == ElevenLabsTTS(api_key="key", voice="three")
    other = ElevenLabsTTS(api_key="key", voice="four")
    assert agent.overridden({"tts": other})[0].tts is other
    assert agent.overridden({"tts": other, "voice": "five"})[0].tts == ElevenLabsTTS(api_key="key", voice="five")
    assert agent.overridden({"tts": ScriptedTTS()})[0].tts == ScriptedTTS()
    assert not complaints
    same, complaints = make(ScriptedTTS()).overridden({"voice": "six"})
    assert same.voice == ""
    assert "ScriptedTTS has only one voice" in complaints[0]


async def test_on_call_start_selects_voice_for_its_call(call_simulator: Simulate) -> None:
    """The on_call_start callback can choose the voice of its call."""
    async with serve_elevenlabs() as vendor:
        agent = make(ElevenLabsTTS(api_key="key", base_url=vendor.url), first_message="Hello.")
        async with call_simulator(agent, on_call_start=lambda event: {"voice": "of this call"}) as caller:
            assert (await caller.hears()).text == "Hello."
        async with call_simulator(agent) as caller:
            assert (await caller.hears()).text == "Hello."
    voices = [target.split("/")[3] for target in vendor.targets]
    assert voices == ["of%20this%20call", "JBFqnCBsd6RMkjVDRZzb"]
