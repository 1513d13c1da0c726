"""The payloads of callbacks and of the event bus, as TypedDicts, and the public states.

Every payload carries ``call_id``. ``timestamp_ms`` is Unix time in milliseconds, ``audio_offset_ms`` milliseconds since
the call's first media frame. A key that does not apply is absent, never None. ``events/rendering.py`` makes the
payloads.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, Literal, NotRequired, TypedDict

from patter_trio.conversation.actions import EouTrigger
from patter_trio.conversation.history import Entry
from patter_trio.events import edges
from patter_trio.events.turns import TurnEndReason
from patter_trio.metrics.results import CallMetrics, CostBreakdown, TurnMetrics

# In the order of the dashboard's list.
OUTCOMES: Final = (
    "completed",
    "caller_hung_up",
    "agent_hung_up",
    "transferred",
    "silence",
    "voicemail",
    "no_answer",
    "busy",
    "rejected",
    "failed",
    "cancelled",
)
"""The outcomes of calls; docs/callbacks.md and docs/outbound.md describe them."""
UserState = Literal["listening", "speaking", "thinking", "away"]
# "listening" belongs to the promised states (docs/events.md), although no rule here leads to it.
AgentState = Literal["initializing", "idle", "listening", "thinking", "speaking"]

SpeechEventCallback = Callable[..., Awaitable[None] | None]
"""A callback for a speech edge, sync or async.

It is called with a copy of the payload, whose parameter may be typed as its TypedDict, and with the call's
``CallControl`` if it takes a second parameter.
"""


class ConversationStateSnapshot(TypedDict):
    """The public states of the caller and of the agent."""

    user: str
    agent: str


INITIAL_STATE: Final[Mapping[str, str]] = {"user": "listening", "agent": "initializing"}
"""The state before a call is accepted."""


# The seven speech edges -----------------------------------------------------------------------------------------------
class UserSpeechStartedEvent(TypedDict):
    """``on_user_speech_started``: voice activity began; it is not an utterance yet."""

    call_id: str
    timestamp_ms: int
    audio_offset_ms: int
    vad_confidence: NotRequired[float]
    """The detector's probability, 0 to 1."""


class UserSpeechEndedEvent(TypedDict):
    """``on_user_speech_ended``: voice activity ended; the caller may go on in a moment."""

    call_id: str
    timestamp_ms: int
    speech_duration_ms: int
    audio_offset_ms: int
    vad_confidence: NotRequired[float]
    """The detector's probability, 0 to 1."""


class UserSpeechEosEvent(TypedDict):
    """``on_user_speech_eos``: the utterance is over, the decision that the caller has finished."""

    call_id: str
    timestamp_ms: int
    trigger: EouTrigger
    trailing_silence_ms: NotRequired[int]
    """Absent where an adapter fired the edge without it."""
    transcript_so_far: NotRequired[str]
    """Absent while no words are known."""


class LlmTokenEvent(TypedDict):
    """``on_llm_token``: the first token of the turn's reply, a text or a tool call."""

    call_id: str
    timestamp_ms: int
    turn_idx: int
    llm_provider: str
    model: str


class AudioOutEvent(TypedDict):
    """``on_audio_out``: the first audio of the turn's reply was made; it is not on the wire yet."""

    call_id: str
    timestamp_ms: int
    turn_idx: int
    tts_provider: str


class AgentSpeechStartedEvent(TypedDict):
    """``on_agent_speech_started``: the first audio of the reply is on the wire."""

    call_id: str
    timestamp_ms: int
    turn_idx: int
    tts_provider: NotRequired[str]
    """The TTS that speaks, if one does."""
    engine: NotRequired[str]
    """The engine that speaks, if one does."""


class AgentSpeechEndedEvent(TypedDict):
    """``on_agent_speech_ended``: the caller hears nothing more of the reply."""

    call_id: str
    timestamp_ms: int
    turn_idx: int
    speech_duration_ms: int
    """How much of the reply was played."""
    interrupted: bool


# The callbacks of serve() ---------------------------------------------------------------------------------------------
class CallStartEvent(TypedDict):
    """``on_call_start`` and CALL_STARTED. A dict that ``on_call_start`` returns changes the agent for this call."""

    call_id: str
    caller: str
    callee: str
    direction: Literal["inbound", "outbound"]
    custom_params: dict[str, str]
    telephony_provider: str


class CallEndEvent(TypedDict):
    """``on_call_end``, exactly once for each announced call, and CALL_ENDED."""

    call_id: str
    caller: str
    callee: str
    direction: Literal["inbound", "outbound"]
    ended_at: float
    """Unix time in seconds."""
    transcript: list[Entry]
    metrics: CallMetrics | None
    tool_calls: list[dict[str, Any]]
    outcome: str
    error: NotRequired[str]


