"""The transcription stage at the end of a call: no words that the STT still owes are given up too early."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from patter_trio.abc import SpeechToText, SpeechToTextSession, Transcript, VoiceEdge
from patter_trio.call.input.transcription import TranscriptionStage
from patter_trio.conversation.inputs import FinalWords, Flushed

FRAME = b"\xff" * 160


class _Session(SpeechToTextSession):
    """A session whose results the test gives, and whose sends may be held up."""

    def __init__(self) -> None:
        self.give, self._results = trio.open_memory_channel[Transcript](8)
        self.flushes = 0
        self.may_send = trio.Event()
        self.may_send.set()

    async def send(self, audio: bytes) -> None:
        await self.may_send.wait()

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        self.flushes += 1

    def transcripts(self) -> AsyncIterator[Transcript]:
        return self._results


class _Stt(SpeechToText):
    provider = "acme"

    def __init__(self) -> None:
        self.session = _Session()

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[SpeechToTextSession]:
        yield self.session


class _Running:
    """A stage that runs, what it has posted, and its session."""

    def __init__(self) -> None:
        self.posted: list[Any] = []
        self.stage = TranscriptionStage(self.posted.append)
        self.stt = _Stt()

    async def tells(self, text: str) -> None:
        """Have the STT give a final result, and let the stage take it."""
        self.stt.session.give.send_nowait(Transcript(text, final=True, segment=len(self.posted)))
        await trio.testing.wait_all_tasks_blocked()

    async def hears(self, *items: bytes | VoiceEdge) -> None:
        for item in items:
            self.stage.put(item)
        await trio.testing.wait_all_tasks_blocked()

    async def flush(self) -> None:
        self.stage.flush()
        await trio.testing.wait_all_tasks_blocked()

    @property
    def flushed(self) -> bool:
        return any(isinstance(event, Flushed) for event in self.posted)


@pytest.fixture
async def running(autojump_clock: MockClock) -> AsyncIterator[_Running]:
    at = _Running()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(at.stage.run, at.stt, "en")
        await trio.testing.wait_all_tasks_blocked()
        yield at
        nursery.cancel_scope.cancel()


async def test_final_in_mid_voice_leaves_more_words(running: _Running) -> None:
    """A caller who goes on behind a final result, and hangs up in the same voice, is heard to the end."""
    await running.hears(VoiceEdge(speaking=True, offset=0), FRAME)
    await running.tells("My number is")
    await running.hears(FRAME)
    await running.flush()
    assert (running.flushed, running.stt.session.flushes) == (False, 1)
    await running.tells("seven")
    assert running.posted == [FinalWords("My number is", 0), FinalWords("seven", 1), Flushed()]


async def test_final_behind_the_voice_leaves_nothing(running: _Running) -> None:
    """A final result that comes after the voice, but before the VAD reports its end, has all words: no flush."""
    await running.hears(VoiceEdge(speaking=True, offset=0), FRAME, FRAME)
    await running.tells("Yes")
    await running.hears(VoiceEdge(speaking=False, offset=160))
    await running.flush()
    assert (running.posted, running.stt.session.flushes) == ([FinalWords("Yes", 0), Flushed()], 0)


async def test_final_before_the_flush_answers_nothing(running: _Running) -> None:
    """A final result that comes while the flush still waits behind audio is not its answer."""
    await running.hears(VoiceEdge(speaking=True, offset=0))
    running.stt.session.may_send = trio.Event()
    await running.hears(FRAME)
    await running.flush()
    await running.tells("My number is")
    assert (running.flushed, running.stt.session.flushes) == (False, 0)
    running.stt.session.may_send.set()
    await trio.testing.wait_all_tasks_blocked()
    await running.tells("seven")
    assert running.posted == [FinalWords("My number is", 0), FinalWords("seven", 1), Flushed()]
