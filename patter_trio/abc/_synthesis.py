"""Speech synthesis (TTS)."""

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

    # Of the chunk, not of the reply: the vendor knows nothing of what was played before.
    text: str
    start: float
    end: float


@attrs.frozen
class SpeechChunk:
    """A stretch of synthesised speech.

    ``text`` is the text whose speech *begins* with this chunk: usually a sentence, on its first chunk. The chunks that
    continue it have an empty text. ``words`` are word timings, if the vendor reports them. ``format`` is the format of
    this audio if it differs from the provider's ``emits``. A provider that stands for several others sets it; any other
    leaves it None.
    """

    audio: bytes
    # The text comes with its first audio: only then is its position known.
    text: str = ""
    words: tuple[Word, ...] = ()
    format: AudioFormat | None = None


class TextToSpeechSession(ABC):
    """Synthesis for one call. Replies come one after another, but an abandoned one may still be closing."""

    # Sentences as an iterator: the voice can begin while the LLM still writes.
    @abstractmethod
    def speak(self, sentences: AsyncIterable[str]) -> AbstractAsyncContextManager[AsyncIterator[SpeechChunk]]:
        """Open the speech of one reply. Iterating yields its audio as it is made, in the provider's ``emits`` format.

        ``sentences`` arrive while the LLM generates the reply. The iteration ends when they have ended and all are
        spoken. Leaving the context, by its end or by cancellation, stops the synthesis.

        Raises:
            ProviderError: the provider failed.
        """


class TextToSpeech(Prewarmable, ABC):
    """A text-to-speech provider (TTS).

    ``emits`` is the format of its audio: mu-law or 16-bit PCM, at one of :data:`patter_trio.audio.formats.RATES_HZ`.
    The call converts, and keeps texts and words at their positions in the audio. Mu-law at 8 kHz passes unchanged.
    """

    provider: str
    model: str = ""
    emits: AudioFormat = MULAW_8K

    def with_voice(self, voice: str) -> "TextToSpeech":
        """Return the same provider with another of the vendor's voices, by its name or id.

        Raises:
            ConfigurationError: the provider has only one voice.
        """
        # As for engines: a voice without effect is an error, not silently the usual voice.
        raise ConfigurationError(f"voice must be unset: {type(self).__name__} has only one voice, got {voice!r}")

    def language_problem(self, language: str) -> str:
        """Return why calls in this language (a BCP 47 tag) must fail; empty if they need not, or if nobody can know."""
        del language
        return ""

    @abstractmethod
    def open(self, *, language: str) -> AbstractAsyncContextManager[TextToSpeechSession]:
        """Open a session for one call; ``language`` is a BCP 47 tag.

        Raises:
            ProviderError: the session could not be opened.
        """
