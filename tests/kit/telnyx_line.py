"""Telnyx as a raw client has it: signed webhooks by httpx, media by trio-websocket, a REST API, no code of ours.

Only the audio itself, whose words the scripted providers hear and say, is the kit's.
"""

import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import attrs
import httpx
import trio
import trio_websocket

from patter_trio import Telnyx
from patter_trio.carriers.telnyx_signature import public_key_of, sign
from patter_trio.testing.scripted_providers.audible_text import Decoder, encode, frames_of
from patter_trio.testing.servers.telnyx_rest import TelnyxRESTServer, serve_telnyx_rest

KEY, PRIVATE = "KEY017", bytes(range(32))
CALL = "v3:MdI91X4lWFEs7IgbBEOT9M4AigoY08M0WWZFISt1Yw2axZ_IiE4pqg"
FRAME_S, RATE = 0.02, 8000
SILENT_FRAME = b"\xff" * 160


@attrs.define(eq=False)
class TelnyxLine:
    """One call: what Telnyx sends for it, what it receives, and what the caller does and hears."""

    rest: TelnyxRESTServer
    nursery: trio.Nursery
    public_url: str
    call_id: str = CALL
    direction: str = "incoming"
    token_in_header: bool = True
    received: list[dict[str, Any]] = attrs.field(factory=list)
    words: str = ""
    """The words that the caller has heard of the agent; what was cleared is not among them."""
    answers: list[int] = attrs.field(factory=list)
    """The status of the answer to each webhook."""
    cleared: list[str] = attrs.field(factory=list)
    """Marks that came back because of a clear."""
    reachable: bool = True
    """False: Telnyx cannot open the stream."""
    swap_frames: bool = False
    """Send each pair of frames in the wrong order."""
    _ear: Decoder = attrs.field(factory=Decoder)
    _socket: Any = None
    _to_say: bytearray = attrs.field(factory=bytearray)
    _buffer: list[bytes | str] = attrs.field(factory=list)
    _sequence: int = 0

    # Webhooks ---------------------------------------------------------------------------------------------------------
    def event(self, kind: str, **payload: Any) -> dict[str, Any]:
        """Return an event about this call."""
        call = self.rest.calls.get(self.call_id)
        state = call.client_state if call is not None else ""
        about = {
            "call_control_id": self.call_id,
            "call_leg_id": "leg",
            "call_session_id": "session",
            "connection_id": "7267",
            "client_state": state or None,
            "from": "+15550100001",
            "to": "+15550100002",
        }
        return {"data": {"event_type": kind, "id": f"{kind}-1", "record_type": "event", "payload": about | payload}}

    async def post(self, kind: str, *, kind_of: str = "voice", key: bytes = PRIVATE, **payload: Any) -> httpx.Response:
        """Post a signed event to the agent's server."""
        body = json.dumps(self.event(kind, **payload)).encode()
        headers = {"Content-Type": "application/json", **sign(key, int(time.time()), body)}
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(f"{self.public_url}/webhooks/telnyx/{kind_of}", content=body, headers=headers)
        self.answers.append(answer.status_code)
        return answer

    async def ring(self) -> httpx.Response:
        """Announce the call."""
        return await self.post("call.initiated", direction=self.direction, state="parked")

    def obey(self, call_id: str, action: str, body: dict[str, Any]) -> None:
        """Do what a command of the agent's server says."""
        if call_id != self.call_id:
            return
        if "stream_url" in body and self.reachable:
            self.nursery.start_soon(self._stream, body)
        elif action == "hangup":
            self.nursery.start_soon(self._end, "normal_clearing")

    # The stream -------------------------------------------------------------------------------------------------------
    async def _stream(self, body: dict[str, Any]) -> None:
        token = body["stream_auth_token"]
        headers = [(b"x-telnyx-streaming-auth-token", token.encode())] if self.token_in_header else []
        url = urlsplit(body["stream_url"])
        # The stream by our own hands: trio-websocket leaves it open if it is cancelled while it connects.
        async with (
            await trio.open_tcp_stream(url.hostname or "", url.port or 80) as stream,
            trio.open_nursery() as nursery,
        ):
            self._socket = await trio_websocket.wrap_client_stream(
                nursery, stream, url.netloc, url.path, extra_headers=headers
            )
            await self._carry(body)
            nursery.cancel_scope.cancel()

    async def _carry(self, body: dict[str, Any]) -> None:
        await self._send({"event": "connected", "version": "1.0.0"})
        start = {
            "user_id": "user",
            "call_control_id": self.call_id,
            "call_session_id": "session",
            "from": "+15550100001",
            "to": "+15550100002",
            "client_state": body.get("client_state"),
            "media_format": {"encoding": "PCMU", "sample_rate": RATE, "channels": 1},
        }
        await self._send({"event": "start", "stream_id": "S1", "start": start})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._speak)
            nursery.start_soon(self._play)
            # The end of the socket ends the call.
            with suppress(trio_websocket.ConnectionClosed):
                while True:
                    await self._receive(json.loads(await self._socket.get_message()))
            nursery.cancel_scope.cancel()

    async def _receive(self, message: dict[str, Any]) -> None:
        self.received.append(message)
        if message["event"] == "media":
            self._buffer.append(base64.b64decode(message["media"]["payload"]))
        elif message["event"] == "mark":
            self._buffer.append(message["mark"]["name"])
        else:
            # As documented: a clear returns the marks that wait.
            marks = [item for item in self._buffer if isinstance(item, str)]
            self._buffer.clear()
            self.cleared += marks
            for name in marks:
                await self._mark(name)

    async def _speak(self) -> None:
        chunk, kept = 0, ""
        while True:
            await trio.sleep(FRAME_S)
            frame, self._to_say = bytes(self._to_say[:160]) or SILENT_FRAME, self._to_say[160:]
            chunk += 1
            payload = base64.b64encode(frame).decode()
            media = {"track": "inbound", "chunk": str(chunk), "timestamp": str(chunk * 20), "payload": payload}
            message = {"event": "media", "stream_id": "S1", "media": media}
            if self.swap_frames and not kept:
                kept = json.dumps(message)
                continue
            await self._send(message)
            if kept:
                with suppress(trio_websocket.ConnectionClosed):
                    await self._socket.send_message(kept)
                kept = ""

    async def _play(self) -> None:
        """Play the buffer in real time, 20 ms at a time, and return each mark when the audio before it was played."""
        while True:
            if self._buffer and isinstance(self._buffer[0], str):
                await self._mark(str(self._buffer.pop(0)))
                continue
            if self._buffer:
                audio = bytes(self._buffer[0])
                self.words += "".join(sound.words for sound in self._ear.feed(audio[:160]))
                self._buffer[0:1] = [audio[160:]] if len(audio) > 160 else []
            await trio.sleep(FRAME_S)

    async def _mark(self, name: str) -> None:
        await self._send({"event": "mark", "stream_id": "S1", "mark": {"name": name}})

    async def _send(self, message: dict[str, Any]) -> None:
        self._sequence += 1
        # The end of the socket is noticed by the reader.
        with suppress(trio_websocket.ConnectionClosed):
            await self._socket.send_message(json.dumps({"sequence_number": str(self._sequence), **message}))

    # The caller -------------------------------------------------------------------------------------------------------
    async def says(self, text: str, seconds: float) -> None:
        """Say words, and wait until they are said."""
        self._to_say += encode(text, frames_of(seconds))
        await trio.sleep(seconds)

    async def presses(self, digit: str) -> None:
        """Press a key: Telnyx tells it on the stream, and by a webhook."""
        await self._send({"event": "dtmf", "stream_id": "S1", "occurred_at": "now", "dtmf": {"digit": digit}})
        await self.post("call.dtmf.received", digit=digit)

    async def hangs_up(self) -> None:
        """End the call as the caller."""
        self.rest.calls[self.call_id].state = "ended"
        await self._end("normal_clearing")

    async def _end(self, cause: str) -> None:
        if self._socket is not None:
            await self._send({"event": "stop", "stream_id": "S1", "stop": {"call_control_id": self.call_id}})
            # The task that reads has ended with the call, and may not have seen the answer to the close.
            with trio.move_on_after(1.0):
                await self._socket.aclose()
        # The agent's server may be gone by now.
        with suppress(httpx.ConnectError):
            await self.post("call.hangup", hangup_cause=cause, hangup_source="caller")

    @property
    def actions(self) -> list[str]:
        """The commands that the agent's server gave for this call."""
        return [action for action, _ in self.rest.calls[self.call_id].commands]

    async def wait_for(self, words: str) -> None:
        """Wait until the caller has heard these words, for 20 s at most."""
        with trio.fail_after(20):
            # Virtual time: a frame costs nothing.
            while words not in self.words:  # noqa: ASYNC110 (the sound is played in frames, and nothing else makes news)
                await trio.sleep(FRAME_S)


@asynccontextmanager
async def telnyx_line(
    **options: Any,
) -> AsyncIterator[tuple[TelnyxLine, Telnyx]]:
    """Open a line of Telnyx, its REST API included, and yield it with the carrier for the phone; set ``public_url``."""
    lines: list[TelnyxLine] = []

    def obey(call_id: str, action: str, body: dict[str, Any]) -> None:
        for line in lines:
            line.obey(call_id, action, body)

    async with serve_telnyx_rest(KEY, calls=[CALL], on_command=obey) as rest, trio.open_nursery() as nursery:
        lines.append(TelnyxLine(rest, nursery, "", **options))
        yield lines[0], Telnyx(KEY, public_key_of(PRIVATE), "7267", api_url=rest.api_url)
        nursery.cancel_scope.cancel()
