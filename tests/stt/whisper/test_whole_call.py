"""A recorded person calls: the real turn detector and the real STT in a whole call, over the carrier's bytes."""

from pathlib import Path
from typing import Any

import pytest

from patter_trio import Patter
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.stt.whisper import WhisperSTT
from patter_trio.testing import ScriptedTTS
from patter_trio.vad.silero import SileroVAD
from tests.stt.whisper.test_whisper import words, wrong

AUDIO = Path(__file__).parents[2] / "audio"
SAID = "he was not an ill disposed young man"


async def test_recorded_caller_is_understood_and_interrupts(call_simulator: CallSimulator) -> None:
    """The agent understands a recorded person, answers, and lets that person barge in."""
    asked: list[str] = []

    async def on_message(event: dict[str, Any]) -> str:
        asked.append(event["text"])
        return "Is that so? I had always heard that he was the very opposite of it, and worse than that."

    agent = Patter().agent("x", vad=SileroVAD(), stt=WhisperSTT(), tts=ScriptedTTS())
    async with call_simulator(agent, on_message=on_message) as caller:
        await caller.at(1.0)
        said = await caller.plays(AUDIO / "ill_disposed.wav")
        assert said is not None
        while not caller.times("agent_speech_started"):
            await caller.waits(0.1)
        await caller.waits(1.0)
        over = await caller.plays(AUDIO / "cards_1.wav")
        assert over is not None
        reply = await caller.heard(0)
    [heard, *_] = asked
    assert wrong(words(SAID), words(heard)) == 0
    assert caller.dialogue[0] == ("user", heard)
    eos = caller.payloads("user_speech_eos")[0]
    assert (eos["transcript_so_far"], eos["trigger"]) == (heard, "vad_silence")
    begun, ended = caller.payloads("user_speech_started")[0], caller.payloads("user_speech_ended")[0]
    # There is silence at both ends of the recording: the voice is within it.
    assert said.started * 1000 <= begun["audio_offset_ms"] < ended["audio_offset_ms"] <= said.ended * 1000
    assert ended["speech_duration_ms"] == pytest.approx(ended["audio_offset_ms"] - begun["audio_offset_ms"], abs=1)
    assert 0 < begun["vad_confidence"] <= 1
    # The second recording cut the reply 250 ms after its voice began, or as soon as the detector was sure of it.
    assert reply.interrupted
    onset = caller.payloads("user_speech_started")[1]["audio_offset_ms"] / 1000
    assert reply.ended == pytest.approx(max(onset + 0.25, caller.times("user_speech_started")[1]), abs=0.02)
