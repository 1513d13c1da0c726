"""Speech that is made in a task beside whoever takes it."""

from abc import abstractmethod
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import trio

from patter_trio.abc import SpeechChunk, TextToSpeechSession
from patter_trio.net.tasks import run_beside


class BackgroundSpeech(TextToSpeechSession):
    """A session that makes the speech of each reply in a task of its own, one chunk ahead of what was taken."""

    def speak(self, sentences: AsyncIterable[str]) -> AbstractAsyncContextManager[AsyncIterator[SpeechChunk]]:
        """As :class:`~patter_trio.abc.TextToSpeechSession` has it."""
        return self._speak(sentences)

    @asynccontextmanager
    async def _speak(self, sentences: AsyncIterable[str]) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
        # No buffer: the chunk that waits to be taken is the one that is ahead.
        made, taken = trio.open_memory_channel[SpeechChunk](0)
        async with run_beside(partial(self._make, sentences, made)):
            yield taken

    @abstractmethod
    async def _make(self, sentences: AsyncIterable[str], made: trio.MemorySendChannel[SpeechChunk]) -> None:
        """Make the speech of a reply, and close ``made`` behind it."""
