"""Speech that a background task synthesises."""

from abc import abstractmethod
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import trio

from patter_trio.abc import SpeechChunk, TextToSpeechSession
from patter_trio.net.tasks import run_beside


class BackgroundSpeech(TextToSpeechSession):
    """A session that synthesises each reply in its own task, one chunk ahead of the one last taken."""

    def speak(self, sentences: AsyncIterable[str]) -> AbstractAsyncContextManager[AsyncIterator[SpeechChunk]]:
        """Open the speech of one reply; see :class:`~patter_trio.abc.TextToSpeechSession`."""
        return self._speak(sentences)

    @asynccontextmanager
    async def _speak(self, sentences: AsyncIterable[str]) -> AsyncIterator[AsyncIterator[SpeechChunk]]:
        # No buffer: the chunk that waits to be taken is the one that is ahead.
        made, taken = trio.open_memory_channel[SpeechChunk](0)
        # Beside the block, and cancelled with it: a cut reply must not go on computing.
        async with run_beside(partial(self._make, sentences, made)):
            yield taken

    @abstractmethod
    async def _make(self, sentences: AsyncIterable[str], made: trio.MemorySendChannel[SpeechChunk]) -> None:
        """Synthesise the speech of a reply into ``made``, and close it at the end."""
