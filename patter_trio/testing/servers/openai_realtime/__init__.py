"""A fake of OpenAI's Realtime API."""

from patter_trio.testing.servers.openai_realtime.script import Asked, Connection, FakeRealtime, RealtimeReply
from patter_trio.testing.servers.openai_realtime.server import RealtimeServer, serve_openai_realtime

__all__ = [
    "Asked",
    "Connection",
    "FakeRealtime",
    "RealtimeReply",
    "RealtimeServer",
    "serve_openai_realtime",
]
