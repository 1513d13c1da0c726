"""Voice activity detection (VAD), and detection of the end of a turn."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import attrs

from patter_trio.abc._common import Prewarmable
from patter_trio.audio.g711 import Samples


@attrs.frozen
class VoiceEdge:
    """The start or end of the caller's voice.

    ``offset`` is *where* it happened, in samples (8 kHz) since the first one fed, not where the detector noticed it.
    The time that a detector needs to be sure (hang-over, minimum speech) must not move the edge.
    """

    speaking: bool
    # In samples, not in seconds: positions in the audio are exact, arrivals are not.
    offset: int
    # Optional, because not every detector has one. It is only reported, never decided by.
    confidence: float | None = None


class VoiceActivitySession(ABC):
    """Voice activity detection for one call.

    ``window`` is the number of samples after which a result can change: only at each whole multiple, counted from the
    first sample fed. The call feeds the session whenever a window is complete, not for every frame.
    """

    # 1 by default: a detector that does not say may change its mind with each sample.
    window: int = 1

    # Awaitable, because windows of several calls may share an inference (``vad/batching.py``).
    @property
    def quiet_since(self) -> int | None:
        """The sample since which there is silence in a voice whose end is not certain yet.

        The voice ends there if the silence lasts. A vendor that ends turns may do so before the detector is sure of
        that end. None while there is no such silence, and if the detector does not say.
        """
        return None

    @abstractmethod
    async def feed(self, samples: Samples) -> Sequence[VoiceEdge]:
        """Process the next samples (8 kHz, 16-bit, any number) and return the edges that they complete, oldest first.

        The next call comes only after this one has returned. Edges alternate, beginning with ``speaking=True``.

        Raises:
            ProviderError: the model failed.
        """


class VoiceActivity(Prewarmable, ABC):
    """A voice activity detector (VAD)."""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[VoiceActivitySession]:
        """Open a session for one call.

        Raises:
            ProviderError: the model cannot be used.
        """


class TurnDetector(Prewarmable, ABC):
    """A model that estimates, from the sound of the utterance alone, whether the caller has finished."""

    # Only a probability: what follows from it is the turn machine's decision.
    @abstractmethod
    async def complete(self, samples: Samples) -> float:
        """Return the probability, 0 to 1, that these samples (8 kHz, 16-bit, at most the last 8 s) are a complete turn.

        Raises:
            ProviderError: the model failed.
        """
