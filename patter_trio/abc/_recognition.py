"""Speech recognition (STT)."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final

import attrs

from patter_trio.abc._common import Prewarmable
from patter_trio.abc._voice import VoiceEdge
from patter_trio.audio.formats import MULAW_8K, AudioFormat

# Judged: nobody waits longer for an answer on a telephone.
DEFAULT_FINAL_TIMEOUT_S: Final = 3.0
"""Seconds in which an STT that declares nothing else must answer a request for final words."""


@attrs.frozen
class Transcript:
    """Words that the provider recognised.

    ``segment`` numbers the stretch of audio. The next result of a segment replaces its interim results, and the final
    one closes the segment. So a reply to interim words and their own final result do not double the words.

    ``finished`` is for providers that detect the end of a turn themselves. They set it only on a result that says
    something new about the turn. True on a final result, which may be empty: the caller has finished, and is answered
    at once. True on an interim result: the caller has probably finished, so the call waits for no more than the usual
    silence. False: the caller has not finished, even if an earlier result said so. None: the provider does not say.
    """

    text: str
    final: bool
    # 0 for STT providers that do not number: each result then replaces the one before.
    segment: int = 0
    # Three values, because most STT providers say nothing about turns, and "not finished" is news.
    finished: bool | None = None


@attrs.frozen
class RecognitionProgress:
    """The progress of a session, from a provider that knows more about it than its transcripts say."""

    results: int
    """The number of results so far, those without words included."""
    settled: float
    """Seconds of the session's audio whose words are final."""


class SpeechToTextSession(ABC):
    """Speech recognition for one call.

    One task calls ``send``, ``voice`` and ``flush``; another iterates over ``transcripts``. A provider that stands for
    several others sets ``chosen`` to the one that this session is of, and ``accepts`` to the format of this session;
    any other leaves them None. ``recovers`` says that the session notices by itself that the vendor is silent or
    takes no audio, and replaces its connection; otherwise the call does it, by another session that gets the audio
    again.
    """

    # Set only by a provider that stands for several.
    accepts: AudioFormat | None = None
    chosen: "SpeechToText | None" = None
    recovers: bool = False

    @property
    def progress(self) -> RecognitionProgress | None:
        """The progress of the session; None if only its transcripts tell."""
        return None

    @abstractmethod
    async def send(self, audio: bytes) -> None:
        """Send the next audio, in the provider's ``accepts`` format.

        At any rate but 8 kHz the call resamples the audio, which holds back at most the newest 0.1 s. The call sends
        everything it held back before ``flush``.

        Raises:
            ProviderError: the session has failed.
        """

    # Not abstract: an STT provider that hears all audio needs no edges.
    async def voice(self, edge: VoiceEdge) -> None:  # noqa: B027 (optional: most providers are not voice-gated)
        """Report an edge of the caller's voice, in order with the audio; voice-gated providers use it.

        The offset counts samples at 8 kHz whatever rate the provider accepts. It may lie up to 0.1 s ahead of the
        audio.
        """

    # Without waiting for the words: the task that feeds the audio calls this, too.
    @abstractmethod
    async def flush(self) -> None:
        """Request the final words of all audio sent so far, without waiting for them.

        The next final transcript is the answer. Its text is empty if there are no more words.

        Raises:
            ProviderError: the session has failed.
        """

    @abstractmethod
    def transcripts(self) -> AsyncIterator[Transcript]:
        """Iterate over the results, for as long as the session is open.

        Raises:
            ProviderError: the session has failed.
        """


class SpeechToText(Prewarmable, ABC):
    """A speech-to-text provider (STT).

    ``accepts`` is the format of the caller's audio that it wants: mu-law or 16-bit PCM, at one of
    :data:`patter_trio.audio.formats.RATES_HZ`. The call converts. Carriers send mu-law at 8 kHz, so that format adds no
    cost and no delay.

    ``gives_interims`` says that while it hears a voice, it gives results all the time, with or without words. One that
    gives none for 3 s of voice is replaced. ``final_timeout`` is the number of seconds in which a final transcript must
    answer ``flush``; a session that takes longer is replaced, too.
    """

    provider: str
    model: str = ""
    # The carrier's format, which needs no conversion.
    accepts: AudioFormat = MULAW_8K

    # Properties, which a provider may replace by attributes.
    @property
    def gives_interims(self) -> bool:
        """True if each voice brings results; not by default: one that is silent during noise would be replaced."""
        return False

    @property
    def final_timeout(self) -> float:
        """Seconds in which a final transcript answers ``flush``."""
        return DEFAULT_FINAL_TIMEOUT_S

    def language_problem(self, language: str) -> str:
        """Return why calls in this language (a BCP 47 tag) must fail; empty if they need not, or if nobody can know."""
        del language
        return ""

    @abstractmethod
    def open(self, *, language: str) -> AbstractAsyncContextManager[SpeechToTextSession]:
        """Open a session for one call; ``language`` is a BCP 47 tag such as ``en`` or ``pt-BR``.

        Raises:
            ProviderError: the session could not be opened.
        """
