"""OpenAI's Realtime models as an engine."""

from patter_trio.engines.openai_realtime._engine import OpenAIRealtime

__all__ = [
    "OpenAIRealtime",
]
