"""AI agents on phone lines: structured concurrency from the ground up.

This module exports the names that programs use. Import everything else from its own module.
"""

from typing import TYPE_CHECKING

from patter_trio._lazy import lazy_exports

if TYPE_CHECKING:
    from patter_trio.agent.agent import Agent
    from patter_trio.agent.guardrails import Guardrail, guardrail
    from patter_trio.agent.hooks import HookContext, PatterDeprecationWarning, PipelineHooks
    from patter_trio.agent.keypad import Keypad
    from patter_trio.agent.menu import Menu
    from patter_trio.agent.tools import Tool, end_call, tool
    from patter_trio.agent.transfer_tool import transfer_call
    from patter_trio.agent.warm_transfer import WarmTransfer
    from patter_trio.call.control import CallControl
    from patter_trio.call.tools.context import ToolContext
    from patter_trio.call_log.options import CallLog
    from patter_trio.carriers.plivo import Plivo
    from patter_trio.carriers.telnyx import Telnyx
    from patter_trio.carriers.twilio import Twilio
    from patter_trio.conversation.actions import EouTrigger
    from patter_trio.conversation.sentences import SentenceChunker
    from patter_trio.conversation.text import filter_emoji, filter_for_tts, filter_markdown
    from patter_trio.engines.openai_realtime import OpenAIRealtime
    from patter_trio.errors import (
        AuthenticationError,
        CallEnded,
        CallLogError,
        ConfigurationError,
        MissingExtraError,
        PatterConnectionError,
        PatterError,
        ProviderError,
        ProviderTimeout,
        ProvisionError,
        RateLimitError,
        TransferError,
        WireError,
    )
    from patter_trio.events.bus import EventBus
    from patter_trio.events.kinds import PatterEventType
    from patter_trio.events.payloads import (
        AgentSpeechEndedEvent,
        AgentSpeechStartedEvent,
        AgentState,
        AudioOutEvent,
        CallEndEvent,
        CallStartEvent,
        ConversationStateSnapshot,
        CostReportedEvent,
        DtmfEvent,
        InterruptionEvent,
        LlmChunkEvent,
        LlmTokenEvent,
        MachineDetectionEvent,
        MessageEvent,
        MetricsEvent,
        RecordingSavedEvent,
        SpeechEventCallback,
        ToolCallCompletedEvent,
        ToolCallStartedEvent,
        TranscriptEvent,
        TranscriptPartialEvent,
        TtsChunkEvent,
        TurnEndedEvent,
        TurnStartedEvent,
        UserSpeechEndedEvent,
        UserSpeechEosEvent,
        UserSpeechStartedEvent,
        UserState,
    )
    from patter_trio.events.speech_events import SpeechEvents
    from patter_trio.integrations.ivr import IVRActivity, press_keys
    from patter_trio.integrations.phone_tool import PatterTool
    from patter_trio.integrations.schedules import ScheduleHandle, schedule_cron, schedule_interval, schedule_once
    from patter_trio.llm.chat_context import ChatContext
    from patter_trio.llm.openai import OpenAILLM
    from patter_trio.metrics.results import CallMetrics, CostBreakdown, LatencyBreakdown, TurnMetrics
    from patter_trio.phone import Patter
    from patter_trio.providers.fallback import Fallback
    from patter_trio.server.outbound_call import OutboundCall
    from patter_trio.stt.deepgram import DeepgramSTT
    from patter_trio.stt.whisper import WhisperSTT
    from patter_trio.tracing.setup import init_tracing, shutdown_tracing
    from patter_trio.tts.elevenlabs import ElevenLabsTTS
    from patter_trio.tts.piper import PiperTTS
    from patter_trio.turn.smart_turn import SmartTurn
    from patter_trio.user_code.invoke import in_thread
    from patter_trio.vad.silero import SileroVAD
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "patter_trio.agent.agent": ("Agent",),
            "patter_trio.call.control": ("CallControl",),
            "patter_trio.call.tools.context": ("ToolContext",),
            "patter_trio.call_log.options": ("CallLog",),
            "patter_trio.user_code.invoke": ("in_thread",),
            "patter_trio.carriers.plivo": ("Plivo",),
            "patter_trio.carriers.telnyx": ("Telnyx",),
            "patter_trio.carriers.twilio": ("Twilio",),
            "patter_trio.integrations.phone_tool": ("PatterTool",),
            "patter_trio.integrations.schedules": (
                "ScheduleHandle",
                "schedule_cron",
                "schedule_interval",
                "schedule_once",
            ),
            "patter_trio.llm.chat_context": ("ChatContext",),
            "patter_trio.phone": ("Patter",),
            "patter_trio.server.outbound_call": ("OutboundCall",),
            "patter_trio.conversation.actions": ("EouTrigger",),
            "patter_trio.conversation.sentences": ("SentenceChunker",),
            "patter_trio.conversation.text": ("filter_emoji", "filter_for_tts", "filter_markdown"),
            "patter_trio.engines.openai_realtime": ("OpenAIRealtime",),
            "patter_trio.errors": (
                "AuthenticationError",
                "CallEnded",
                "CallLogError",
                "ConfigurationError",
                "MissingExtraError",
                "PatterConnectionError",
                "PatterError",
                "ProviderError",
                "ProviderTimeout",
                "ProvisionError",
                "RateLimitError",
                "TransferError",
                "WireError",
            ),
            "patter_trio.events.bus": ("EventBus",),
            "patter_trio.events.kinds": ("PatterEventType",),
            "patter_trio.events.payloads": (
                "AgentSpeechEndedEvent",
                "AgentSpeechStartedEvent",
                "AgentState",
                "AudioOutEvent",
                "CallEndEvent",
                "CallStartEvent",
                "ConversationStateSnapshot",
                "CostReportedEvent",
                "DtmfEvent",
                "InterruptionEvent",
                "LlmChunkEvent",
                "LlmTokenEvent",
                "MachineDetectionEvent",
                "MessageEvent",
                "MetricsEvent",
                "RecordingSavedEvent",
                "SpeechEventCallback",
                "ToolCallCompletedEvent",
                "ToolCallStartedEvent",
                "TranscriptEvent",
                "TranscriptPartialEvent",
                "TtsChunkEvent",
                "TurnEndedEvent",
                "TurnStartedEvent",
                "UserSpeechEndedEvent",
                "UserSpeechEosEvent",
                "UserSpeechStartedEvent",
                "UserState",
            ),
            "patter_trio.providers.fallback": ("Fallback",),
            "patter_trio.agent.guardrails": ("Guardrail", "guardrail"),
            "patter_trio.agent.keypad": ("Keypad",),
            "patter_trio.integrations.ivr": ("IVRActivity", "press_keys"),
            "patter_trio.agent.menu": ("Menu",),
            "patter_trio.agent.hooks": ("HookContext", "PatterDeprecationWarning", "PipelineHooks"),
            "patter_trio.llm.openai": ("OpenAILLM",),
            "patter_trio.events.speech_events": ("SpeechEvents",),
            "patter_trio.stt.deepgram": ("DeepgramSTT",),
            "patter_trio.stt.whisper": ("WhisperSTT",),
            "patter_trio.metrics.results": ("CallMetrics", "CostBreakdown", "LatencyBreakdown", "TurnMetrics"),
            "patter_trio.tracing.setup": ("init_tracing", "shutdown_tracing"),
            "patter_trio.agent.tools": ("Tool", "end_call", "tool"),
            "patter_trio.agent.transfer_tool": ("transfer_call",),
            "patter_trio.agent.warm_transfer": ("WarmTransfer",),
            "patter_trio.tts.elevenlabs": ("ElevenLabsTTS",),
            "patter_trio.tts.piper": ("PiperTTS",),
            "patter_trio.turn.smart_turn": ("SmartTurn",),
            "patter_trio.vad.silero": ("SileroVAD",),
        },
    )

