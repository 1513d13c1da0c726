"""A scripted server of ElevenLabs' protocols, with a voice that a simulated caller understands.

::

    async with serve_elevenlabs(FakeElevenLabs(first_audio=0.15)) as vendor:
        tts = ElevenLabsTTS(api_key="key", base_url=vendor.url)

It listens on loopback, which works on an autojump clock as well. It serves the multi-context WebSocket, the WebSocket
for one text and the HTTP stream, and keeps to the vendor's rules: at most five contexts, no context for a wrong key,
and an idle connection is closed.
"""

import base64
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import attrs
import h11
import trio

from patter_trio.audio.formats import FRAME_S, FRAME_SAMPLES
from patter_trio.errors import WireError
from patter_trio.net.pulse import Pulse
from patter_trio.net.websocket import SocketClosed, Upgrade, WebSocket, receive_upgrade
from patter_trio.testing.scripted_providers import audible_text
from patter_trio.testing.servers.loopback import on_loopback, read_head, read_request

# Theory of operation. A connection's listener reads messages and hands their texts to contexts. Each context is a task
# that speaks its texts one after another, ahead of real time. All tasks write to the one socket, in turn, under a lock.
# Closing a context cancels its task, unless its text was flushed. Every context ends with ``isFinal``, cancelled ones
# included, and counts towards the vendor's limit until then: the package relies on both.

# The vendor's limit of contexts in a connection.
MAX_CONTEXTS: Final = 5


@attrs.frozen(kw_only=True)
class FakeElevenLabs:
    """The behaviour of the server.

    Args:
        key: the only key that is accepted.
        accepting: seconds until a handshake is answered.
        status: HTTP status with which handshakes and requests are refused; 0 accepts them.
        refusal: an error (``(error, message)``) that the socket sends instead of speaking, before it closes with 1008;
            with an empty error it only closes.
        first_audio: seconds from a text to its first audio.
        per_character: seconds of audio for each character.
        chunk: seconds of audio in each message.
        speed: seconds of audio that are made in a second.
        timings: if True, send the times of the characters.
        hang_after: audio messages in a context after which nothing more comes.
        close_after: audio messages on the first connection after which it is closed; later connections are not.
        speaks: the number of texts that are spoken of the first, second ... context, which then ends all the same; all
            texts of further ones are spoken.
        garbage: raw messages that are sent before each first audio.
        final_delay: seconds from the last audio of a context to the message that it is finished.
        late: audio messages that are still sent for a context that was closed.
    """

    key: str = "key"
    accepting: float = 0.0
    status: int = 0
    refusal: tuple[str, str] | None = None
    first_audio: float = 0.2
    # The pace of ``ScriptedTTS``, so that a test may change the provider and keep its instants.
    per_character: float = 0.06
    chunk: float = 0.25
    # Ahead of real time, as the vendor is: a client that paced itself by the arrival of audio would fail.
    speed: float = 20.0
    timings: bool = True
    hang_after: int | None = None
    close_after: int | None = None
    speaks: tuple[int, ...] = ()
    garbage: tuple[str | bytes, ...] = ()
    final_delay: float = 0.0
    late: int = 0


@attrs.frozen
class SeenMessage:
    """A message of a client: its time, its connection (from 0) and its content."""

    at: float
    connection: int
    message: dict[str, Any]


@attrs.define
class ElevenLabsServer:
    """The running server, and what it received."""

    url: str
    script: FakeElevenLabs
    messages: list[SeenMessage] = attrs.field(factory=list)
    targets: list[str] = attrs.field(factory=list)
    """The path and query of each request, in order, refused requests included."""
    opened: list[float] = attrs.field(factory=list)
    """The times at which the WebSockets were opened."""
    ended: list[tuple[float, int]] = attrs.field(factory=list)
    """The time and number of each connection that a client or this server ended."""
    requests: list[dict[str, Any]] = attrs.field(factory=list)
    """The bodies of HTTP requests."""
    interrupted: list[float] = attrs.field(factory=list)
    """The times at which a client left an HTTP answer before its end."""
    contexts: int = 0
    """Number of contexts that were opened."""
    spoken: int = 0
    """Number of characters that were made into audio, used or not."""
    _closers: list[trio.Event] = attrs.field(factory=list)

    def sent(self, **fields: Any) -> list[SeenMessage]:
        """Return the messages that have these fields with these values."""
        return [seen for seen in self.messages if fields.items() <= seen.message.items()]

    def texts(self, context: str | None = None) -> list[str]:
        """Return the texts to speak, of one context or of all."""
        texts = (seen.message for seen in self.messages if str(seen.message.get("text", "")).strip())
        return [str(m["text"]).strip() for m in texts if context is None or m.get("context_id") == context]

    def close_all(self) -> None:
        """Close all open WebSockets."""
        for closer in self._closers:
            closer.set()


