"""The fake vendors in a process of their own, which write into each message the time at which it left.

The fakes are those of the test kit. Their messages contain twelve digits as a placeholder, which is replaced by the
time on the way out.
"""

import base64
import json
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from patter_trio.testing.servers.deepgram import DeepgramServer, FakeDeepgram
from patter_trio.testing.servers.elevenlabs import ElevenLabsServer, FakeElevenLabs, serve_stream
from patter_trio.testing.servers.openai import ChatReply, OpenAIServer

# Microseconds of eleven days; always as many digits, so that a message keeps its length and its base64 groups.
DIGITS: Final = 12
PLACE: Final = b"9" * DIGITS
ANSWER_WORDS: Final = 50
"""Words in an answer."""
TOKEN_INTERVAL_S: Final = 0.02
"""Seconds between two words."""
RESULT_INTERVAL_S: Final = 0.2
"""Seconds of audio between two interim results."""
CHUNK_S: Final = 0.25
"""Seconds of speech in a message."""
SPEECH_SPEED_FACTOR: Final = 5.0
"""Seconds of speech that are made in a second."""

Stamp = Callable[[bytes, bytes], bytes]
"""A function that writes a time into a message."""


def now() -> bytes:
    """Return the time in microseconds, as digits; it is the same in all processes of a machine."""
    return b"%0*d" % (DIGITS, time.perf_counter_ns() // 1000 % 10**DIGITS)


def in_text(data: bytes, at: bytes) -> bytes:
    return data.replace(PLACE, at)


def in_json_audio(data: bytes, at: bytes) -> bytes:
    begin = data.find(b'"audio": "') + 10
    # The time takes the place of the audio's beginning: twelve bytes are sixteen letters of base64, whole groups.
    return data if begin < 10 else data[:begin] + base64.b64encode(at) + data[begin + DIGITS * 4 // 3 :]


def in_speech(data: bytes, at: bytes) -> bytes:
    """Stamp WebSocket messages, and the pieces of an HTTP answer, which are audio after their length."""
    length, line, rest = data.partition(b"\r\n")
    # A line of at most eight characters is the length of an HTTP chunk; anything else is a WebSocket frame or a head.
    if len(length) > 8 or len(rest) < DIGITS:
        return in_json_audio(data, at)
    return length + line + at + rest[DIGITS:]


class Stamped(trio.abc.Stream):
    """A connection that writes into each message the time at which it left."""

    def __init__(self, stream: trio.abc.Stream, stamp: Stamp) -> None:
        self._stream = stream
        self._stamp = stamp

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        # At the last moment in this process: what the fake took to make the message is not counted.
        await self._stream.send_all(self._stamp(bytes(data), now()))

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _listen(nursery: trio.Nursery, serve: Callable[[trio.abc.Stream], Awaitable[None]], stamp: Stamp) -> int:
    async def connection(stream: trio.abc.Stream) -> None:
        await serve(Stamped(stream, stamp))

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, connection, [listener])
    port: int = listener.socket.getsockname()[1]
    return port


async def listen(nursery: trio.Nursery) -> list[int]:
    """Serve the fakes in a nursery; return the ports of Deepgram, OpenAI and ElevenLabs."""
    deepgram = DeepgramServer(
        # The placeholder is a word that appears in interim results only, at their end.
        FakeDeepgram(interim_every=RESULT_INTERVAL_S, final_delay=0.0, hallucinates=PLACE.decode())
    )
    openai = OpenAIServer(
        [ChatReply(" ".join([PLACE.decode()] * ANSWER_WORDS), duration=ANSWER_WORDS * TOKEN_INTERVAL_S)]
    )
    elevenlabs = ElevenLabsServer("", FakeElevenLabs(first_audio=0.0, chunk=CHUNK_S, speed=SPEECH_SPEED_FACTOR))
    return [
        await _listen(nursery, deepgram.serve, in_text),
        await _listen(nursery, openai.handle, in_text),
        await _listen(nursery, partial(serve_stream, elevenlabs), in_speech),
    ]


async def main() -> None:
    """Serve until killed; print the ports on standard output."""
    async with trio.open_nursery() as nursery:
        print(json.dumps({"pid": os.getpid(), "ports": await listen(nursery)}), flush=True)


if __name__ == "__main__":
    trio.run(main)
