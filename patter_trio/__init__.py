"""Put an AI agent on a phone line: structured concurrency from the ground up.

What programs use is here; everything else is reached by its module.
"""

from patter_trio.agent import Agent
from patter_trio.call.control import CallControl
from patter_trio.call.session import Call
from patter_trio.call.usercode import in_thread
from patter_trio.carriers.twilio import Twilio
from patter_trio.client import Patter
from patter_trio.conversation.actions import EouTrigger
from patter_trio.conversation.sentences import SentenceChunker
from patter_trio.errors import (
    AuthenticationError,
    CallEnded,
    ConfigurationError,
    MissingExtraError,
    PatterConnectionError,
    PatterError,
    ProviderError,
    ProviderTimeout,
    RateLimitError,
    WireError,
)
from patter_trio.events import AgentState, ConversationStateSnapshot, SpeechEventCallback, UserState
from patter_trio.stt.whisper import WhisperSTT
from patter_trio.tts.piper import PiperTTS
from patter_trio.turn.smart_turn import SmartTurn
from patter_trio.vad.silero import SileroVAD

__all__ = [
    "Agent",
    "AgentState",
    "AuthenticationError",
    "Call",
    "CallControl",
    "CallEnded",
    "ConfigurationError",
    "ConversationStateSnapshot",
    "EouTrigger",
    "MissingExtraError",
    "Patter",
    "PatterConnectionError",
    "PatterError",
    "PiperTTS",
    "ProviderError",
    "ProviderTimeout",
    "RateLimitError",
    "SentenceChunker",
    "SileroVAD",
    "SmartTurn",
    "SpeechEventCallback",
    "Twilio",
    "UserState",
    "WhisperSTT",
    "WireError",
    "in_thread",
]
