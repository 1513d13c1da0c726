"""The minimum trio program for each vendor, with which ``benchmarks.providers`` compares the providers.

It is ``websockets``' protocol core, or h11, on a trio stream, and msgspec for the JSON. It has no deadlines, no second
task that answers pings, no reconnection, no errors of its own and no usage; fields that it does not need, such as word
times, are not decoded.
"""

import itertools
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import h11
import msgspec
import trio
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from benchmarks.provider_loops import KEY, MESSAGES, SENTENCES, Count, heard, speak, spoken
from patter_trio import DeepgramSTT

# Larger than the shell's: a raw program asks for as much as there is.
READ_BYTES: Final = 65536


# Sockets --------------------------------------------------------------------------------------------------------------
class Socket:
    """A WebSocket for one sending and one receiving task."""

    def __init__(self, stream: trio.abc.Stream, protocol: ClientProtocol) -> None:
        self._stream = stream
        self._protocol = protocol
        self._ready: deque[bytes] = deque()

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        # Cancelling it would leave half a frame, and the next send would go on behind it: the shell
        # takes care of that, this program does not.
        await self._stream.send_all(b"".join(self._protocol.data_to_send()))

    async def receive(self) -> bytes:
        while not self._ready:
            data = await self._stream.receive_some(READ_BYTES)
            # The one failure that is noticed: the benchmark should not wait for ever.
            if not data:
                raise EOFError("the vendor closed the connection")
            self._protocol.receive_data(bytes(data))
            for event in self._protocol.events_received():
                # Pings are answered with the next send, if there is one.
                if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    self._ready.append(bytes(event.data))
        return self._ready.popleft()


@asynccontextmanager
async def opened(port: int, target: str, headers: dict[str, str]) -> AsyncIterator[Socket]:
    """Open a WebSocket on loopback."""
    protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}{target}"))
    request = protocol.connect()
    request.headers.update(headers)
    protocol.send_request(request)
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"".join(protocol.data_to_send()))
        # Without a deadline, as a first program is written.
        while protocol.state is State.CONNECTING:
            protocol.receive_data(bytes(await stream.receive_some(READ_BYTES)))
        if protocol.handshake_exc is not None:
            raise protocol.handshake_exc
        yield Socket(stream, protocol)


class Web:
    """A kept-alive HTTP/1.1 connection that gets one answer after another."""

    def __init__(self, stream: trio.abc.Stream, port: int) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self._host = f"127.0.0.1:{port}"

    async def post(self, target: str, headers: dict[str, str], body: bytes) -> AsyncIterator[bytes]:
        every = {"Host": self._host, "Content-Length": str(len(body)), "Content-Type": "application/json", **headers}
        http = self._http
        head = http.send(h11.Request(method="POST", target=target, headers=list(every.items())))
        await self._stream.send_all(
            b"".join([head or b"", http.send(h11.Data(body)) or b"", http.send(h11.EndOfMessage()) or b""])
        )
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(bytes(await self._stream.receive_some(READ_BYTES)))
            elif isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                # The connection is reused, as the package's client does: opening one for each
                # request would cost more than the rest.
                http.start_next_cycle()
                return


# STT ------------------------------------------------------------------------------------------------------------------
# Without the times of words: a program that only wants the text does not read them.
class _Alternative(msgspec.Struct):
    transcript: str = ""


class _Channel(msgspec.Struct):
    alternatives: list[_Alternative] = []


class _Results(msgspec.Struct):
    channel: _Channel | None = None
    is_final: bool = False


_results: Final = msgspec.json.Decoder(_Results).decode


async def deepgram(port: int, count: Count, delay: float) -> None:
    async def listen() -> None:
        while True:
            results = _results(await socket.receive())
            if results.channel is not None:
                heard(count, results.channel.alternatives[0].transcript)

    async def end() -> None:
        await socket.send('{"type":"Finalize"}')

    # The provider's own address, so that both loops get the same results.
    target = DeepgramSTT(api_key=KEY, base_url="ws://x").url(language="en").removeprefix("ws://x")
    async with opened(port, target, {"Authorization": f"Token {KEY}"}) as socket, trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await speak(socket.send, end, count, delay)


# LLM ------------------------------------------------------------------------------------------------------------------
class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []


_chunk: Final = msgspec.json.Decoder(_Chunk).decode


async def openai(port: int, count: Count, delay: float) -> None:
    body = msgspec.json.encode(
        {"model": "made-up", "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
    )
    headers = {"Authorization": f"Bearer {KEY}", "Accept": "text/event-stream"}
    # Before connecting: the requests of all loops would otherwise be in step.
    await trio.sleep(delay)
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        web = Web(stream, port)
        while True:
            rest = b""
            async for data in web.post("/v1/chat/completions", headers, body):
                # Not a parser of server-sent events, only as much as this vendor's need.
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    if event != b"data: [DONE]":
                        for choice in _chunk(event[6:]).choices:
                            if choice.delta.content:
                                count.items += 1
                                count.came(choice.delta.content)


# TTS ------------------------------------------------------------------------------------------------------------------
class _Audio(msgspec.Struct, rename="camel"):
    audio: bytes | None = None
    is_final: bool = False


_audio: Final = msgspec.json.Decoder(_Audio).decode


async def elevenlabs(port: int, count: Count, delay: float) -> None:
    target = (
        "/v1/text-to-speech/voice/multi-stream-input?model_id=eleven_flash_v2_5&output_format=ulaw_8000&auto_mode=true"
    )
    async with opened(port, f"{target}&sync_alignment=true", {"xi-api-key": KEY}) as socket:
        await trio.sleep(delay)
        for number in itertools.count():
            context = f"reply-{number}"
            parts: list[dict[str, Any]] = [
                # The messages that the provider sends for the same reply, with the space that opens a context.
                {"text": " "},
                *({"text": f"{sentence} "} for sentence in SENTENCES),
                {"flush": True},
                {"close_context": True},
            ]
            for part in parts:
                await socket.send(msgspec.json.encode({**part, "context_id": context}).decode())
            made = _Audio()
            while not made.is_final:
                made = _audio(await socket.receive())
                if made.audio:
                    spoken(count, made.audio)


async def elevenlabs_http(port: int, count: Count, delay: float) -> None:
    await trio.sleep(delay)
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        web = Web(stream, port)
        while True:
            for sentence in SENTENCES:
                body = msgspec.json.encode({"text": sentence, "model_id": "eleven_flash_v2_5"})
                target = "/v1/text-to-speech/voice/stream?output_format=ulaw_8000"
                async for piece in web.post(target, {"xi-api-key": KEY}, body):
                    spoken(count, piece)