@asynccontextmanager
async def serve_elevenlabs(script: FakeElevenLabs | None = None) -> AsyncIterator[ElevenLabsServer]:
    """Serve on loopback while the block runs."""
    vendor = ElevenLabsServer("", script or FakeElevenLabs())
    async with on_loopback(partial(serve_stream, vendor)) as port:
        vendor.url = f"http://127.0.0.1:{port}"
        yield vendor


async def serve_stream(vendor: ElevenLabsServer, stream: trio.abc.Stream) -> None:
    """Serve one connection, over any stream."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError, WireError, SocketClosed):
        try:
            head = await read_head(stream)
            # One port for both transports, as at the vendor. Names and values of these headers may be in any case.
            if b"upgrade: websocket" in head.lower():
                await _websocket(vendor, await receive_upgrade(stream, head))
            elif head:
                await _http(vendor, stream, head)
        finally:
            await trio.aclose_forcefully(stream)


def _refused(vendor: ElevenLabsServer, key: str) -> int:
    return vendor.script.status or (0 if key == vendor.script.key else 401)


# The WebSockets -------------------------------------------------------------------------------------------------------
async def _websocket(vendor: ElevenLabsServer, upgrade: Upgrade) -> None:
    vendor.targets.append(upgrade.path)
    # Before a refusal, too: a slow vendor is slow to refuse.
    await trio.sleep(vendor.script.accepting)
    if status := _refused(vendor, upgrade.headers.get("xi-api-key", "")):
        await upgrade.refuse(status, "refused")
        return
    socket = await upgrade.accept()
    # Only after the handshake's await, and appended before the next one: two clients never get the same number.
    number = len(vendor.opened)
    vendor.opened.append(trio.current_time())
    closer = trio.Event()
    vendor._closers.append(closer)  # noqa: SLF001 (ours)
    query = parse_qs(urlsplit(upgrade.path).query)
    multi = "/multi-stream-input" in upgrade.path
    # The vendor's default is 20 s, its maximum 180 s.
    idle = float(query.get("inactivity_timeout", ["20"])[0])
    connection = _Connection(vendor, socket, number, closer, multi=multi, idle=idle)
    try:
        await connection.run()
    finally:
        # Before the close, whose wait for the client would make the instant late.
        vendor.ended.append((trio.current_time(), number))
        # Bounded, because a frozen client never answers; as short as the bound in net/websocket_client.py.
        await socket.aclose(close_timeout=0.05)


@attrs.define(eq=False)
class _Context:
    name: str
    number: int
    parts: int = 0
    speaks: float = math.inf
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    flushed: bool = False
    closed: bool = False
    sent: int = 0
    wake: Pulse = attrs.field(factory=Pulse)
    # Each with its arrival: ``first_audio`` counts from there, also for a text that waited for the one before it.
    texts: list[tuple[float, str]] = attrs.field(factory=list)


class _Connection:
    def __init__(
        self, vendor: ElevenLabsServer, socket: WebSocket, number: int, closer: trio.Event, *, multi: bool, idle: float
    ) -> None:
        self._vendor = vendor
        self._script = vendor.script
        self._socket = socket
        self._number = number
        self._closer = closer
        self._multi = multi
        self._idle = idle
        self._contexts: dict[str, _Context] = {}
        # A socket has one writer at a time: a second send would find it broken while the first is under way.
        self._sending = trio.Lock()
        self._sent = 0
        self._deadline = trio.CancelScope()

    async def run(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                # A task of its own, because the test closes the connection while the listener waits for the client.
                nursery.start_soon(self._close_on_request, nursery.cancel_scope)
                # Only around the listener: its deadline moves with each message of the
                # client, whatever the contexts are doing.
                with trio.CancelScope(deadline=trio.current_time() + self._idle) as self._deadline:
                    await self._listen(nursery)
                if self._deadline.cancelled_caught:
                    await self._refuse("input_timeout_exceeded", "nothing was sent for too long")
                nursery.cancel_scope.cancel()
        # The client has left. Several tasks may find out at once, and a nursery wraps even a single failure.
        except* (SocketClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _close_on_request(self, scope: trio.CancelScope) -> None:
        await self._closer.wait()
        # A client that is gone already needs no close frame, but the connection still has to end.
        with suppress(SocketClosed):
            async with self._sending:
                await self._socket.say_close(1000, "going away")
        scope.cancel()

    async def _listen(self, nursery: trio.Nursery) -> None:
        while True:
            message = json.loads(await self._socket.receive())
            self._deadline.deadline = trio.current_time() + self._idle
            self._vendor.messages.append(SeenMessage(trio.current_time(), self._number, message))
            if self._script.refusal is not None:
                await self._refuse(*self._script.refusal)
                return
            name = message.get("context_id", "default")
            # On the socket for one text, the empty text closes it; here ``continue``, because the rest is still spoken.
            if message.get("close_socket") or (not self._multi and message.get("text") == ""):
                for context in self._contexts.values():
                    context.closed = context.flushed = True
                    context.wake.fire()
                continue
            # A context exists from its first message on. One that ended is unknown again, so its name may be used anew.
            if name not in self._contexts:
                if len(self._contexts) == MAX_CONTEXTS:
                    # The vendor ends the whole connection, not just the context that is too many.
                    await self._refuse("max_active_conversations", "Maximum simultaneous contexts exceeded (5)")
                    return
                # The number of messages so far is unique: it tells a simulated caller which reply a frame belongs to.
                context = self._contexts[name] = _Context(name, len(self._vendor.messages))
                context.speaks = dict(enumerate(self._script.speaks)).get(self._vendor.contexts, math.inf)
                self._vendor.contexts += 1
                nursery.start_soon(self._speak, context)
            self._apply(self._contexts[name], message)

    def _apply(self, context: _Context, message: dict[str, Any]) -> None:
        # An empty text only keeps a context alive, and the other socket begins with a
        # space. A closed context takes no more text.
        if str(message.get("text", "")).strip() and not context.closed:
            context.texts.append((trio.current_time(), str(message["text"]).rstrip()))
        context.flushed = context.flushed or bool(message.get("flush"))
        if message.get("close_context"):
            context.closed = True
            # What was flushed is spoken to its end even if the context is closed: only ending the connection stops it.
            if not context.flushed:
                context.scope.cancel()
        context.wake.fire()

    async def _speak(self, context: _Context) -> None:
        with context.scope:
            while context.texts or not context.closed:
                if not context.texts:
                    await context.wake.wait()
                    continue
                at, text = context.texts.pop(0)
                if context.parts >= context.speaks:
                    continue
                # From the arrival of the text: sentences that come early are ready when the one before them ends.
                await trio.sleep_until(at + self._script.first_audio)
                await self._say(context, text)
        # Audio of a closed context may still arrive. Its words are no reply's, so a
        # caller that hears them shows the fault.
        for _ in range(self._script.late if context.scope.cancelled_caught else 0):
            await self._send(_audio(context.name, audible_text.encode("late", 20), []))
        # The context still counts towards the limit here.
        await trio.sleep(self._script.final_delay)
        if self._contexts.pop(context.name, None) is not None:
            await self._send({"isFinal": True, **({"contextId": context.name} if self._multi else {})})
            if not self._multi:
                self._closer.set()

    async def _say(self, context: _Context, text: str) -> None:
        self._vendor.spoken += len(text)
        context.parts += 1
        frames = max(audible_text.frames_of(len(text) * self._script.per_character), audible_text.fewest_frames(text))
        audio = audible_text.encode(text, frames, utterance=context.number, part=context.parts)
        characters = _characters(text, frames) if self._script.timings else []
        step = audible_text.frames_of(self._script.chunk)
        # Before the first audio, so that the client has a reply under way when the garbage comes.
        if not context.sent:
            for garbage in self._script.garbage:
                async with self._sending:
                    await self._socket.send(garbage)
        for first in range(0, frames, step):
            begin, end = first * FRAME_S, (first + step) * FRAME_S
            # Times count from the beginning of their own message, as at the vendor. The
            # tolerance is for sums of binary fractions.
            mine = [(c, s - begin, e - begin) for c, s, e in characters if begin <= s + 1e-9 < end]
            if context.sent == self._script.hang_after:
                await trio.sleep_forever()
            await self._send(_audio(context.name, audio[first * FRAME_SAMPLES : (first + step) * FRAME_SAMPLES], mine))
            context.sent += 1
            self._sent += 1
            # Only the first connection, so that a test sees the client recover on the second one.
            if self._sent == self._script.close_after and self._number == 0:
                self._closer.set()
                await trio.sleep_forever()
            await trio.sleep(min(step, frames - first) * FRAME_S / self._script.speed)

    async def _send(self, message: dict[str, Any]) -> None:
        async with self._sending:
            await self._socket.send(json.dumps(message))

    async def _refuse(self, error: str, message: str) -> None:
        if error:
            # First the message, then the close; the vendor may also close without one,
            # and the reason then has the same words.
            await self._send({"message": message, "error": error, "code": 1008})
        async with self._sending:
            await self._socket.say_close(1008, message)


def _characters(text: str, frames: int) -> list[tuple[str, float, float]]:
    """Return the characters of a text with their times: each word's time is divided evenly among its letters."""
    times: list[tuple[str, float, float]] = []
    for word, begin, end in audible_text.word_times(text, frames):
        # One share more than there are letters; the last letter gets it, and so ends exactly with the word.
        each = (end - begin) / (len(word) + 1)
        times += [(letter, begin + i * each, begin + (i + 1) * each) for i, letter in enumerate(word)]
        times[-1] = (times[-1][0], times[-1][1], end)
        # Spaces are characters with times, too; this one takes the last millisecond of the word.
        times.append((" ", end - 1e-3, end))
    return times