class TranscriptEvent(TypedDict):
    """``on_transcript`` and TRANSCRIPT_FINAL: the caller's committed words, or what the caller heard of the agent's."""

    call_id: str
    role: Literal["user", "assistant"]
    text: str
    history: list[Entry]
    revises: NotRequired[bool]
    """True if the words take the place of those of the caller that were reported before: more of the utterance came, or
    words were misheard. Absent otherwise."""


class MessageEvent(TypedDict):
    """``on_message``: the caller's words, to be answered."""

    call_id: str
    caller: str
    callee: str
    text: str
    history: list[Entry]


class MetricsEvent(TypedDict):
    """``on_metrics`` and METRICS_COLLECTED: a turn is over, after its ``on_transcript``."""

    call_id: str
    turn: TurnMetrics
    cost_so_far: CostBreakdown
    """What the call has cost up to here."""


class DtmfEvent(TypedDict):
    """``on_dtmf`` and DTMF_RECEIVED: the caller pressed a key."""

    call_id: str
    digit: str


class MachineDetectionEvent(TypedDict):
    """``on_machine_detection`` and MACHINE_DETECTED: who has answered a call that we placed, as the carrier finds."""

    call_id: str
    answered_by: str
    greeting_ended: bool


# The event bus alone --------------------------------------------------------------------------------------------------
# ``reply`` is the number of the reply within its call: a retracted reply and the next one have different numbers.
class TranscriptPartialEvent(TypedDict):
    """TRANSCRIPT_PARTIAL: words that may still change."""

    call_id: str
    timestamp_ms: int
    text: str


class LlmChunkEvent(TypedDict):
    """LLM_CHUNK: a piece of the reply's text, as the LLM or ``on_message`` gave it."""

    call_id: str
    timestamp_ms: int
    turn_idx: int
    reply: int
    text: str


class TtsChunkEvent(TypedDict):
    """TTS_CHUNK: mu-law at 8 kHz, as it was written to the carrier."""

    call_id: str
    timestamp_ms: int
    turn_idx: int
    reply: int
    audio: bytes


class ToolCallStartedEvent(TypedDict):
    """TOOL_CALL_STARTED: a tool is being called."""

    call_id: str
    timestamp_ms: int
    name: str
    tool_call_id: str
    arguments: Any
    """A dict; the text that the LLM wrote if it is not a valid JSON object."""


class ToolCallCompletedEvent(TypedDict):
    """TOOL_CALL_COMPLETED: the tool answered, failed, or was cancelled."""

    call_id: str
    timestamp_ms: int
    name: str
    tool_call_id: str
    arguments: Any
    result: Any
    duration: float
    """Seconds."""
    error: NotRequired[str]


class TurnStartedEvent(TypedDict):
    """TURN_STARTED: an utterance of the caller is over, or the agent speaks first."""

    call_id: str
    timestamp_ms: int
    turn_idx: int


class TurnEndedEvent(TypedDict):
    """TURN_ENDED: the turn's reply is over."""

    call_id: str
    timestamp_ms: int
    turn_idx: int
    reason: TurnEndReason


class InterruptionEvent(TypedDict):
    """INTERRUPTION: a reply that the caller was hearing was cut.

    ``text`` and ``speech_duration_ms`` are the part of the reply that the caller heard. ``reason`` is the cause: the
    caller (``barge-in``), the application (``say``), the end of the call (``leg down``, ``goodbye``), or a failure
    (``failed``).
    """

    call_id: str
    timestamp_ms: int
    turn_idx: int
    text: str
    speech_duration_ms: int
    reason: str


class RecordingSavedEvent(TypedDict):
    """RECORDING_SAVED: the carrier has saved a recording of the call, perhaps after its end."""

    call_id: str
    timestamp_ms: int
    recording_id: str
    url: str
    """Where it can be fetched, as the carrier gives it: most want the account's credentials."""
    duration: NotRequired[float]
    """Seconds; absent if the carrier does not say."""


class CostReportedEvent(TypedDict):
    """COST_REPORTED: what the carrier charges for the call, perhaps after its end."""

    call_id: str
    timestamp_ms: int
    cost_usd: float


EDGES: Final = edges.EDGES
"""The seven edges; each has a callback ``Patter.on_<name>``, and is lossy when callbacks cannot keep up."""

Tap = Callable[[float, str, dict[str, Any]], None]
"""Gets every event at once: seconds since the media start, name, payload. For the launcher and the test kit."""

# A context variable and not an argument: an adapter deep below the callback may ask for the state.
seen_state: ContextVar[ConversationStateSnapshot | None] = ContextVar("seen_state", default=None)
"""The public states at the instant of the event, within its callback; None elsewhere."""
