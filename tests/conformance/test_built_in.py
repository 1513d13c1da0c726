"""The providers that come with the package are what ``patter_trio/abc/`` demands."""

from typing import Any

import pytest
from trio.testing import MockClock

from patter_trio.abc import Message
from patter_trio.audio import g711
from patter_trio.audio.formats import PCM16_8K, AudioFormat, Encoding
from patter_trio.testing import (
    ENGINE_CHECKS,
    LLM_CHECKS,
    STT_CHECKS,
    TTS_CHECKS,
    ScriptedEngine,
    ScriptedLLM,
    ScriptedSTT,
    ScriptedTTS,
    Speech,
    check_engine,
    check_llm,
    check_stt,
    check_tts,
)
from patter_trio.testing.conformance.engine import CHECKS as OF_ENGINE
from patter_trio.testing.conformance.llm import CHECKS as OF_LLM
from patter_trio.testing.conformance.stt import CHECKS as OF_STT
from patter_trio.testing.conformance.tts import CHECKS as OF_TTS
from patter_trio.testing.scripted_providers import band_limited
from tests.kit.depth import chosen, few

LOCAL_STT, LOCAL_LLM, LOCAL_TTS, LOCAL_ENGINE = (
    [check.name for check in checks if not check.needs_vendor and not check.needs_credentials]
    for checks in (OF_STT, OF_LLM, OF_TTS, OF_ENGINE)
)

# Opens hundreds of sessions: in the quick run only those of the scripted LLM.
SLOW_CHECK = "leaves nothing behind"


def fast(checks: list[str]) -> list[Any]:
    """Return the checks as parameters, the slow one of them for deep runs."""
    return chosen(checks, [check for check in checks if check != SLOW_CHECK])


OTHER_RATES = [AudioFormat(Encoding.PCM16, 24_000), AudioFormat(Encoding.MULAW, 44_100)]
BAND_LIMITED = [
    Speech(g711.encode(band_limited.encode(text, 30, utterance=1))) for text in ("One room, please", "Two of them")
]


def test_most_checks_need_no_vendor() -> None:
    """More than half of the kit's checks of each kind need no vendor."""
    assert len(LOCAL_STT) * 2 > len(STT_CHECKS)
    assert len(LOCAL_LLM) * 2 > len(LLM_CHECKS)
    assert len(LOCAL_TTS) * 2 > len(TTS_CHECKS)
    assert len(LOCAL_ENGINE) * 2 > len(ENGINE_CHECKS)


@pytest.mark.parametrize("check", fast(LOCAL_STT))
async def test_scripted_stt_conforms(autojump_clock: MockClock, check: str) -> None:
    """The scripted STT passes each check for STTs that needs no vendor."""
    await check_stt(ScriptedSTT, check)
    await check_stt(lambda: ScriptedSTT(interim_every=0.1, accepts=PCM16_8K), check)


@pytest.mark.parametrize("made", few(OTHER_RATES, 1), ids=str)
@pytest.mark.parametrize("check", fast(LOCAL_STT))
async def test_scripted_stt_passes_at_any_rate(autojump_clock: MockClock, check: str, made: AudioFormat) -> None:
    """The scripted STT passes each check for STTs at other rates than 8 kHz."""
    await check_stt(lambda: ScriptedSTT(accepts=made), check, speech=BAND_LIMITED)


@pytest.mark.parametrize("check", LOCAL_LLM)
async def test_scripted_llm_conforms(autojump_clock: MockClock, check: str) -> None:
    """The scripted LLM with fixed answers passes each check for LLMs that needs no vendor."""
    await check_llm(lambda: ScriptedLLM(["Yes, there is one.", "It has a bath."]), check)


def answered(messages: list[Message]) -> str:
    return f"That was message {len(messages)}."


@pytest.mark.parametrize("check", LOCAL_LLM)
@pytest.mark.deep
async def test_scripted_llm_of_a_function_conforms(autojump_clock: MockClock, check: str) -> None:
    """The scripted LLM whose answers a function makes passes each check for LLMs that needs no vendor."""
    await check_llm(lambda: ScriptedLLM(answered), check)


@pytest.mark.parametrize("check", fast(LOCAL_TTS))
async def test_scripted_tts_conforms(autojump_clock: MockClock, check: str) -> None:
    """The scripted TTS passes each check for TTSs that needs no vendor, with word timings and without."""
    await check_tts(ScriptedTTS, check)
    await check_tts(lambda: ScriptedTTS(duration=3.0, timings=False, emits=PCM16_8K), check)


@pytest.mark.parametrize("made", few(OTHER_RATES, 1), ids=str)
@pytest.mark.parametrize("check", fast(LOCAL_TTS))
async def test_scripted_tts_passes_at_any_rate(autojump_clock: MockClock, check: str, made: AudioFormat) -> None:
    """The scripted TTS passes each check for TTSs at other rates than 8 kHz."""
    await check_tts(lambda: ScriptedTTS(emits=made), check)


@pytest.mark.parametrize("made", few(OTHER_RATES, 1), ids=str)
@pytest.mark.parametrize("check", fast(LOCAL_ENGINE))
async def test_scripted_engine_passes_at_any_rate(autojump_clock: MockClock, check: str, made: AudioFormat) -> None:
    """The scripted engine passes each check for engines at other rates than 8 kHz."""
    engine = ScriptedEngine(tts=ScriptedTTS(emits=made), accepts=made)
    await check_engine(lambda: engine, check, speech=BAND_LIMITED)


@pytest.mark.parametrize("check", fast(LOCAL_ENGINE))
async def test_scripted_engine_conforms(autojump_clock: MockClock, check: str) -> None:
    """The scripted engine passes each check for engines that needs no vendor, with and without turn detection."""
    await check_engine(ScriptedEngine, check)
    await check_engine(
        lambda: ScriptedEngine(
            llm=ScriptedLLM(answered), tts=ScriptedTTS(duration=3.0), words_delay=0.4, interim=True, turn_delay=0.2
        ),
        check,
    )
