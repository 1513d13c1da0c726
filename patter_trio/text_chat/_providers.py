"""Providers for a call that is held in text: nobody is heard, and each text is spoken in no time.

The call uses them as any other providers. A "sound" of one sample, an eighth of a millisecond, carries each text
through the playout queue, so that hooks, guardrails, cuts and the history work as in a call by telephone. The timing of
that sample names the text as its only word, so that the ledger knows that the caller has seen all of it.
"""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from patter_trio.abc import (
    SpeechChunk,
    SpeechToText,
    SpeechToTextSession,
    TextToSpeech,
    TextToSpeechSession,
    Transcript,
    VoiceActivity,
    VoiceActivitySession,
    VoiceEdge,
    Word,
)
from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import SILENCE_BYTE, Samples

PROVIDER: Final = "text"
"""The name of these providers, and of the carrier, in events and metrics."""
SOUND: Final = bytes([SILENCE_BYTE])
"""The audio of a text: one sample, because a reply without audio would not count as heard."""
# A request answers at most one flush, and a call makes few.
MAX_WAITING_FLUSHES: Final = 16


def shown(text: str, *, sentence: bool = True) -> SpeechChunk:
    """Return a text as speech that takes no time; with ``sentence`` false, the text belongs to the sentence before."""
    return SpeechChunk(SOUND, text if sentence else "", (Word(text, 0.0, 1 / RATE_HZ),))


@attrs.frozen
class NoVoice(VoiceActivity):
    """A VAD that hears nobody."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[VoiceActivitySession]:
        """Open a session, which has nothing to do."""
        yield _NoVoiceSession()


class _NoVoiceSession(VoiceActivitySession):
    async def feed(self, samples: Samples) -> Sequence[VoiceEdge]:
        del samples
        return ()


@attrs.frozen
class NoSpeech(SpeechToText):
    """An STT that gets no audio and recognises nothing: the caller types."""

    provider: str = PROVIDER

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[SpeechToTextSession]:
        """Open a session; any language will do."""
        del language
        yield _NoSpeechSession()


class _NoSpeechSession(SpeechToTextSession):
    recovers = True

    def __init__(self) -> None:
        self._asked, self._answers = trio.open_memory_channel[Transcript](MAX_WAITING_FLUSHES)

    async def send(self, audio: bytes) -> None:
        del audio

    async def flush(self) -> None:
        await self._asked.send(Transcript("", final=True))

    def transcripts(self) -> AsyncIterator[Transcript]:
        return self._answers


@attrs.frozen
class Shown(TextToSpeech):
    """A TTS that shows each text instead of speaking it."""

    provider: str = PROVIDER

    def with_voice(self, voice: str) -> "Shown":
        """Return this provider: text has no voice."""
        del voice
        return self

    @asynccontextmanager
    async def open(self, *, language: str) -> AsyncIterator[TextToSpeechSession]:
        """Open a session; any language will do."""
        del language
        yield _ShownSession()


class _ShownSession(TextToSpeechSession):
    @asynccontextmanager
    async def speak(self, sentences: AsyncIterable[str]) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
        yield (shown(sentence) async for sentence in sentences)
