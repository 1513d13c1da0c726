"""Every extension point: what a voice detector, recogniser, mind, synthesiser, engine and carrier stream must do.

What an :class:`~patter_trio.agent.Agent` holds are *recipes*: frozen, shared by all calls, without per-call state.
Each call opens its own session from a recipe, inside the call's nursery, and closes it by leaving the ``async with``.

Rules for every implementation:

* Failures of the vendor or model are raised as :class:`~patter_trio.errors.ProviderError` (or a subclass) with the
  cause kept; nothing else may leave a session but :class:`trio.Cancelled`.
* Every await can be cancelled, and leaves at once when it is; a session that was cancelled is only closed.
* No task outlives the ``async with`` that opened it.
* A session may say what it will bill, by :func:`report_usage`; where it does not, the cost is estimated.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import Any, Literal

import attrs

from patter_trio.audio.formats import MULAW_8K, AudioFormat
from patter_trio.audio.g711 import Samples
from patter_trio.errors import ConfigurationError

Message = Mapping[str, Any]
"""One message of a conversation.

``{"role": "system" | "user" | "assistant", "content": str}``; of an assistant that called tools also ``"tool_calls"``, a
list of ``{"id", "name", "arguments"}`` with the arguments as JSON text; and what such a call gave:
``{"role": "tool", "tool_call_id": str, "name": str, "content": str}``, one for each, right behind it.
"""


class Prewarmed:
    """A recipe that has something to load before its first call, such as a model."""

    async def prewarm(self) -> None:
        """Load what the first call would otherwise wait for.

        Raises:
            ProviderError: it cannot be loaded.
            ConfigurationError: it is missing, or not what it should be.
        """


# Voice activity -------------------------------------------------------------------------------------------------------
@attrs.frozen
class VoiceEdge:
    """The caller's voice began or ended.

    ``offset`` is *where* it did, in samples (8 kHz) since the first one fed, not where it was noticed: what a detector
    needs to be sure (hang-over, minimum speech) must not move the edge.
    """

    speaking: bool
    offset: int
    confidence: float | None = None


class VoiceSession(ABC):
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


class VoiceActivity(Prewarmed, ABC):
    """A voice activity detector."""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[VoiceSession]:
        """Open a session for one call.

        Raises:
            ProviderError: the model cannot be used.
        """


# Turn detection -------------------------------------------------------------------------------------------------------
class TurnDetector(Prewarmed, ABC):
    """Says how likely it is that the caller has finished, from the sound of the utterance alone."""

    @abstractmethod
    async def complete(self, samples: Samples) -> float:
        """Return the probability, 0 to 1, that these samples (8 kHz, 16-bit, at most the last 8 s) are a whole turn.

        Raises:
            ProviderError: the model failed.
        """


# Recognition ----------------------------------------------------------------------------------------------------------
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


class RecognitionSession(ABC):
    """Recognition of one call. ``send``, ``voice`` and ``flush`` are called by one task, ``transcripts`` by another.

    ``accepts`` is the format of this session where it differs from its recipe's: a recipe that stands for several
    recognisers sets it, any other leaves it None.
    """

    accepts: AudioFormat | None = None

    @abstractmethod
    async def send(self, audio: bytes) -> None:
        """Take the next audio, in the format that the recipe announces in ``accepts``.

        At another rate than 8 kHz the call resamples it, which holds the newest 0.1 s back at most; ``flush`` is
        preceded by all that was held back.

        Raises:
            ProviderError: the recogniser is gone.
        """

    async def voice(self, edge: VoiceEdge) -> None:  # noqa: B027 (most recognisers are not gated)
        """Learn of an edge of the caller's voice, in the order of the audio; recognisers that are gated use it.

        Its offset counts samples at 8 kHz whatever rate the recipe accepts, and may lie up to 0.1 s ahead of the audio.
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


class SpeechToText(Prewarmed, ABC):
    """A recogniser of speech.

    ``accepts`` is the format in which it wants the caller's audio: mu-law or 16-bit PCM, at one of
    :data:`patter_trio.audio.formats.RATES`. The call converts. Mu-law at 8 kHz, which is what carriers send, costs and delays
    nothing.
    """

    provider: str
    model: str = ""
    accepts: AudioFormat = MULAW_8K

    @abstractmethod
    def open(self, *, language: str) -> AbstractAsyncContextManager[RecognitionSession]:
        """Open a session for one call; ``language`` is a BCP 47 tag such as ``en`` or ``pt-BR``.

        Raises:
            ProviderError: no session could be had.
        """


