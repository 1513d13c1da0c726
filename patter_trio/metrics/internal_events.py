"""Internal events of a call: what happened, for everyone who observes a call from inside, one frozen class for each.

The call builds events and hands them to its :class:`~patter_trio.events.reporter.CallReporter`. The meter, the trace
and the event bus choose what they need by class, so that a misspelt field fails in the type checker, not in a call. An
internal event has no callback, but some appear on the event bus, too. Together with those of ``public_events.py`` they
are everything that observers get of a call.

The classes stand beside the meter because it is the lowest of the three readers: ``events`` and ``tracing`` lie above
``metrics``, and every module that builds an event lies above all of them.

The instant is not part of an event: it is passed with it, in seconds on the call's clock. ``reply`` is the number of
the reply within its call, ``turn_idx`` the number of the turn.
"""

from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

import attrs

from patter_trio.abc import Usage
from patter_trio.metrics.public_events import PublicEvent

ProviderKind = Literal["stt", "tts", "engine"]
"""A kind of provider with a session for the whole call."""
AnswerKind = Literal["llm", "on_message", "text", "error"]
"""What makes a reply: the LLM or the engine, the application's ``on_message``, a fixed text, or the apology."""


# The caller -----------------------------------------------------------------------------------------------------------
@attrs.frozen
class AgentReady:
    """The call's providers are settled; a part that the agent does not have is an empty string."""

    stt_provider: str
    stt_model: str
    tts_provider: str
    tts_model: str
    llm_provider: str
    llm_model: str
    provider_mode: str
    """``pipeline``, or the engine's provider."""
    # Its length alone: observers must not hold what the application has written into it.
    prompt_characters: int
    """The length of the system prompt, in characters."""


@attrs.frozen
class VoiceOnset:
    """The caller's voice began; comes before :class:`UserSpeechStarted`, which rounds the offset."""

    offset: float
    """Seconds since the first media frame, exact."""


@attrs.frozen
class WordsFinal:
    """The STT gave a final result."""

    text: str


@attrs.frozen
class UtteranceOver:
    """The utterance is over; comes before :class:`UserSpeechEos`, which rounds the silence."""

    silence: float
    """Seconds since the caller's last voice, exact."""


@attrs.frozen
class WordlessUtterance:
    """The engine found no words in the newest utterance."""


@attrs.frozen
class LateWords:
    """The next :class:`TranscriptCommitted` of the caller belongs to an earlier utterance than the newest."""


# Replies --------------------------------------------------------------------------------------------------------------
@attrs.frozen
class ReplyStarted:
    """A reply began."""

    reply: int
    turn_idx: int
    source: AnswerKind
    llm_provider: str = ""
    """The provider that answers, as in :class:`LlmToken`; empty for a fixed text."""
    model: str = ""
    """The model, or the name of the application's function; empty for a fixed text."""


@attrs.frozen
class LlmStarted:
    """The LLM, or the application, is asked."""

    reply: int
    turn_idx: int


@attrs.frozen
class LlmChunk:
    """A piece of the reply's text arrived."""

    reply: int
    turn_idx: int
    text: str


@attrs.frozen
class LlmCalledTools:
    """The LLM called tools, perhaps without any text before."""

    reply: int
    turn_idx: int


@attrs.frozen
class LlmFinished:
    """The answer's text is complete, or stops for tools."""

    reply: int
    turn_idx: int


@attrs.frozen
class LlmFailed:
    """The LLM, or the application, raised."""

    reply: int
    turn_idx: int
    error: str
    """The name of the exception's class: a message might quote what was said."""


@attrs.frozen
class ReplyFailure:
    """A reply failed, or gave no audio in time."""

    reply: int
    turn_idx: int
    reason: str = attrs.field(repr=False)
    """The text of the error, which may quote what was said: for the terminal of a simulated call, never for a trace."""


@attrs.frozen
class SentenceStarted:
    """A sentence was sent to the TTS."""

    reply: int
    turn_idx: int
    text: str


@attrs.frozen
class TtsFirstAudio:
    """The reply's first audio was made."""

    reply: int
    turn_idx: int


@attrs.frozen
class TtsFinished:
    """All of the reply is synthesised."""

    reply: int
    turn_idx: int


@attrs.frozen
class TtsFailed:
    """The TTS raised, or ended before its text did."""

    reply: int
    turn_idx: int
    error: str
    """The name of the exception's class."""


@attrs.frozen
class TtsChunk:
    """Audio was written to the carrier."""

    reply: int
    turn_idx: int
    audio: bytes
    """Mu-law at 8 kHz."""


@attrs.frozen
class SpeechHeard:
    """The carrier has returned a mark: the caller has heard this of a reply that goes on."""

    reply: int
    turn_idx: int
    text: str = attrs.field(repr=False)
    """All of the reply that was heard so far, in whole words."""


