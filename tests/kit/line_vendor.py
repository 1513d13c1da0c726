"""A vendor of the tests' own: recognition, answers and speech by lines over a WebSocket, and all ways to misbehave.

* ``/stt``: audio as binary messages; ``flush``. Answers ``interim SEGMENT TEXT`` and ``final SEGMENT TEXT``, where the
  text is a checksum of what was loud.
* ``/llm``: ``ask MESSAGES``. Answers ``token TEXT`` for each word, and ``end``.
* ``/tts``: ``say REPLY TEXT``, ``end REPLY``, ``cancel REPLY``. Answers ``begin REPLY TEXT`` before the audio of each
  text, audio as binary messages (reply's number, colon, mu-law), and ``done REPLY``.

All but numbers are JSON.
"""

import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import numpy as np
import trio

from patter_trio.audio import g711
from patter_trio.net.websocket import SocketClosed, Upgrade, WebSocket, receive_upgrade
from patter_trio.testing.servers.fake_vendor import CLIENT_LEFT_ENTRY, Misbehaviour

# The vendor is made for the kit, not after a real one: each property that a check demands can be seen in one line of
# its protocol, and each misbehaviour is one branch in ``say``. Its words are a checksum of the audio, so that a lost,
# doubled or reordered frame changes the answer.

# Five messages last 0.1 s, which is what ``FakeVendor`` demands of an answer that has
# begun: there is something to stop.
PACE = 0.02
"""Seconds from one message of an answer to the next."""
STATUS = {Misbehaviour.UNAUTHORIZED: 401, Misbehaviour.RATE_LIMITED: 429, Misbehaviour.UNAVAILABLE: 503}
KEY = "made-up-key"


@attrs.define
class LineVendor:
    """The running vendor."""

    address: str
    seen: list[object] = attrs.field(factory=list)
    kind: str = ""

    def misbehave(self, kind: str) -> None:
        self.kind = Misbehaviour(kind) if kind else ""

    async def connection(self, stream: trio.SocketStream) -> None:
        try:
            await self._connection(stream)
        except (SocketClosed, trio.BrokenResourceError):
            pass
        finally:
            # In ``finally``, before the entry: a check that sees the entry may rely on the connection being over.
            await trio.aclose_forcefully(stream)
            self.seen.append(CLIENT_LEFT_ENTRY)

    async def _connection(self, stream: trio.SocketStream) -> None:
        head = b""
        # A half-open vendor takes all data and answers nothing, until the client leaves.
        while self.kind == Misbehaviour.HALF_OPEN or b"\r\n\r\n" not in head:
            data = await stream.receive_some(65536)
            if not data:
                return
            head += data
        upgrade = await receive_upgrade(stream, head)
        if self.kind in STATUS:
            await upgrade.refuse(STATUS[Misbehaviour(self.kind)], "no")
        elif upgrade.headers.get("Authorization") != f"Bearer {KEY}":
            await upgrade.refuse(401, "who is it?")
        else:
            await self._converse(upgrade)

    async def _converse(self, upgrade: Upgrade) -> None:
        socket = await upgrade.accept()
        async with trio.open_nursery() as nursery:
            conversation = Conversation(self, socket, nursery)
            stage = {"/stt": conversation.hear, "/llm": conversation.think, "/tts": conversation.speak}[upgrade.path]
            try:
                while True:
                    message = await socket.receive()
                    self.seen.append(message)
                    stage(message)
            # The client has left: answers that are under way have nobody to go to.
            except SocketClosed:
                await socket.aclose()
                nursery.cancel_scope.cancel()