# Minds ----------------------------------------------------------------------------------------------------------------
@attrs.frozen
class ToolDefinition:
    """What a model is told of a tool; ``parameters`` is the JSON Schema of its arguments, an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@attrs.frozen
class ToolCall:
    """A model wants a tool called; ``arguments`` is the JSON text that it wrote, of which nothing is sure.

    ``id`` is what the vendor calls it; empty where it has no name for it.
    """

    id: str
    name: str
    arguments: str


class LanguageModel(Prewarmed, ABC):
    """A model that answers.

    One that knows no tools may leave ``tools`` out of its ``stream``: it is passed only where there are any.
    """

    provider: str
    model: str

    @abstractmethod
    def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolDefinition] = ()
    ) -> AbstractAsyncContextManager[AsyncIterator[str | ToolCall]]:
        """Open the streamed answer to a conversation; iterating yields text as it is generated.

        A tool that the model wants called is yielded whole. After the end the caller runs them, adds what they gave
        to the messages, and asks again. Leaving the context, by its end or by cancellation, stops the generation.

        Raises:
            ProviderError: the model failed, before or while answering.
        """

    async def connect(self) -> None:
        """Open what the next answer would otherwise wait for, such as a connection; asked in each call, in advance.

        Raises:
            ProviderError: it could not be had; the next answer says so again.
        """


# Synthesis ------------------------------------------------------------------------------------------------------------
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
    differs from the recipe's ``emits``: a recipe that stands for several synthesisers sets it, any other leaves it None.
    """

    audio: bytes
    text: str = ""
    words: tuple[Word, ...] = ()
    format: AudioFormat | None = None


class SynthesisSession(ABC):
    """Synthesis for one call; the replies of a call come one after another, but an abandoned one may still be closing."""

    @abstractmethod
    def speak(self, sentences: AsyncIterable[str]) -> AbstractAsyncContextManager[AsyncIterator[SpeechChunk]]:
        """Open the speech of one reply; iterating yields its audio, in the recipe's ``emits``, as it is made.

        ``sentences`` arrive while the reply is being thought; the iteration ends when they have ended and all is said.
        Leaving the context, by its end or by cancellation, stops the synthesis.

        Raises:
            ProviderError: the synthesiser failed.
        """


class TextToSpeech(Prewarmed, ABC):
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
    def open(self, *, language: str) -> AbstractAsyncContextManager[SynthesisSession]:
        """Open a session for one call; ``language`` is a BCP 47 tag.

        Raises:
            ProviderError: no session could be had.
        """


# Engines --------------------------------------------------------------------------------------------------------------
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
    def hear(self, audio: bytes) -> None:
        """Take the caller's next audio, in the format that the recipe announces in ``accepts``.

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


class Engine(Prewarmed, ABC):
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


# The carrier's stream -------------------------------------------------------------------------------------------------
@attrs.frozen
class StreamStarted:
    """The carrier's media stream opens: ids of stream and call, and the parameters that we gave it."""

    stream_id: str
    call_id: str
    parameters: Mapping[str, str] = attrs.field(repr=False)  # the token is one of them


@attrs.frozen
class AudioReceived:
    """The caller's voice: mu-law at 8 kHz, usually 20 ms."""

    audio: bytes


@attrs.frozen
class MarkReached:
    """All that was sent before the mark of this name has left the carrier's buffer, by playing or by clearing."""

    name: str


@attrs.frozen
class DigitPressed:
    """The caller pressed a key: 0-9, ``*``, ``#`` or A-D."""

    digit: str


@attrs.frozen
class StreamStopped:
    """The carrier ends the stream."""


StreamEvent = StreamStarted | AudioReceived | MarkReached | DigitPressed | StreamStopped


class StreamCodec(ABC):
    """One carrier's media-stream protocol without I/O: messages in, events out; intentions in, messages out.

    One codec serves one stream. ``audio``, ``mark`` and ``clear`` may be used once ``StreamStarted`` has come.
    """

    @abstractmethod
    def receive(self, message: str | bytes) -> StreamEvent | None:
        """Return what a message of the carrier means; None for one that is legal and of no interest.

        Raises:
            WireError: the protocol does not allow it.
        """

    @abstractmethod
    def audio(self, mulaw: bytes) -> str:
        """Return the message that plays mu-law audio to the caller, after all that was sent before."""

    @abstractmethod
    def mark(self, name: str) -> str:
        """Return the message that asks for a :class:`MarkReached`."""

    @abstractmethod
    def clear(self) -> str:
        """Return the message that empties the carrier's buffer, so that the caller hears silence at once."""


# What was used --------------------------------------------------------------------------------------------------------
@attrs.frozen(kw_only=True)
class Usage:
    """What a provider says that it will bill, for one request or for what has come since its last report.

    Each token and second is counted once: tokens that were read from a cache are not input tokens as well. ``cost``, where
    the provider tells the amount itself (USD), beats any table. ``model`` is the one that is billed, if it is another than
    the recipe's.
    """

    stage: Literal["stt", "llm", "tts"]
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    audio_cache_read_tokens: int = 0
    seconds: float = 0.0
    """Of audio, where a recogniser bills by time."""
    characters: int = 0
    """Of text, where a synthesiser bills by length."""
    cost: float | None = None
    model: str = ""


usage_sink: ContextVar[Callable[[Usage], None] | None] = ContextVar("usage_sink", default=None)
"""Who takes note of what a provider reports: set by the call around all that it opens."""


def report_usage(usage: Usage) -> None:
    """Report what was used, from within a session: once for each request, or each time that the vendor says more.

    What is reported while a reply is made counts for this reply. What was reported takes the place of the estimate that
    the call makes otherwise. Outside any call it does nothing; it never waits and never raises.
    """
    sink = usage_sink.get()
    if sink is not None:
        sink(usage)
