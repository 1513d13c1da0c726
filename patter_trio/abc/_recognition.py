"""Speech recognition."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import attrs

from patter_trio.abc._common import Prewarmable
from patter_trio.abc._voice import VoiceEdge
from patter_trio.audio.formats import MULAW_8K, AudioFormat


@attrs.frozen
class Transcript:
    """Words that were recognised.

    ``segment`` names the stretch of audio. An interim result is replaced by the next one of its segment; the final one
    closes the segment, so that an interim that was acted upon and its own final do not double the words.

    ``finished`` is for recognisers that detect the end of a turn themselves, and only on what tells something new about
    it: True on final words (or on none, with which the turn ends): the caller has finished, and is answered at once. True
    on interim ones: probably, so that no more than the usual silence is waited for. False: not yet, also if it was said
    before. None: it does not say.
    """

    text: str
    final: bool
    segment: int = 0
    finished: bool | None = None


class SpeechToTextSession(ABC):
    """Recognition of one call. ``send``, ``voice`` and ``flush`` are called by one task, ``transcripts`` by another.

    ``accepts`` is the format of this session where it differs from its provider's: a provider that stands for several
    recognisers sets it, any other leaves it None.
    """

    accepts: AudioFormat | None = None

    @abstractmethod
    async def send(self, audio: bytes) -> None:
        """Take the next audio, in the format that the provider announces in ``accepts``.

        At another rate than 8 kHz the call resamples it, which holds the newest 0.1 s back at most; ``flush`` is
        preceded by all that was held back.

        Raises:
            ProviderError: the recogniser is gone.
        """

    async def voice(self, edge: VoiceEdge) -> None:  # noqa: B027 (most recognisers are not gated)
        """Learn of an edge of the caller's voice, in the order of the audio; recognisers that are gated use it.

        Its offset counts samples at 8 kHz whatever rate the provider accepts, and may lie up to 0.1 s ahead of the audio.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Ask for the final words of all audio sent so far, without waiting for them.

        The next final transcript answers it; its text is empty where there are no more words.

        Raises:
            ProviderError: the recogniser is gone.
        """

    @abstractmethod
    def transcripts(self) -> AsyncIterator[Transcript]:
        """Iterate over the results, for as long as the session is open.

        Raises:
            ProviderError: the recogniser is gone.
        """


class SpeechToText(Prewarmable, ABC):
    """A recogniser of speech.

    ``accepts`` is the format in which it wants the caller's audio: mu-law or 16-bit PCM, at one of
    :data:`patter_trio.audio.formats.RATES`. The call converts. Mu-law at 8 kHz, which is what carriers send, costs and delays
    nothing.
    """

    provider: str
    model: str = ""
    accepts: AudioFormat = MULAW_8K

    @abstractmethod
    def open(self, *, language: str) -> AbstractAsyncContextManager[SpeechToTextSession]:
        """Open a session for one call; ``language`` is a BCP 47 tag such as ``en`` or ``pt-BR``.

        Raises:
            ProviderError: no session could be had.
        """
