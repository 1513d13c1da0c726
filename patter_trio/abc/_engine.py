"""Engines: speech-to-speech models, which take the caller's audio and produce the agent's."""

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
    """The facts about a call that an engine needs to open a session for it.

    ``language`` is a BCP 47 tag. ``conversation`` returns the messages so far, without the instructions; a session
    calls it when it has to start again on another connection.
    """

    instructions: str
    language: str = "en"
    tools: tuple[ToolDefinition, ...] = ()
    # A function, not a list: a session asks when it has to start again, which may be an hour later.
    conversation: Callable[[], Sequence[Message]] = tuple


@attrs.frozen
class EngineWords:
    """The caller's words as the engine understood them.

    ``commit`` is the number of the commit that their audio belongs to. Interim words are replaced by the next words of
    their commit. Final words close it; they are empty if there are no words, or if the engine cannot transcribe them.
    """

    commit: int
    text: str
    final: bool


@attrs.frozen
class EngineTurnOver:
    """The end of the caller's turn, detected by the engine.

    The call answers with ``commit`` and ``respond``, or with ``discard``.
    """


EngineEvent = EngineWords | EngineTurnOver


class EngineResponse(ABC):
    """One answer of an engine. Iterating yields it as the engine generates it, faster than it is played.

    Texts are the words of the speech around them, in pieces of any length. A tool call is yielded whole, near the end
    of the iteration: the tool's result goes into another response.
    """

    def __aiter__(self) -> "EngineResponse":
        return self

    @abstractmethod
    async def __anext__(self) -> "str | SpeechChunk | ToolCall":
        """Return the next piece.

        Raises:
            ProviderError: the engine failed, before or while answering.
        """

    # A plain function: a barge-in calls it, and nothing may hold that up.
    @abstractmethod
    def heard(self, seconds: float) -> None:
        """Tell the engine how many seconds of this response the caller heard, so that it forgets the rest; never waits.

        The call may come after the response's context was left.
        """


class EngineSession(ABC):
    """The session of one call with an engine.

    Method calls take effect in the order in which they are made; none of them waits.
    """

    # None of these methods waits, because the session loop calls them (``call/conversation_ring.py``).
    @abstractmethod
    def send(self, audio: bytes) -> None:
        """Send the caller's next audio, in the provider's ``accepts`` format.

        Everything that the call's resampler held back is sent before each ``commit`` and ``discard``.
        """

    def voice(self, edge: VoiceEdge) -> None:  # noqa: B027 (an engine with its own turn detection does not need it)
        """Report an edge of the caller's voice, in order with the audio."""

    # A number, because the words of this utterance may come after the next commit.
    @abstractmethod
    def commit(self) -> int:
        """Close the utterance that began with the last commit; return this commit's number, counted from 1."""

    @abstractmethod
    def discard(self) -> None:
        """Drop the audio since the last commit: it was a cough, or a remark that needs no answer."""

    @abstractmethod
    def remember(self, message: Message) -> None:
        """Add a message to the conversation that the engine did not produce itself.

        It is text that the agent said through another voice, or a tool's result (``{"role": "tool", "tool_call_id",
        "content"}``).
        """

    # A context manager: leaving it stops the generation, also when the reply is cancelled.
    @abstractmethod
    def respond(self, text: str = "", *, tools: bool = True) -> AbstractAsyncContextManager[EngineResponse]:
        """Open the answer to the conversation as it stands; with ``text``, speak exactly that text.

        One response is open at a time, but an abandoned one may still be closing while the next opens. Leaving the
        context, by its end or by cancellation, stops the generation. With ``tools`` false, the engine may not call
        tools.

        Raises:
            ProviderError: the engine is gone.
        """

    @abstractmethod
    def events(self) -> AsyncIterator[EngineEvent]:
        """Iterate over the engine's events about the caller, for as long as the session is open.

        Raises:
            ProviderError: the engine is gone for good.
        """


class Engine(Prewarmable, ABC):
    """A speech-to-speech model.

    The call keeps turn-taking to itself: an engine must neither answer nor stop unless it is asked to.

    ``accepts`` and ``emits`` are its input and output formats, as for an STT and a TTS; each may be mu-law or 16-bit
    PCM, at one of :data:`patter_trio.audio.formats.RATES_HZ`.
    """

    provider: str
    model: str
    accepts: AudioFormat = MULAW_8K
    emits: AudioFormat = MULAW_8K
    # Empty by default: most engines leave turn-taking to the call.
    ends_turns: Literal["", "vad_silence", "semantic_turn_detector"] = ""
    """Detection behind :class:`EngineTurnOver`; empty: the engine sends none, and the call's endpointing decides."""
    # 0, not None: it is a number that the agent compares.
    longest_silence: float = 0.0
    """Seconds of silence after which an engine with turn detection has reported the end of the turn in any case; the
    call does not wait longer. 0: unknown, and the call waits 2 s, or 10 s for semantic turn detection."""

    def with_voice(self, voice: str) -> "Engine":
        """Return the same engine with another of the vendor's voices, by its name or id.

        Raises:
            ConfigurationError: the engine has only one voice.
        """
        # Raised here, so that a voice that has no effect is an error when the agent is made.
        raise ConfigurationError(f"voice must be unset: {type(self).__name__} has only one voice, got {voice!r}")

    @abstractmethod
    def open(self, setup: EngineSetup) -> AbstractAsyncContextManager[EngineSession]:
        """Open a session for one call.

        Raises:
            ProviderError: the session could not be opened.
        """