def _audio(context: str, audio: bytes, characters: list[tuple[str, float, float]]) -> dict[str, Any]:
    alignment = {
        "chars": [c for c, _, _ in characters],
        "charStartTimesMs": [round(start * 1000) for _, start, _ in characters],
        "charDurationsMs": [round(end * 1000) - round(start * 1000) for _, start, end in characters],
    }
    reported = alignment if characters else None
    return {
        "audio": base64.b64encode(audio).decode(),
        # Null without times, as at the vendor. The package reads ``alignment``; the
        # normalised one is there for the SDK.
        "alignment": reported,
        "normalizedAlignment": reported,
        "contextId": context,
    }


# HTTP -----------------------------------------------------------------------------------------------------------------
async def _http(vendor: ElevenLabsServer, stream: trio.abc.Stream, data: bytes) -> None:
    """Answer one request after another."""
    while data:
        request, body = await _request(stream, data)
        vendor.targets.append(request.target.decode())
        headers = {name.decode().lower(): value.decode() for name, value in request.headers}
        vendor.requests.append(json.loads(body or b"{}"))
        await trio.sleep(vendor.script.accepting)
        if status := _refused(vendor, headers.get("xi-api-key", "")):
            detail = json.dumps({"detail": {"status": "refused", "message": "as scripted"}}).encode()
            await stream.send_all(_start(status, "application/json", f"Content-Length: {len(detail)}") + detail)
        else:
            await _stream_audio(vendor, stream, str(vendor.requests[-1].get("text", "")))
        # The client keeps its connections alive: one request at a time, and no pipelining.
        data = await read_head(stream)