@attrs.frozen
class ReplyHeard:
    """The next :class:`TranscriptCommitted` of the agent is what was heard of this reply."""

    reply: int
    turn_idx: int


@attrs.frozen
class ReplyEnded:
    """A reply is over."""

    reply: int
    turn_idx: int
    reason: str
    """``played``, or the reason for the cut."""


@attrs.frozen
class ReplyInterrupted:
    """A reply that the caller was hearing was cut; comes behind :class:`AgentSpeechEnded`."""

    turn_idx: int
    text: str
    """The words of it that the caller heard."""
    speech_duration_ms: int
    """How much of it was played, in milliseconds."""
    reason: str
    """Why it was cut, as in :class:`ReplyEnded`."""


@attrs.frozen
class UsageReported:
    """A provider reported what it will bill."""

    usage: Usage
    reply: int | None = None
    """The reply to which the usage belongs; None if it belongs to no reply."""


# Hooks and tools ------------------------------------------------------------------------------------------------------
@attrs.frozen
class HookCalled:
    """A hook returned, raised or timed out."""

    name: str
    seconds: float
    """How long it took."""


@attrs.frozen
class TurnVetoed:
    """``after_transcribe`` dropped the caller's words: they get no answer."""

    reply: int
    turn_idx: int


@attrs.frozen
class SentenceBlocked:
    """A guardrail blocked a sentence."""

    reply: int
    turn_idx: int
    name: str
    """The guardrail's name."""


@attrs.frozen
class ToolCallStarted:
    """A tool is being called."""

    name: str
    tool_call_id: str
    arguments: Any
    """A dict; the text that the LLM wrote if it is not a valid JSON object."""
    known: bool = True
    """True if the agent has a tool of that name; otherwise name and id are the LLM's own text."""


@attrs.frozen(kw_only=True)
class ToolCallCompleted:
    """A tool answered, failed, or was ended."""

    name: str
    tool_call_id: str
    arguments: Any
    """As in :class:`ToolCallStarted`."""
    result: Any
    """The tool's result; None if it failed."""
    duration: float
    """Seconds."""
    error: str = ""
    """What went wrong; empty if nothing did."""


# Providers ------------------------------------------------------------------------------------------------------------
@attrs.frozen
class ProviderFailed:
    """A session of a provider could not be opened, or was lost, whether or not another one took its place.

    A failed reply is an :class:`LlmFailed` or a :class:`TtsFailed` instead.
    """

    kind: ProviderKind
    provider: str
    error: str
    """The name of the exception's class."""


# The call -------------------------------------------------------------------------------------------------------------
@attrs.frozen
class CallFailed:
    """Something went wrong that ends the call; only the first failure counts."""

    error: str
    """The name of the exception's class, or another name of the failure."""


@attrs.frozen
class RecordingReported:
    """The carrier has saved a recording of the call, perhaps long after its end."""

    recording_id: str
    url: str = attrs.field(repr=False)
    duration: float | None
    """Seconds; None if the carrier does not say."""


@attrs.frozen
class CostKnown:
    """The carrier has said what it charges for the call, perhaps after its end."""

    cost_usd: float


# Closed, so that the type checker refuses a rule for anything else.
InternalEvent = (
    AgentReady
    | VoiceOnset
    | WordsFinal
    | UtteranceOver
    | WordlessUtterance
    | LateWords
    | ReplyStarted
    | LlmStarted
    | LlmChunk
    | LlmCalledTools
    | LlmFinished
    | LlmFailed
    | ReplyFailure
    | SentenceStarted
    | TtsFirstAudio
    | TtsFinished
    | TtsFailed
    | TtsChunk
    | SpeechHeard
    | ReplyHeard
    | ReplyEnded
    | ReplyInterrupted
    | UsageReported
    | HookCalled
    | TurnVetoed
    | SentenceBlocked
    | ToolCallStarted
    | ToolCallCompleted
    | ProviderFailed
    | CallFailed
    | RecordingReported
    | CostKnown
)
"""An event without a callback."""
EmitFact = Callable[[InternalEvent], None]
"""Reports an internal event (``events/reporter.py``), at this instant."""
CallEvent = PublicEvent | InternalEvent
"""An event that observers of a call get."""

Result = TypeVar("Result")
Event = TypeVar("Event", bound=CallEvent)


class EventTable(Generic[Result]):
    """A table of rules for events by their class: one dictionary look-up, however many classes there are.

    The type checker compares the parameter of each rule with its class.
    """

    def __init__(self) -> None:
        self.rules: dict[type[Any], Callable[[Any, float], Result]] = {}
        """The rule for each class. Observers look it up directly, up to a hundred times a second in each call."""

    def on(self, kind: type[Event], rule: Callable[[Event, float], Result]) -> None:
        """Add the rule for a class of events; it is called with an event and its instant."""
        # One rule for each class: an observer that wants to do two things does them in one function, in its own order.
        self.rules[kind] = rule
