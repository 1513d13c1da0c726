"""patter_trio as it is, on its real port, with STT, LLM and TTS providers that cost nothing and are always ready."""

import gc
import json
import os
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from benchmarks.lines import PUBLIC_KEY
from benchmarks.sampling import run_server
from patter_trio import Patter, Plivo, Telnyx, Twilio
from patter_trio.abc import (
    Carrier,
    LanguageModel,
    Message,
    SpeechChunk,
    SpeechToText,
    SpeechToTextSession,
    TextToSpeech,
    TextToSpeechSession,
    Transcript,
    VoiceEdge,
)
from patter_trio.vad.silero import SileroVAD

ACCOUNT, AUTH_ID, TOKEN = "AC" + "0" * 32, "MA" + "0" * 18, "benchmark"
CARRIER_VARIABLE, API_PORT_VARIABLE = "BENCHMARK_CARRIER", "BENCHMARK_API_PORT"
"""Variables of the environment: the carrier, and the port at which the callers serve its REST interface."""
LOG_VARIABLE, DASHBOARD_VARIABLE = "BENCHMARK_LOG", "BENCHMARK_DASHBOARD"
"""The same: the call log's file, and "yes" for the dashboard; empty: without."""
CHUNK_BYTES = 1600
"""Bytes in a chunk of audio: 200 ms, a usual size of streaming TTS."""


@attrs.frozen
class CannedSTT(SpeechToText):
    """An STT provider that has the words as soon as the voice ends."""

    provider: str = "canned"

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[SpeechToTextSession]:
        del language
        yield CannedWords()


class CannedWords(SpeechToTextSession):
    # As a session of DeepgramSTT.
    recovers = True

    def __init__(self) -> None:
        # More than the final words of any second: they are taken at once.
        self._send, self._receive = trio.open_memory_channel[Transcript](16)
        self._segment = 0

    async def send(self, audio: bytes) -> None:
        pass

    async def voice(self, edge: VoiceEdge) -> None:
        if not edge.speaking:
            # A new segment for each voice; the answer to ``flush`` closes the one before it.
            self._segment += 1
            self._send.send_nowait(Transcript("What are your opening hours?", final=True, segment=self._segment))

    async def flush(self) -> None:
        self._send.send_nowait(Transcript("", final=True, segment=self._segment))

    def transcripts(self) -> AsyncIterator[Transcript]:
        return self._receive


@attrs.frozen
class CannedLLM(LanguageModel):
    """An LLM that has its answer at once."""

    provider: str = "canned"
    model: str = "canned"
    takes_tools: bool = False

    @asynccontextmanager
    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[AsyncIterator[str]]:
        del messages
        yield self._pieces()

    @staticmethod
    async def _pieces() -> AsyncIterator[str]:
        # In one piece: what is measured is the call, not how an LLM divides its text.
        yield "We are open from seven in the morning to nine in the evening, every day of the week."


@attrs.frozen
class CannedTTS(TextToSpeech):
    """A TTS provider that speaks the canned answer for any sentence, as fast as it is read."""

    answer: bytes = attrs.field(default=b"", repr=False)
    provider: str = "canned"

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[TextToSpeechSession]:
        del language
        yield CannedVoice(self.answer)


@attrs.frozen
class CannedVoice(TextToSpeechSession):
    answer: bytes

    @asynccontextmanager
    async def speak(self, sentences: AsyncIterable[str]) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
        yield self._chunks(sentences)

    async def _chunks(self, sentences: AsyncIterable[str]) -> AsyncIterator[SpeechChunk]:
        async for sentence in sentences:
            for at in range(0, len(self.answer), CHUNK_BYTES):
                # The text is on the first chunk: there its speech begins.
                yield SpeechChunk(self.answer[at : at + CHUNK_BYTES], "" if at else sentence)


def carrier_named(name: str, api_port: int) -> Carrier:
    if name == "telnyx":
        return Telnyx(api_key=TOKEN, public_key=PUBLIC_KEY, api_url=f"http://127.0.0.1:{api_port}")
    if name == "plivo":
        return Plivo(auth_id=AUTH_ID, auth_token=TOKEN)
    return Twilio(account_sid=ACCOUNT, auth_token=TOKEN)


def phone_and_agent(answer: bytes, carrier: Carrier | None = None, log: str = "") -> tuple[Patter, object]:
    # The public URL is part of the signature; the callers sign for the same one.
    phone = Patter(carrier=carrier or carrier_named("twilio", 0), webhook_url="http://127.0.0.1", persist=log or None)
    agent = phone.agent(
        system_prompt="You answer the phone of a shop.",
        vad=SileroVAD(),
        stt=CannedSTT(),
        llm=CannedLLM(),
        tts=CannedTTS(answer=answer),
        # The durations that the other servers are set to.
        endpointing_ms=500,
        barge_in_threshold_ms=200,
    )
    return phone, agent


async def serve(answer: bytes) -> None:
    name, api_port = os.environ.get(CARRIER_VARIABLE, "twilio"), int(os.environ.get(API_PORT_VARIABLE, "0"))
    carrier = carrier_named(name, api_port)
    phone, agent = phone_and_agent(answer, carrier, os.environ.get(LOG_VARIABLE, ""))
    dashboard = bool(os.environ.get(DASHBOARD_VARIABLE))
    async with trio.open_nursery() as nursery:
        # As the other servers: every call is taken, so that what N of them cost can be seen.
        async def run(task_status: trio.TaskStatus[tuple[str, int]]) -> None:
            await phone.serve(agent, port=0, max_lag=None, dashboard=dashboard, task_status=task_status)  # type: ignore[arg-type]

        _, port = await nursery.start(run)
        about = {"port": port, "pid": os.getpid(), "webhook": carrier.voice_path, "token": TOKEN}
        about |= {"carrier": name, "api_port": api_port, "account": AUTH_ID}
        # As ``patter-trio run`` does.
        gc.collect()
        gc.freeze()
        print(json.dumps(about | {"public": "http://127.0.0.1"}), flush=True)


if __name__ == "__main__":
    run_server(serve)
