"""What observers are told: the seven speech edges, the callbacks, and the public states.

Every payload carries ``call_id``. ``timestamp_ms`` is epoch milliseconds, ``audio_offset_ms`` milliseconds since the
call's first media frame. A key that does not apply is absent, never None.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, Literal, NotRequired, TypedDict

from patter_trio.conversation.actions import EouTrigger
from patter_trio.conversation.history import Entry
from patter_trio.events import edges
from patter_trio.metrics.results import CallMetrics, CostBreakdown, TurnMetrics

UserState = Literal["listening", "speaking", "thinking", "away"]
AgentState = Literal["initializing", "idle", "listening", "thinking", "speaking"]

SpeechEventCallback = Callable[[dict[str, Any]], Awaitable[None] | None]
"""A callback of an edge: sync or async; it gets the payload, a dict of its own."""


class ConversationStateSnapshot(TypedDict):
    """Who is doing what."""

    user: str
    agent: str


INITIAL_STATE: Final[Mapping[str, str]] = {"user": "listening", "agent": "initializing"}
"""The state before a call is accepted."""


class UserSpeechStartedEvent(TypedDict):
    """Voice activity began; not yet an utterance."""

    call_id: str
    timestamp_ms: int
    audio_offset_ms: int
    vad_confidence: NotRequired[float]


class UserSpeechEndedEvent(TypedDict):
    """Voice activity ended; the caller may go on in a moment."""

    call_id: str
    timestamp_ms: int
    speech_duration_ms: int
    audio_offset_ms: int
    vad_confidence: NotRequired[float]


class UserSpeechEosEvent(TypedDict):
    """The utterance is over: the decision that the caller has finished."""

    call_id: str
    timestamp_ms: int
    trigger: EouTrigger
    trailing_silence_ms: int
    transcript_so_far: str


class LlmTokenEvent(TypedDict):
    """The first text of the turn's reply."""

    call_id: str
    timestamp_ms: int
    turn_idx: int
    llm_provider: str
    model: str


class AudioOutEvent(TypedDict):
    """The first audio of the turn's reply was synthesised; it is not on the wire yet."""

    call_id: str
    timestamp_ms: int
    turn_idx: int
    tts_provider: str


class AgentSpeechStartedEvent(TypedDict):
    """The first audio of the reply is on the wire."""

    call_id: str
    timestamp_ms: int
    turn_idx: int
    tts_provider: str


class AgentSpeechEndedEvent(TypedDict):
    """The caller hears nothing more of the reply; ``speech_duration_ms`` is what was played."""

    call_id: str
    timestamp_ms: int
    turn_idx: int
    speech_duration_ms: int
    interrupted: bool


class CallStartEvent(TypedDict):
    """``on_call_start``: the call is there. What it returns (a dict) changes the agent for this call."""

    call_id: str
    caller: str
    callee: str
    direction: Literal["inbound", "outbound"]
    custom_params: dict[str, str]
    telephony_provider: str


class CallEndEvent(TypedDict):
    """``on_call_end``: exactly once for each call that started."""

    call_id: str
    caller: str
    callee: str
    direction: Literal["inbound", "outbound"]
    ended_at: float
    transcript: list[Entry]
    metrics: CallMetrics | None
    tool_calls: list[dict[str, Any]]
    outcome: str
    error: NotRequired[str]


class TranscriptEvent(TypedDict):
    """``on_transcript``: the caller's committed words, or those of the agent's that were heard."""

    call_id: str
    role: Literal["user", "assistant"]
    text: str
    history: list[Entry]


class MetricsEvent(TypedDict):
    """``on_metrics``: a turn is over, after its ``on_transcript``; what the call has cost up to here."""

    call_id: str
    turn: TurnMetrics
    cost_so_far: CostBreakdown


class MessageEvent(TypedDict):
    """``on_message``: the caller's words, to be answered."""

    call_id: str
    caller: str
    callee: str
    text: str
    history: list[Entry]


EDGES: Final = edges.EDGES
"""The seven edges; each is told to ``Patter.on_<name>``, and is lossy when observers cannot keep up."""

Tap = Callable[[float, str, dict[str, Any]], None]
"""Sees everything at once: seconds since the media start, name, payload. For the launcher and the test kit."""

seen_state: ContextVar[ConversationStateSnapshot | None] = ContextVar("seen_state", default=None)
"""Within a callback: the state as it was when its event fired."""
