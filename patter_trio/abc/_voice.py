"""Voice activity, and the end of a turn."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import attrs

from patter_trio.abc._common import Prewarmable
from patter_trio.audio.g711 import Samples


@attrs.frozen
class VoiceEdge:
    """The caller's voice began or ended.

    ``offset`` is *where* it did, in samples (8 kHz) since the first one fed, not where it was noticed: what a detector
    needs to be sure (hang-over, minimum speech) must not move the edge.
    """

    speaking: bool
    offset: int
    confidence: float | None = None


class VoiceActivitySession(ABC):
    """Voice activity of one call.

    ``window`` is the number of samples, counted from the first one fed, with each whole multiple of which it can say
    something new; it is fed when so many have come, and not for every frame.
    """

    window: int = 1

    @abstractmethod
    async def feed(self, samples: Samples) -> Sequence[VoiceEdge]:
        """Take the next samples (8 kHz, 16-bit, any number) and return the edges that they complete, oldest first.

        Never called again before it has returned. Edges alternate, beginning with ``speaking=True``.

        Raises:
            ProviderError: the model failed.
        """


class VoiceActivity(Prewarmable, ABC):
    """A voice activity detector."""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[VoiceActivitySession]:
        """Open a session for one call.

        Raises:
            ProviderError: the model cannot be used.
        """


class TurnDetector(Prewarmable, ABC):
    """Says how likely it is that the caller has finished, from the sound of the utterance alone."""

    @abstractmethod
    async def complete(self, samples: Samples) -> float:
        """Return the probability, 0 to 1, that these samples (8 kHz, 16-bit, at most the last 8 s) are a whole turn.

        Raises:
            ProviderError: the model failed.
        """
