"""The vendors' providers are what ``patter_trio/abc.py`` demands, each against the fake of its vendor.

The fakes are well; the proxy in front of them is not.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
from trio.testing import MockClock

from patter_trio.testing import (
    LLM_CHECKS,
    STT_CHECKS,
    TTS_CHECKS,
    Credentials,
    check_llm,
    check_stt,
    check_tts,
    disturbed,
)
from patter_trio.testing.disturbed import text_frame

POINTS = 60
"""Steps at which each is cancelled; their own tests have more."""
KEY = "made-up-key"


def openai() -> Callable[..., Awaitable[None]]:
    llm = pytest.importorskip("patter_trio.llm.openai")
    fake = pytest.importorskip("patter_trio.testing.servers.openai")

    def reply(request: object) -> object:
        count = len(request.body["messages"])  # type: ignore[attr-defined]
        text = f"To these {count} messages there is a lot to say, and it takes a while."
        return fake.ChatReply(text, first_token=0.05, duration=0.3)

    event = b'data: {"id": "x", "object": "news", "news": 1, "choices": []}\n\n'
    vendor = partial(
        disturbed,
        partial(fake.serve_openai, reply),
        lambda server: server.base_url,
        unknown=b"%x\r\n%b\r\n" % (len(event), event),
    )
    return partial(
        check_llm,
        lambda address: llm.OpenAILLM(api_key=KEY, model="made-up", base_url=address),
        vendor=vendor,
        credentials=Credentials(llm.OpenAILLM, "api_key", "OPENAI_API_KEY", KEY),
        points=POINTS,
    )


def deepgram() -> Callable[..., Awaitable[None]]:
    stt = pytest.importorskip("patter_trio.stt.deepgram")
    fake = pytest.importorskip("patter_trio.testing.servers.deepgram")
    vendor = partial(
        disturbed,
        partial(fake.serve_deepgram, fake.FakeDeepgram(key=KEY)),
        lambda server: server.url,
        unknown=text_frame('{"type": "News", "news": 1}'),
    )
    return partial(
        check_stt,
        lambda address: stt.DeepgramSTT(api_key=KEY, base_url=address),
        vendor=vendor,
        credentials=Credentials(stt.DeepgramSTT, "api_key", "DEEPGRAM_API_KEY", KEY),
        points=POINTS,
    )


def elevenlabs() -> Callable[..., Awaitable[None]]:
    tts = pytest.importorskip("patter_trio.tts.elevenlabs")
    fake = pytest.importorskip("patter_trio.testing.servers.elevenlabs")
    vendor = partial(
        disturbed,
        partial(fake.serve_elevenlabs, fake.FakeElevenLabs(key=KEY)),
        lambda server: server.url,
        unknown=text_frame('{"news": 1}'),
    )
    return partial(
        check_tts,
        lambda address: tts.ElevenLabsTTS(api_key=KEY, base_url=address),
        vendor=vendor,
        credentials=Credentials(tts.ElevenLabsTTS, "api_key", "ELEVENLABS_API_KEY", KEY),
        points=POINTS,
    )


@pytest.mark.parametrize("check", LLM_CHECKS)
async def test_openai_conforms(autojump_clock: MockClock, check: str) -> None:
    await openai()(check)


@pytest.mark.parametrize("check", STT_CHECKS)
async def test_deepgram_conforms(autojump_clock: MockClock, check: str) -> None:
    await deepgram()(check)


@pytest.mark.parametrize("check", TTS_CHECKS)
async def test_elevenlabs_conforms(autojump_clock: MockClock, check: str) -> None:
    await elevenlabs()(check)
