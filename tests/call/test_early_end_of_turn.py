"""A vendor that ends the turn before the VAD is sure of the end of the voice: positions and latencies are true."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from patter_trio import OpenAIRealtime, Patter
from patter_trio.abc import SpeechToText, SpeechToTextSession, Transcript
from patter_trio.pytest_plugin import CallSimulator
from patter_trio.testing import ScriptedVAD
from patter_trio.testing.servers.openai_realtime import FakeRealtime, RealtimeReply, serve_openai_realtime
from patter_trio.testing.simulation.caller import SimulatedCaller
from tests.kit.call import agent_of

pytestmark = pytest.mark.all_carriers


def assert_true_positions(caller: SimulatedCaller, end_ms: int, decided_ms: int) -> None:
    """The caller's voice lasted from 0 to ``end_ms``, and the vendor decided at ``decided_ms``."""
    voice, eos = caller.payloads("user_speech_ended")[0], caller.payloads("user_speech_eos")[0]
    assert (voice["audio_offset_ms"], voice["speech_duration_ms"]) == (end_ms, end_ms)
    assert eos["trailing_silence_ms"] == pytest.approx(decided_ms - end_ms, abs=20)
    assert caller.metrics is not None
    latency = caller.metrics.turns[-1].latency
    assert latency.endpoint_ms == pytest.approx(decided_ms - end_ms, abs=20)
    assert latency.user_speech_duration_ms == end_ms
    assert latency.total_ms == pytest.approx(caller.times("agent_speech_started")[0] * 1000 - end_ms, abs=1)


async def test_engine_ends_turn_before_the_vad(call_simulator: CallSimulator) -> None:
    """With semantic_vad, which decides 0.3 s after the voice, the voice ends where it ended and not at the decision."""
    async with serve_openai_realtime(FakeRealtime(replies=[RealtimeReply(text="From seven to ten.")])) as server:
        engine = OpenAIRealtime(api_key="key", base_url=server.url, turn_detection="semantic_vad")
        async with call_simulator(Patter().agent("x", vad=ScriptedVAD(), engine=engine)) as caller:
            await caller.speaks("When is breakfast?", seconds=1.2)
            await caller.hears()
            await caller.waits(0.5)
    assert_true_positions(caller, 1200, 1500)


class _Session(SpeechToTextSession):
    async def send(self, audio: bytes) -> None:
        await trio.lowlevel.checkpoint()

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()

    async def transcripts(self) -> AsyncIterator[Transcript]:
        await trio.sleep(1.0)
        yield Transcript("When is breakfast", final=False, segment=1)
        await trio.sleep(0.5)
        yield Transcript("When is breakfast?", final=True, segment=1, finished=True)
        await trio.sleep_forever()


@attrs.frozen
class _EndsTurns(SpeechToText):
    """An STT that ends the turn 1.5 s after the beginning of the call."""

    provider: str = "ends turns"

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[SpeechToTextSession]:
        yield _Session()


async def test_stt_ends_turn_before_the_vad(call_simulator: CallSimulator) -> None:
    """With an STT that decides 0.3 s after the voice, the voice ends where it ended and not at the decision."""
    async with call_simulator(agent_of("From seven to ten.", stt=_EndsTurns())) as caller:
        await caller.speaks("", seconds=1.2)
        await caller.hears()
        await caller.waits(0.5)
    assert_true_positions(caller, 1200, 1500)
    assert len(caller.times("user_speech_eos")) == 1


async def test_turn_ended_in_mid_voice_ends_it_then(call_simulator: CallSimulator) -> None:
    """A turn that the STT ends while the caller speaks on ends the voice at that moment."""
    async with call_simulator(agent_of("From seven to ten.", stt=_EndsTurns())) as caller:
        await caller.speaks("", seconds=2.2)
        await caller.waits(3.0)
    [first, *_] = caller.payloads("user_speech_ended")
    assert first["audio_offset_ms"] == pytest.approx(1500, abs=20)
