"""Every extension point: the interfaces of VAD, STT, LLM, TTS, turn detector, engine and carrier.

An :class:`~patter_trio.agent.agent.Agent` holds *providers*: frozen, shared by all calls, without state of any one
call. Each call opens its own session from a provider, inside the call's nursery, and closes it by leaving the ``async
with``.

Rules for every implementation:

* Raise failures of the vendor or model as :class:`~patter_trio.errors.ProviderError` (or a subclass) from the original
  error. Besides that, only :class:`trio.Cancelled` may leave a session.
* Every await must be cancellable and leave at once when cancelled. After a cancellation, the call only closes the
  session.
* No task may outlive the ``async with`` that opened it.
* A session may report what it will bill with :func:`report_usage`. If it does not, the call estimates the cost.
"""

from patter_trio.abc._call_info import CallInfo, Direction
from patter_trio.abc._carrier import Carrier
from patter_trio.abc._common import Message, Prewarmable
from patter_trio.abc._dialling import Dialled, DialRequest, MachineDetection, NumberSetup
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
from patter_trio.abc._page_calls import CallTicket, HoldPageText, PageCalls, PageTextCall
from patter_trio.abc._recognition import RecognitionProgress, SpeechToText, SpeechToTextSession, Transcript
from patter_trio.abc._streams import (
    AudioReceived,
    DigitPressed,
    MarkReached,
    StreamCodec,
    StreamEvent,
    StreamStarted,
    StreamStopped,
)
from patter_trio.abc._synthesis import SpeechChunk, TextToSpeech, TextToSpeechSession, Word
from patter_trio.abc._usage import Usage, report_usage
from patter_trio.abc._voice import TurnDetector, VoiceActivity, VoiceActivitySession, VoiceEdge
from patter_trio.abc._webhooks import (
    AnsweredBy,
    CallOffered,
    CallReturned,
    CallRinging,
    CallStatus,
    CarrierReport,
    CarrierRequest,
    CostReported,
    DocumentWanted,
    Form,
    MachineDetected,
    PartyReached,
    PartyUnreached,
    RecordingSaved,
    StreamFailed,
    WebhookKind,
    stream_reference,
)
from patter_trio.abc._windows import (
    AudioStream,
    CallArchive,
    CallPage,
    CallQuery,
    CallSummary,
    DayStats,
    EventRecord,
    EventStream,
    LiveCall,
    LiveCalls,
)

__all__ = [
    "AnsweredBy",
    "AudioReceived",
    "AudioStream",
    "CallArchive",
    "CallInfo",
    "CallOffered",
    "CallPage",
    "CallQuery",
    "CallReturned",
    "CallRinging",
    "CallStatus",
    "CallSummary",
    "CallTicket",
    "Carrier",
    "CarrierReport",
    "CarrierRequest",
    "CostReported",
    "DayStats",
    "DialRequest",
    "Dialled",
    "DigitPressed",
    "Direction",
    "DocumentWanted",
    "Engine",
    "EngineEvent",
    "EngineResponse",
    "EngineSession",
    "EngineSetup",
    "EngineTurnOver",
    "EngineWords",
    "EventRecord",
    "EventStream",
    "Form",
    "HoldPageText",
    "LanguageModel",
    "LiveCall",
    "LiveCalls",
    "MachineDetected",
    "MachineDetection",
    "MarkReached",
    "Message",
    "NumberSetup",
    "PageCalls",
    "PageTextCall",
    "PartyReached",
    "PartyUnreached",
    "Prewarmable",
    "RecognitionProgress",
    "RecordingSaved",
    "SpeechChunk",
    "SpeechToText",
    "SpeechToTextSession",
    "StreamCodec",
    "StreamEvent",
    "StreamFailed",
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
    "WebhookKind",
    "Word",
    "report_usage",
    "stream_reference",
]
