"""A server that a test scripts message by message: the other end of the simulated carrier."""

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import h11
import trio
import trio.testing

from patter_trio.net.websocket import SocketClosed, WebSocket, receive_upgrade
from patter_trio.testing.carriers.twilio import SimulatedTwilio

# Nothing of the package's server: the carrier is tested against the protocol alone, so that a mistake which carrier and
# server have in common is still found. Only the WebSocket underneath is ours.

SID, TOKEN = "AC" + "1" * 32, "secret"
TWIML = (
    '<Response><Connect><Stream url="wss://agent.test/ws/twilio/stream/x">'
    '<Parameter name="token" value="t"/></Stream></Connect></Response>'
)

Script = Callable[["FakeAgent"], Awaitable[None]]


@attrs.define(eq=False)
class FakeAgent:
    """Answers the webhook with ``twiml`` and runs ``script`` when the media stream has started."""

    script: Script | None = None
    twiml: str = TWIML
    status: int = 200
    content_type: str = "text/xml"
    refuse_media: bool = False
    silent: bool = False
    webhook: dict[str, Any] = attrs.field(factory=dict)
    upgrade: dict[str, str] = attrs.field(factory=dict)
    got: list[tuple[float, dict[str, Any]]] = attrs.field(factory=list)
    socket: WebSocket | None = None
    # Set by the test before the carrier connects; its connections are served there.
    nursery: trio.Nursery | None = None
    start: float = 0.0

    async def connect(self) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        assert self.nursery is not None
        self.nursery.start_soon(self.serve, ours)
        return theirs

    async def serve(self, stream: trio.abc.Stream) -> None:
        # In one piece, because the carrier sends it in one and memory streams do not divide it.
        head = bytes(await stream.receive_some(65536))
        # After the request: the carrier's own time limit has to end the call.
        if self.silent:
            await trio.sleep_forever()
        if head.startswith(b"POST"):
            await self._answer(stream, head)
        else:
            await self._talk(stream, head)

    async def _answer(self, stream: trio.abc.Stream, head: bytes) -> None:
        http = h11.Connection(h11.SERVER)
        http.receive_data(head)
        # Head and body came together, so both events are there.
        request, body = http.next_event(), http.next_event()
        assert isinstance(request, h11.Request)
        assert isinstance(body, h11.Data)
        self.webhook = {"headers": dict(request.headers), "target": request.target, "body": bytes(body.data)}
        answer = self.twiml.encode()
        fields = [("content-type", self.content_type), ("content-length", str(len(answer)))]
        await stream.send_all(
            (http.send(h11.Response(status_code=self.status, headers=fields)) or b"")
            + (http.send(h11.Data(data=answer)) or b"")
            + (http.send(h11.EndOfMessage()) or b"")
        )

    async def _talk(self, stream: trio.abc.Stream, head: bytes) -> None:
        upgrade = await receive_upgrade(stream, head)
        self.upgrade = {"path": upgrade.path, "signature": upgrade.headers["X-Twilio-Signature"]}
        if self.refuse_media:
            await upgrade.refuse(403, "no")
            return
        async with await upgrade.accept() as self.socket:
            self.start = trio.current_time()
            async with trio.open_nursery() as nursery:
                # It goes on after the script, until the carrier ends the stream.
                nursery.start_soon(self._listen)
                if self.script is not None:
                    await self.script(self)

    async def _listen(self) -> None:
        assert self.socket is not None
        try:
            while True:
                message = json.loads(await self.socket.receive())
                # Rounded, so that exact instants can be compared by ``==``.
                self.got.append((round(trio.current_time() - self.start, 9), message))
        # The end is an event like the others, with its code and its instant.
        except SocketClosed as error:
            self.got.append((round(trio.current_time() - self.start, 9), {"event": "closed", "code": error.code}))

    def events(self, *names: str) -> list[tuple[float, dict[str, Any]]]:
        return [(at, message) for at, message in self.got if message["event"] in names]

    async def at(self, seconds: float) -> None:
        await trio.sleep_until(self.start + seconds)

    async def send(self, message: object) -> None:
        assert self.socket is not None
        await self.socket.send(message if isinstance(message, (str, bytes)) else json.dumps(message))

    async def play(self, audio: bytes) -> None:
        await self.send(
            {"event": "media", "streamSid": STREAM_SID, "media": {"payload": base64.b64encode(audio).decode()}}
        )

    async def mark(self, name: str) -> None:
        await self.send({"event": "mark", "streamSid": STREAM_SID, "mark": {"name": name}})

    async def clear(self) -> None:
        await self.send({"event": "clear", "streamSid": STREAM_SID})

    async def close(self) -> None:
        assert self.socket is not None
        await self.socket.aclose()


STREAM_SID = "MZ00000000000000000000000000000001"


def carrier_for(agent: FakeAgent, **options: Any) -> SimulatedTwilio:
    return SimulatedTwilio(agent.connect, "https://agent.test", account_sid=SID, auth_token=TOKEN, **options)
