"""The embedded STT and TTS are what ``patter_trio/abc/`` demands."""

from collections.abc import Callable

import pytest
from trio.testing import MockClock

from patter_trio import PiperTTS, WhisperSTT
from patter_trio.audio import g711
from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import Samples
from patter_trio.testing import Speech, check_stt, check_tts
from patter_trio.testing.conformance.stt import CHECKS as OF_STT
from patter_trio.testing.conformance.tts import CHECKS as OF_TTS
from tests.kit.depth import chosen

LOCAL_STT, LOCAL_TTS = (
    [check.name for check in checks if not check.needs_vendor and not check.needs_credentials]
    for checks in (OF_STT, OF_TTS)
)

SMOKE = {"works again", "can be left in the middle", "gives transcripts", "emits telephone speech"}
"""The checks that run by default: the models are slow."""


@pytest.mark.parametrize("check", chosen(LOCAL_STT, SMOKE))
async def test_whisper_conforms(autojump_clock: MockClock, recording: Callable[[str], Samples], check: str) -> None:
    """The embedded STT passes each check for STTs, with recorded speech."""
    said = [recording(name) for name in ("cards_1", "cards_2")]
    speech = [Speech(g711.encode(samples), RATE_HZ, len(samples) - RATE_HZ) for samples in said]
    await check_stt(WhisperSTT, check, speech=speech, points=8)


@pytest.mark.parametrize("check", chosen(LOCAL_TTS, SMOKE))
async def test_piper_conforms(autojump_clock: MockClock, check: str) -> None:
    """The embedded TTS passes each check for TTSs that needs no vendor."""
    await check_tts(PiperTTS, check, texts=(["Good morning.", "We are open."], ["There is no room left."]), points=15)
