"""Every extension point: what a voice detector, recogniser, mind, synthesiser, engine and carrier stream must do.

What an :class:`~patter_trio.agent.agent.Agent` holds are *providers*: frozen, shared by all calls, without per-call state.
Each call opens its own session from a provider, inside the call's nursery, and closes it by leaving the ``async with``.

Rules for every implementation:

* Failures of the vendor or model are raised as :class:`~patter_trio.errors.ProviderError` (or a subclass) with the
  cause kept; nothing else may leave a session but :class:`trio.Cancelled`.
* Every await can be cancelled, and leaves at once when it is; a session that was cancelled is only closed.
* No task outlives the ``async with`` that opened it.
* A session may say what it will bill, by :func:`report_usage`; where it does not, the cost is estimated.
"""

from patter_trio.abc._carrier import (
    AudioReceived,
    CallInfo,
    Carrier,
    DigitPressed,
    Direction,
    Form,
    MarkReached,
    StreamCodec,
    StreamEvent,
    StreamStarted,
    StreamStopped,
)
from patter_trio.abc._common import Message, Prewarmable
from patter_trio.abc._engine import (
    Engine,
    EngineEvent,
    EngineResponse,
    EngineSession,
    EngineSetup,
    EngineTurnOver,
    EngineWords,
)
from patter_trio.abc._language_model import LanguageModel, ToolCall, ToolDefinition
from patter_trio.abc._recognition import SpeechToText, SpeechToTextSession, Transcript
from patter_trio.abc._synthesis import SpeechChunk, TextToSpeech, TextToSpeechSession, Word
from patter_trio.abc._usage import Usage, report_usage, usage_sink
from patter_trio.abc._voice import TurnDetector, VoiceActivity, VoiceActivitySession, VoiceEdge

__all__ = [
    "AudioReceived",
    "CallInfo",
    "Carrier",
    "DigitPressed",
    "Direction",
    "Engine",
    "EngineEvent",
    "EngineResponse",
    "EngineSession",
    "EngineSetup",
    "EngineTurnOver",
    "EngineWords",
    "Form",
    "LanguageModel",
    "MarkReached",
    "Message",
    "Prewarmable",
    "SpeechChunk",
    "SpeechToText",
    "SpeechToTextSession",
    "StreamCodec",
    "StreamEvent",
    "StreamStarted",
    "StreamStopped",
    "TextToSpeech",
    "TextToSpeechSession",
    "ToolCall",
    "ToolDefinition",
    "Transcript",
    "TurnDetector",
    "Usage",
    "VoiceActivity",
    "VoiceActivitySession",
    "VoiceEdge",
    "Word",
    "report_usage",
    "usage_sink",
]
