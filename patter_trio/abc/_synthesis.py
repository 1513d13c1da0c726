"""Speech synthesis."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager

import attrs

from patter_trio.abc._common import Prewarmable
from patter_trio.audio.formats import MULAW_8K, AudioFormat
from patter_trio.errors import ConfigurationError


@attrs.frozen
class Word:
    """A word of a chunk, from ``start`` to ``end`` in seconds since the chunk's beginning."""

    text: str
    start: float
    end: float


@attrs.frozen
class SpeechChunk:
    """A stretch of synthesised speech.

    ``text`` is the text whose speech *begins* with this chunk (usually a sentence, on its first chunk) and is empty on
    the chunks that go on with it. ``words`` are timings, where the vendor tells them. ``format`` is that of this audio where it
    differs from the provider's ``emits``: a provider that stands for several synthesisers sets it, any other leaves it None.
    """

    audio: bytes
    text: str = ""
    words: tuple[Word, ...] = ()
    format: AudioFormat | None = None


class TextToSpeechSession(ABC):
    """Synthesis for one call; the replies of a call come one after another, but an abandoned one may still be closing."""

    @abstractmethod
    def speak(self, sentences: AsyncIterable[str]) -> AbstractAsyncContextManager[AsyncIterator[SpeechChunk]]:
        """Open the speech of one reply; iterating yields its audio, in the provider's ``emits``, as it is made.

        ``sentences`` arrive while the reply is being thought; the iteration ends when they have ended and all is said.
        Leaving the context, by its end or by cancellation, stops the synthesis.

        Raises:
            ProviderError: the synthesiser failed.
        """


class TextToSpeech(Prewarmable, ABC):
    """A synthesiser of speech.

    ``emits`` is the format of its audio: mu-law or 16-bit PCM, at one of :data:`patter_trio.audio.formats.RATES`. The call
    converts; texts and words stay at their samples. Mu-law at 8 kHz passes as it is.
    """

    provider: str
    model: str = ""
    emits: AudioFormat = MULAW_8K

    def with_voice(self, voice: str) -> "TextToSpeech":
        """Return the same with another of the vendor's voices, by its name or id.

        Raises:
            ConfigurationError: it has one voice only.
        """
        raise ConfigurationError(f"voice: {type(self).__name__} has no other voice than its own, so not {voice!r}")

    @abstractmethod
    def open(self, *, language: str) -> AbstractAsyncContextManager[TextToSpeechSession]:
        """Open a session for one call; ``language`` is a BCP 47 tag.

        Raises:
            ProviderError: no session could be had.
        """