async def _request(stream: trio.abc.Stream, data: bytes) -> tuple[h11.Request, bytes]:
    # Anew for each request: the answers are written by hand, so h11 would never learn that its cycle is over.
    http = h11.Connection(h11.SERVER)
    http.receive_data(data)
    request = await read_request(http, stream)
    if request is None:
        raise WireError("the client must send a complete HTTP request")
    return request


def _start(status: int, content_type: str, *more: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Status", f"Content-Type: {content_type}", *more, "", ""]).encode()


async def _stream_audio(vendor: ElevenLabsServer, stream: trio.abc.Stream, text: str) -> None:
    script = vendor.script
    vendor.spoken += len(text)
    frames = max(audible_text.frames_of(len(text) * script.per_character), audible_text.fewest_frames(text))
    audio = audible_text.encode(text, frames, utterance=len(vendor.requests), part=1)
    step = audible_text.frames_of(script.chunk) * FRAME_SAMPLES
    async with trio.open_nursery() as nursery:
        # Beside the sending, which would notice a client that left only with its next piece.
        nursery.start_soon(_watch, vendor, stream, nursery.cancel_scope)
        try:
            await _send_audio(script, stream, audio, step)
        except trio.BrokenResourceError:  # the sender may notice it before the watching task does
            vendor.interrupted.append(trio.current_time())
        nursery.cancel_scope.cancel()
    await stream.send_all(b"0\r\n\r\n")


async def _send_audio(script: FakeElevenLabs, stream: trio.abc.Stream, audio: bytes, step: int) -> None:
    await trio.sleep(script.first_audio)
    await stream.send_all(_start(200, "audio/basic", "Transfer-Encoding: chunked"))
    for number, begin in enumerate(range(0, len(audio), step)):
        if number == script.hang_after:
            await trio.sleep_forever()
        piece = audio[begin : begin + step]
        await stream.send_all(b"%x\r\n%b\r\n" % (len(piece), piece))
        if number + 1 == script.close_after:
            await trio.aclose_forcefully(stream)
            return
        await trio.sleep(len(piece) / FRAME_SAMPLES * FRAME_S / script.speed)


async def _watch(vendor: ElevenLabsServer, stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
    try:
        # The client sends nothing before it has the whole answer, so whatever ends this wait, it has left.
        await stream.receive_some(1)
    except trio.ClosedResourceError:
        return  # this server broke the connection off, as scripted
    except trio.BrokenResourceError:
        pass  # a reset is another way to leave
    vendor.interrupted.append(trio.current_time())
    scope.cancel()
