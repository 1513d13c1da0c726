"""The minimum that any trio server must do for the same calls: no framework, one task for each call, everything inline.

It uses ``websockets``' protocol core on a trio stream, msgspec, a table for mu-law, Silero on every window, an endpoint
after 0.5 s of silence, a barge-in after 0.2 s of voice, and a canned answer. It has no clock of its own: audio that is
due is sent when the caller's next frame comes in, in messages of 100 ms, 400 ms ahead, with one mark at the end of the
answer.

It has no STT, LLM, history or events, does not track what was heard, and handles neither deadlines, back-pressure nor
errors.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import trio
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

import patter_trio.vad
from benchmarks.sampling import run_server
from patter_trio.audio import g711

# The model's own: 32 ms at 8 kHz, with the last 4 ms of the window before.
WINDOW = 256
CONTEXT = 32
# The durations that the other servers are set to, in samples.
ENDPOINT = 0.5 * 8000
MIN_SPEECH = 0.2 * 8000
# 100 ms and 400 ms, as patter_trio sends: the comparison is about the work, not about the choice of numbers.
MESSAGE = 800
AHEAD = 0.4


class Body(msgspec.Struct):
    payload: bytes


class Start(msgspec.Struct, rename="camel"):
    stream_sid: str


class Message(msgspec.Struct):
    event: str
    media: Body | None = None
    start: Start | None = None


class OutMark(msgspec.Struct):
    name: str


class OutMessage(msgspec.Struct, rename="camel", omit_defaults=True):
    event: str
    stream_sid: str
    media: Body | None = None
    mark: OutMark | None = None


decode = msgspec.json.Decoder(Message).decode
encode = msgspec.json.Encoder().encode
options = onnxruntime.SessionOptions()
# One thread: for so small a model, dividing the work costs more than it saves, and the server has one core.
options.intra_op_num_threads = options.inter_op_num_threads = 1
silero = onnxruntime.InferenceSession(
    str(Path(patter_trio.vad.__file__).parent / "silero_vad.onnx"), options, providers=["CPUExecutionProvider"]
)
RATE_HZ = np.array(8000, dtype=np.int64)
# All 256 codes as floats: decoding is one look-up for each sample.
TABLE = (g711.decode(bytes(range(256))) / np.float32(32768)).astype(np.float32)


class Voice:
    """The VAD of one caller: windows in, ``began`` and ``ended`` out."""

    def __init__(self) -> None:
        self.state = np.zeros((2, 1, 128), np.float32)
        self.buffer = np.zeros((1, CONTEXT + WINDOW), np.float32)
        self.filled = CONTEXT
        self.speech = self.silence = 0
        self.speaking = False

    def feed(self, heard: np.ndarray) -> Iterator[str]:
        while len(heard):
            part, heard = heard[: CONTEXT + WINDOW - self.filled], heard[CONTEXT + WINDOW - self.filled :]
            self.buffer[0, self.filled : self.filled + len(part)] = part
            self.filled += len(part)
            if self.filled == CONTEXT + WINDOW:
                output, self.state = silero.run(None, {"input": self.buffer, "state": self.state, "sr": RATE_HZ})
                self.buffer[0, :CONTEXT] = self.buffer[0, -CONTEXT:]
                self.filled = CONTEXT
                yield from self.step(float(output[0, 0]))

    def step(self, probability: float) -> Iterator[str]:
        # Hysteresis, as the model's authors recommend and patter_trio has it: a voice
        # that has begun is held at a lower value.
        if probability >= (0.35 if self.speech else 0.5):
            self.speech += WINDOW
            self.silence = 0
            if not self.speaking and self.speech >= MIN_SPEECH:
                self.speaking = True
                yield "began"
        else:
            self.silence += WINDOW
            if not self.speaking:
                # A voice that breaks off before it was long enough begins anew.
                self.speech = 0
            elif self.silence >= ENDPOINT:
                self.speaking = False
                self.speech = 0
                yield "ended"


async def call(answer: bytes, stream: trio.SocketStream) -> None:
    protocol = ServerProtocol()
    voice = Voice()
    sid = ""
    at, until = len(answer), 0.0  # position in the answer; time at which the caller will have heard it
    while data := await stream.receive_some(16384):
        protocol.receive_data(bytes(data))
        for event in protocol.events_received():
            if isinstance(event, Request):
                protocol.send_response(protocol.accept(event))
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                message = decode(event.data)
                if message.media is not None:
                    for edge in voice.feed(TABLE.take(np.frombuffer(message.media.payload, np.uint8))):
                        now = trio.current_time()
                        if edge == "ended":
                            at, until = 0, now
                        # Only if there is something to clear: unsent audio, or audio that is still being played.
                        elif at < len(answer) or until > now:
                            at, until = len(answer), now
                            protocol.send_text(encode(OutMessage("clear", sid)))
                elif message.start is not None:
                    sid = message.start.stream_sid
        # Driven by the caller's frames: every 20 ms is often enough, and saves a timer.
        if at < len(answer):
            now = trio.current_time()
            while at < len(answer) and until - now + MESSAGE / 8000 <= AHEAD:
                protocol.send_text(encode(OutMessage("media", sid, media=Body(answer[at : at + MESSAGE]))))
                at += MESSAGE
                until = max(until, now) + MESSAGE / 8000
                if at >= len(answer):
                    protocol.send_text(encode(OutMessage("mark", sid, mark=OutMark("end"))))
        if out := b"".join(protocol.data_to_send()):
            await stream.send_all(out)


async def serve(answer: bytes) -> None:
    async def connection(stream: trio.SocketStream) -> None:
        # The only error that is expected: a caller that was cut off.
        with suppress(trio.BrokenResourceError):
            await call(answer, stream)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(json.dumps({"port": listener.socket.getsockname()[1], "pid": os.getpid(), "path": "/"}), flush=True)
    await trio.serve_listeners(connection, [listener])


if __name__ == "__main__":
    run_server(serve)
