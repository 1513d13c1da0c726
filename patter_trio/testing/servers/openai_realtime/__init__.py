"""A scripted server of OpenAI's Realtime API."""

from patter_trio.testing.servers.openai_realtime.script import (
    Asked,
    FakeRealtime,
    RealtimeReply,
    RealtimeServerConnection,
)
from patter_trio.testing.servers.openai_realtime.server import RealtimeServer, serve_openai_realtime

__all__ = [
    "Asked",
    "FakeRealtime",
    "RealtimeReply",
    "RealtimeServer",
    "RealtimeServerConnection",
    "serve_openai_realtime",
]