__all__ = [
    "Agent",
    "AgentSpeechEndedEvent",
    "AgentSpeechStartedEvent",
    "AgentState",
    "AudioOutEvent",
    "AuthenticationError",
    "CallControl",
    "CallEndEvent",
    "CallEnded",
    "CallLog",
    "CallLogError",
    "CallMetrics",
    "CallStartEvent",
    "ChatContext",
    "ConfigurationError",
    "ConversationStateSnapshot",
    "CostBreakdown",
    "CostReportedEvent",
    "DeepgramSTT",
    "DtmfEvent",
    "ElevenLabsTTS",
    "EouTrigger",
    "EventBus",
    "Fallback",
    "Guardrail",
    "HookContext",
    "IVRActivity",
    "InterruptionEvent",
    "Keypad",
    "LatencyBreakdown",
    "LlmChunkEvent",
    "LlmTokenEvent",
    "MachineDetectionEvent",
    "Menu",
    "MessageEvent",
    "MetricsEvent",
    "MissingExtraError",
    "OpenAILLM",
    "OpenAIRealtime",
    "OutboundCall",
    "Patter",
    "PatterConnectionError",
    "PatterDeprecationWarning",
    "PatterError",
    "PatterEventType",
    "PatterTool",
    "PipelineHooks",
    "PiperTTS",
    "Plivo",
    "ProviderError",
    "ProviderTimeout",
    "ProvisionError",
    "RateLimitError",
    "RecordingSavedEvent",
    "ScheduleHandle",
    "SentenceChunker",
    "SileroVAD",
    "SmartTurn",
    "SpeechEventCallback",
    "SpeechEvents",
    "Telnyx",
    "Tool",
    "ToolCallCompletedEvent",
    "ToolCallStartedEvent",
    "ToolContext",
    "TranscriptEvent",
    "TranscriptPartialEvent",
    "TransferError",
    "TtsChunkEvent",
    "TurnEndedEvent",
    "TurnMetrics",
    "TurnStartedEvent",
    "Twilio",
    "UserSpeechEndedEvent",
    "UserSpeechEosEvent",
    "UserSpeechStartedEvent",
    "UserState",
    "WarmTransfer",
    "WhisperSTT",
    "WireError",
    "end_call",
    "filter_emoji",
    "filter_for_tts",
    "filter_markdown",
    "guardrail",
    "in_thread",
    "init_tracing",
    "press_keys",
    "schedule_cron",
    "schedule_interval",
    "schedule_once",
    "shutdown_tracing",
    "tool",
    "transfer_call",
]
