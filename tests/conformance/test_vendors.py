"""The vendors' providers are what ``patter_trio/abc/`` demands, each against the fake of its vendor.

The fakes are well; the proxy in front of them is not.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from trio.testing import MockClock

from patter_trio import DeepgramSTT, ElevenLabsTTS, OpenAILLM, OpenAIRealtime
from patter_trio.testing import (
    ENGINE_CHECKS,
    LLM_CHECKS,
    STT_CHECKS,
    TTS_CHECKS,
    Credentials,
    check_engine,
    check_llm,
    check_stt,
    check_tts,
    disturbed,
)
from patter_trio.testing.faults.proxy import text_frame
from patter_trio.testing.servers.deepgram import FakeDeepgram, serve_deepgram
from patter_trio.testing.servers.elevenlabs import FakeElevenLabs, serve_elevenlabs
from patter_trio.testing.servers.openai import ChatReply, serve_openai
from patter_trio.testing.servers.openai_realtime import FakeRealtime, RealtimeReply, serve_openai_realtime
from tests.kit.depth import chosen

SMOKE = {
    "works again",
    "can be cancelled anywhere",
    "401 is an AuthenticationError",
    "reports a lost connection",
    "survives garbage",
}
"""The checks that run by default."""
KEY = "made-up-key"


def openai(points: int) -> Callable[..., Awaitable[None]]:

    def reply(request: object) -> object:
        count = len(request.body["messages"])  # type: ignore[attr-defined]
        text = f"To these {count} messages there is a lot to say, and it takes a while."
        return ChatReply(text, first_token=0.05, duration=0.3)

    event = b'data: {"id": "x", "object": "news", "news": 1, "choices": []}\n\n'
    vendor = partial(
        disturbed,
        partial(serve_openai, reply),
        lambda server: server.base_url,
        unknown=b"%x\r\n%b\r\n" % (len(event), event),
    )
    return partial(
        check_llm,
        lambda address: OpenAILLM(api_key=KEY, model="made-up", base_url=address),
        vendor=vendor,
        credentials=Credentials(OpenAILLM, "api_key", "OPENAI_API_KEY", KEY),
        points=points,
    )


def deepgram(points: int) -> Callable[..., Awaitable[None]]:
    vendor = partial(
        disturbed,
        partial(serve_deepgram, FakeDeepgram(key=KEY)),
        lambda server: server.url,
        unknown=text_frame('{"type": "News", "news": 1}'),
    )
    return partial(
        check_stt,
        lambda address: DeepgramSTT(api_key=KEY, base_url=address),
        vendor=vendor,
        credentials=Credentials(DeepgramSTT, "api_key", "DEEPGRAM_API_KEY", KEY),
        points=points,
    )


def elevenlabs(points: int) -> Callable[..., Awaitable[None]]:
    vendor = partial(
        disturbed,
        partial(serve_elevenlabs, FakeElevenLabs(key=KEY)),
        lambda server: server.url,
        unknown=text_frame('{"news": 1}'),
    )
    return partial(
        check_tts,
        lambda address: ElevenLabsTTS(api_key=KEY, base_url=address),
        vendor=vendor,
        credentials=Credentials(ElevenLabsTTS, "api_key", "ELEVENLABS_API_KEY", KEY),
        points=points,
    )


def openai_realtime(points: int, **options: Any) -> Callable[..., Awaitable[None]]:
    replies = [RealtimeReply(text="To this there is a lot to say, and it takes a while.", first_audio=0.05)]
    vendor = partial(
        disturbed,
        partial(serve_openai_realtime, FakeRealtime(key=KEY, replies=replies)),
        lambda server: server.url,
        unknown=text_frame('{"type": "conversation.news", "news": 1}'),
    )
    return partial(
        check_engine,
        lambda address: OpenAIRealtime(api_key=KEY, base_url=address, **options),
        vendor=vendor,
        credentials=Credentials(OpenAIRealtime, "api_key", "OPENAI_API_KEY", KEY),
        points=points,
    )


@pytest.fixture
def points(deep: bool) -> int:
    """Steps at which each is cancelled; their own tests have more."""
    return 60 if deep else 20


@pytest.mark.parametrize("check", chosen(LLM_CHECKS, SMOKE))
async def test_openai_conforms(autojump_clock: MockClock, check: str, points: int) -> None:
    """OpenAILLM passes each check for LLMs behind a proxy that disturbs the connection."""
    await openai(points)(check)


@pytest.mark.parametrize("check", chosen(STT_CHECKS, SMOKE))
async def test_deepgram_conforms(autojump_clock: MockClock, check: str, points: int) -> None:
    """DeepgramSTT passes each check for STTs behind a proxy that disturbs the connection."""
    await deepgram(points)(check)


@pytest.mark.parametrize("check", chosen(TTS_CHECKS, SMOKE))
async def test_elevenlabs_conforms(autojump_clock: MockClock, check: str, points: int) -> None:
    """ElevenLabsTTS passes each check for TTSs behind a proxy that disturbs the connection."""
    await elevenlabs(points)(check)


@pytest.mark.parametrize("check", chosen(ENGINE_CHECKS, SMOKE))
async def test_openai_realtime_conforms(autojump_clock: MockClock, check: str, points: int) -> None:
    """OpenAIRealtime passes each check for engines behind a proxy that disturbs the connection."""
    await openai_realtime(points)(check)


@pytest.mark.parametrize("check", chosen(ENGINE_CHECKS, SMOKE))
async def test_openai_realtime_that_looks_for_turns_conforms(
    autojump_clock: MockClock, check: str, points: int
) -> None:
    """OpenAIRealtime with the vendor's turn detection passes each check for engines behind the proxy."""
    await openai_realtime(points, turn_detection="server_vad")(check)
