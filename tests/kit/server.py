"""A fake server of calls that records what reaches it, and the carrier or unauthenticated peer that talks to it."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import trio
import trio.testing

from patter_trio.abc import CallInfo, StreamStopped
from patter_trio.call.leg import MediaLeg
from patter_trio.carriers.twilio import Twilio
from patter_trio.net.websocket import SocketClosed, WebSocket, connect
from patter_trio.server.connection import serve_connection
from patter_trio.server.context import ServerContext
from patter_trio.server.pending import PendingCall, PendingCalls

# Requests find nobody at that port of this machine, and fail at once.
CARRIER = Twilio("AC1", "hush", api_url="http://127.0.0.1:1")
PUBLIC = "https://agent.example"
CALLER, CALLEE = "+15551234567", "+15557654321"


class FakeCallServer:
    """The application behind a site: by default it answers every call by waiting for its stop."""

    def __init__(self, *, public_url: str = PUBLIC, limit: int = 1000) -> None:
        self.announced: list[PendingCall] = []
        self.answered: list[MediaLeg] = []
        # Read anew for each call: a test changes it between two webhooks.
        self.room = True
        # Replaceable: a test decides what happens once a call is connected.
        self.talk: Callable[[MediaLeg], Awaitable[None]] = until_stop
        self.pending = PendingCalls(limit=limit)
        self.context = ServerContext(
            carrier=CARRIER,
            public_url=public_url,
            pending=self.pending,
            refusal=lambda call_id: "" if self.room else "no room",
            on_announced=self.announced.append,
            run_call=self.answer,
        )

    async def answer(self, leg: MediaLeg) -> None:
        self.answered.append(leg)
        await self.talk(leg)

    # Without a webhook: the tests of media sockets need its token, not its form.
    def announce(self, call_id: str = "CA1") -> PendingCall:
        info = CallInfo(call_id, CALLER, CALLEE, "inbound", provider="twilio")
        return self.pending.announce(info, trio.current_time())

    def open(self, nursery: trio.Nursery) -> "trio.StapledStream[Any, Any]":
        """Return a new connection to the site."""
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(serve_connection, self.context, ours)
        return theirs


async def until_stop(leg: MediaLeg) -> None:
    # By the codec's own events, because a stream's end has several forms.
    while not isinstance(leg.codec.receive(await leg.socket.receive()), StreamStopped):
        pass


def start(call_id: str = "CA1", token: str | None = None) -> str:
    parameters = {} if token is None else {"token": token}
    return json.dumps(
        {
            "event": "start",
            "sequenceNumber": "1",
            "streamSid": "MZ1",
            "start": {"streamSid": "MZ1", "callSid": call_id, "customParameters": parameters},
        }
    )


STOP = json.dumps({"event": "stop", "streamSid": "MZ1"})
CONNECTED = json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})
MEDIA = json.dumps({"event": "media", "streamSid": "MZ1", "media": {"track": "inbound", "payload": "AAAA"}})


async def dial(
    stream: trio.abc.Stream, *messages: str | bytes, call_id: str = "CA1", headers: dict[str, str] | None = None
) -> WebSocket:
    """Open a media stream as a carrier does, and send its first messages."""
    # With our own client over memory streams: handshake and frames are real bytes.
    socket = await connect(stream, f"wss://agent.example/ws/twilio/stream/{call_id}", headers)
    for message in messages:
        await socket.send(message)
    return socket


async def closing(socket: WebSocket) -> tuple[int, str]:
    """Wait for the end of a socket; return its code and reason."""
    try:
        while True:
            await socket.receive()
    except SocketClosed as closed:
        return closed.code, closed.reason


async def read_all(stream: trio.abc.Stream) -> bytes:
    """Read to the end of the stream."""
    data = b""
    # Until the server closes: a connection that stays open makes the test hang, and the runner says where.
    while received := await stream.receive_some(65536):
        data += received
    return data