@attrs.define
class Conversation:
    """One connection: the audio that it has received, and the answers that it is sending."""

    vendor: LineVendor
    socket: WebSocket
    nursery: trio.Nursery
    segment: int = 0
    audio: bytes = b""
    interims: int = 0
    said: int = 0
    texts: dict[str, list[str]] = attrs.field(factory=dict)
    replies: dict[str, trio.CancelScope] = attrs.field(factory=dict)
    # Several replies may be spoken at once, and a socket has one writer at a time.
    sending: trio.Lock = attrs.field(factory=trio.Lock)

    async def say(self, message: str | bytes) -> None:
        """Send a message, in the way in which the vendor misbehaves."""
        # Not at the first message: an answer has to have begun before it can break off.
        kind, first = self.vendor.kind, self.said == 0
        self.said += 1
        await trio.sleep(0.2 if kind == Misbehaviour.SLOW else 0)
        async with self.sending:
            if not first and kind == Misbehaviour.STALLED:
                await trio.sleep_forever()
            if not first and kind == Misbehaviour.CLOSED:
                await trio.aclose_forcefully(self.socket._stream)
                self.nursery.cancel_scope.cancel()
                # The cancellation arrives here, before anything is sent on the closed stream.
                await trio.lowlevel.checkpoint()
            if not first and kind == Misbehaviour.GARBAGE:
                await self.socket.send(nonsense(message))
            if kind == Misbehaviour.UNKNOWN:
                await self.socket.send('news {"of": "today"}')
            await self.socket.send(message)

    async def answer(self, messages: list[str | bytes]) -> None:
        try:
            for message in messages:
                await self.say(message)
                await trio.sleep(PACE)
        except SocketClosed:
            self.nursery.cancel_scope.cancel()

    def start(self, *messages: str | bytes) -> None:
        self.nursery.start_soon(self.answer, list(messages))

    def hear(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            # Silence is left out, so that the words of an utterance do not depend on the pause around it.
            loud = np.abs(g711.decode(message).astype(np.int32)) > 100
            self.audio += np.frombuffer(message, np.uint8)[loud].tobytes()
            # An interim result for each 0.2 s of voice.
            if len(self.audio) >= 1600 * (self.interims + 1):
                self.interims += 1
                self.start(f"interim {self.segment} {json.dumps(self.text)}")
        elif message == "flush":
            self.start(f"final {self.segment} {json.dumps(self.text)}")
            self.segment, self.audio, self.interims = self.segment + 1, b"", 0

    @property
    def text(self) -> str:
        return f"voice {zlib.crc32(self.audio):08x}" if self.audio else ""

    def think(self, message: str | bytes) -> None:
        messages = json.loads(str(message).removeprefix("ask "))
        said = messages[-1]["content"][:60] if messages else "nothing"
        words = f"That was {len(messages)}: {said}".split(" ")
        self.start(*[f"token {json.dumps(word + ' ')}" for word in words], "end")

    def speak(self, message: str | bytes) -> None:
        verb, reply, *rest = str(message).split(" ", 2)
        if verb == "cancel":
            if reply in self.replies:
                self.replies.pop(reply).cancel()
                # Audio of a cancelled reply may still arrive; a provider has to drop it.
                self.start(f'begin {reply} "What was on its way"', reply.encode() + b":" + b"\x10" * 4000)
            return
        arrived = self.texts.setdefault(reply, [])
        arrived.append(json.loads(rest[0]) if verb == "say" else "")
        if len(arrived) == 1:
            self.nursery.start_soon(partial(self._reply, reply, arrived))

    async def _reply(self, reply: str, arrived: list[str]) -> None:
        with trio.CancelScope() as scope:
            self.replies[reply] = scope
            # In order, one text after another; more texts than any test sends.
            for number in range(10_000):
                while len(arrived) <= number:  # noqa: ASYNC110 (at its own pace)
                    await trio.sleep(PACE)
                if not (text := arrived[number]):
                    break
                # At least two messages, so that a reply can be left between them.
                frames = [reply.encode() + b":" + b"\x10" * 800] * max(2, len(text) // 4)
                await self.answer([f"begin {reply} {json.dumps(text)}", *frames])
            await self.answer([f"done {reply}"])


def nonsense(message: str | bytes) -> str:
    """Return a message of the same kind with malformed JSON."""
    if isinstance(message, bytes):
        return f"begin {message.partition(b':')[0].decode()} }}{{"
    return message.rpartition(" ")[0] + " }{"


@asynccontextmanager
async def serve_lines() -> AsyncIterator[LineVendor]:
    """Start the vendor."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    vendor = LineVendor(f"ws://127.0.0.1:{listener.socket.getsockname()[1]}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, vendor.connection, [listener]))
        try:
            yield vendor
        finally:
            nursery.cancel_scope.cancel()
