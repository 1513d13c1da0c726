"""Engines: models that hear and speak by themselves."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal

import attrs

from patter_trio.abc._common import Message, Prewarmable
from patter_trio.abc._language_model import ToolCall, ToolDefinition
from patter_trio.abc._synthesis import SpeechChunk
from patter_trio.abc._voice import VoiceEdge
from patter_trio.audio.formats import MULAW_8K, AudioFormat
from patter_trio.errors import ConfigurationError


@attrs.frozen(kw_only=True)
class EngineSetup:
    """What an engine is told of a call when it opens a session for it.

    ``language`` is a BCP 47 tag. ``conversation`` returns what was said so far, without the instructions: for a session
    that has to begin anew with another connection.
    """

    instructions: str
    language: str = "en"
    tools: tuple[ToolDefinition, ...] = ()
    conversation: Callable[[], Sequence[Message]] = tuple


@attrs.frozen
class EngineWords:
    """What the caller said, by the engine's own understanding.

    ``commit`` is the number of the commit with whose audio they were said. Interim words are replaced by the next ones
    of their commit; the final ones close it, and are empty where there are no words, or none that can be told.
    """

    commit: int
    text: str
    final: bool


@attrs.frozen
class EngineTurnOver:
    """The engine's own turn detection: the caller has finished. Answered by ``commit`` and ``respond``, or by ``discard``."""


EngineEvent = EngineWords | EngineTurnOver


class EngineResponse(ABC):
    """What an engine answers; iterating yields it as it is made, faster than it is spoken.

    Texts are the words of the speech around them, pieces of any length. A tool that the engine wants called is yielded
    whole, and by then its iteration is near its end: what the tool gives goes into another response.
    """

    def __aiter__(self) -> "EngineResponse":
        return self

    @abstractmethod
    async def __anext__(self) -> "str | SpeechChunk | ToolCall":
        """Return the next piece.

        Raises:
            ProviderError: the engine failed, before or while answering.
        """

    @abstractmethod
    def heard(self, seconds: float) -> None:
        """Learn that the caller heard only so much of it, so that the engine believes no more; never waits.

        It may come when the response is left already.
        """


class EngineSession(ABC):
    """One call's session with an engine. All methods are put in one order by their calls; none of them waits."""

    @abstractmethod
    def send(self, audio: bytes) -> None:
        """Take the caller's next audio, in the format that the provider announces in ``accepts``.

        ``commit`` and ``discard`` are preceded by all that the call's resampler held back.
        """

    def voice(self, edge: VoiceEdge) -> None:  # noqa: B027 (an engine with a turn detection of its own needs none)
        """Learn of an edge of the caller's voice, in the order of the audio."""

    @abstractmethod
    def commit(self) -> int:
        """What was heard since the last commit is an utterance that is over; return the commit's number, from 1 on."""

    @abstractmethod
    def discard(self) -> None:
        """What was heard since the last commit is no utterance: a cough, or a remark that needs no answer."""

    @abstractmethod
    def remember(self, message: Message) -> None:
        """Take what belongs into the conversation and the engine has not made itself.

        What the agent said by another voice, or what a tool gave (``{"role": "tool", "tool_call_id", "content"}``).
        """

    @abstractmethod
    def respond(self, text: str = "", *, tools: bool = True) -> AbstractAsyncContextManager[EngineResponse]:
        """Open the answer to the conversation as it is now; with ``text`` say just that, word for word.

        One at a time, but one that was abandoned may still be closing while the next opens. Leaving the context, by its end or
        by cancellation, stops the engine from generating. With ``tools`` false it may call none.

        Raises:
            ProviderError: the engine is gone.
        """

    @abstractmethod
    def events(self) -> AsyncIterator[EngineEvent]:
        """Iterate over what the engine tells of the caller, for as long as the session is open.

        Raises:
            ProviderError: the engine is gone for good.
        """


class Engine(Prewarmable, ABC):
    """A model that hears and speaks by itself: speech in, speech out.

    Whose turn it is remains decided here: an engine must not answer, and not stop, unless it is asked to.

    ``accepts`` and ``emits`` are the formats in which it hears and speaks, as a recogniser's and a synthesiser's; each may be
    mu-law or 16-bit PCM, at one of :data:`patter_trio.audio.formats.RATES`.
    """

    provider: str
    model: str
    accepts: AudioFormat = MULAW_8K
    emits: AudioFormat = MULAW_8K
    ends_turns: Literal["", "vad_silence", "semantic_turn_detector"] = ""
    """By what it tells :class:`EngineTurnOver`; empty: it does not, and the call's own endpointing decides."""
    longest_silence: float = 0.0
    """Seconds of silence after which an engine that ends turns has said so in any case; the call waits no longer. 0: it does
    not say, and the call waits for 2 s, or 10 s for one that judges by what is said."""

    def with_voice(self, voice: str) -> "Engine":
        """Return the same with another of the vendor's voices, by its name or id.

        Raises:
            ConfigurationError: it has one voice only.
        """
        raise ConfigurationError(f"voice: {type(self).__name__} has no other voice than its own, so not {voice!r}")

    @abstractmethod
    def open(self, setup: EngineSetup) -> AbstractAsyncContextManager[EngineSession]:
        """Open a session for one call.

        Raises:
            ProviderError: no session could be had.
        """
