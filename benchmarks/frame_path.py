"""The cost of each stage of a call per 20 ms of audio, and a profile of a complete server.

``python -m benchmarks.frame_path [--calls 60] [--seconds 15]``
"""

import argparse
import functools
import json
import os
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import trio

from benchmarks.caller import media_frames, text_frame
from benchmarks.calls import machine, measure, serving
from benchmarks.sounds import FRAME_BYTES, QUESTION, frames_of, voiced, write_answer
from patter_trio.abc import AudioReceived
from patter_trio.audio import g711
from patter_trio.call.input.audio_queue import DropOldestChannel
from patter_trio.conversation.playback import Mark, Media, Playback
from patter_trio.conversation.playout import PlayoutQueue
from patter_trio.net.streams import receiver_of
from patter_trio.net.websocket import WebSocket, receive_upgrade
from patter_trio.vad.silero import SileroVAD
from patter_trio.wire.twilio import TwilioCodec

# Each stage is run alone, warm, in one process, on real frames of a recorded voice. Processor time, because the machine
# is shared; the best of several runs, because everything that disturbs makes a run slower and nothing makes it faster.
# The stages do not add up to a call: caches are colder there, and the kernel's share depends on the other side. The
# profile of a whole server below shows the sum.

LOOPS: Final = 2000
REPEATS: Final = 3
# 60 calls have about as many windows in the 8 ms for which a batch waits.
CONCURRENT_CALLS: Final = 16
START: Final = (
    b'{"event":"start","streamSid":"MZ1","start":{"streamSid":"MZ1","callSid":"CA1","customParameters":{},'
    b'"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}}}'
)
UPGRADE: Final = (
    b"GET / HTTP/1.1\r\nHost: benchmark\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

Stage = Callable[[], Awaitable[float]]
"""A function that runs a stage once and returns seconds of processor time per 20 ms of one call's audio."""


class Canned(trio.abc.Stream):
    """A stream whose data is always ready and which discards writes, to measure only the layers above it."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self._next = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        del max_bytes
        # Without a checkpoint: a read that never waits costs the layers above, and nothing else.
        self._next += 1
        return self._pieces[self._next % len(self._pieces)]

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        pass

    async def wait_send_all_might_not_block(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def opened(stream: trio.abc.Stream) -> WebSocket:
    """Return the server's end of a WebSocket over a stream, after the handshake."""
    return await (await receive_upgrade(stream, UPGRADE)).accept()


def spent(function: Callable[[], object], loops: int = LOOPS) -> float:
    began = time.process_time()
    for _ in range(loops):
        function()
    return (time.process_time() - began) / loops


@functools.cache
def sounds() -> list[bytes]:
    return frames_of(voiced(QUESTION))


@functools.cache
def wire() -> list[bytes]:
    return media_frames("MZ1", sounds())


def codec() -> TwilioCodec:
    codec = TwilioCodec()
    codec.receive(START.decode())
    return codec


async def kernel() -> float:
    """Measure one wake-up per message: the caller writes only when the server waits."""
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
    receive, own = receiver_of(ours), 0.0

    async def read() -> None:
        while await receive(16384):
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        began = time.process_time()
        for _ in range(LOOPS):
            theirs.socket._sock.send(wire()[0])  # noqa: SLF001 (to leave out trio's cost)
            # Two, until the reader has run and waits again: one to see the socket readable, one to read
            # it. Their own cost is subtracted below.
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
        own = time.process_time() - began
        # The reader waits for more; the time was taken before.
        nursery.cancel_scope.cancel()
    return own / LOOPS - 2 * await checkpoint()


async def checkpoint() -> float:
    began = time.process_time()
    for _ in range(LOOPS):
        await trio.lowlevel.checkpoint()
    return (time.process_time() - began) / LOOPS


async def websocket() -> float:
    line = await opened(Canned(wire()))
    began = time.process_time()
    for _ in range(LOOPS):
        await line.receive()
    return (time.process_time() - began) / LOOPS


async def json_base64() -> float:
    line = await opened(Canned(wire()))
    message = await line.receive()
    event = codec().receive(message)
    assert isinstance(event, AudioReceived)
    decode = codec().receive
    return spent(lambda: decode(message))


async def mulaw() -> float:
    # A frame from the middle of the voice; the cost does not depend on it, but silence would look like a choice.
    frame = sounds()[40]
    return spent(lambda: g711.decode(frame))


async def hop() -> float:
    feed: DropOldestChannel[bytes] = DropOldestChannel(50)

    async def take() -> None:
        while True:
            # The other end of the hand-over, always waiting: each item wakes it, which is the dearest case.
            await feed.take()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.lowlevel.checkpoint()
        began = time.process_time()
        for _ in range(LOOPS):
            feed.put(b"")
            await trio.lowlevel.checkpoint()
        own = time.process_time() - began
        nursery.cancel_scope.cancel()
    return own / LOOPS - await checkpoint()


async def vad(sessions: int) -> float:
    """Measure calls in step, each fed frame by frame."""
    samples = [g711.decode(sound) for sound in sounds()]
    own = 0.0

    async def one() -> None:
        async with SileroVAD().open() as session:
            # All sessions are open before the first is fed: opening one takes longer than many windows.
            arrived.release()
            await everyone.wait()
            # More repetitions for one call, whose measurement would otherwise be short.
            for part in samples * (2 if sessions > 1 else 4):
                await session.feed(part)

    arrived, everyone = trio.Semaphore(0), trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(sessions):
            nursery.start_soon(one)
        for _ in range(sessions):
            await arrived.acquire()
        own = time.process_time()
        everyone.set()
    return (time.process_time() - own) / sessions / len(samples) / (2 if sessions > 1 else 4)


async def ledger() -> float:
    """Measure the ledger per 20 ms of the agent's audio: the next message and its time, marks sent and returned."""
    playback, playout = Playback(), PlayoutQueue(1)
    playback.open(playout)
    now, media = 0.0, 0
    playout.put(bytes(LOOPS * FRAME_BYTES // 5), "Text.")
    playout.end()
    began = time.process_time()
    # On a clock of its own, which jumps to what the ledger waits for.
    while playout.waiting:
        match playback.next_message(now):
            case Media():
                # A message has 100 ms, and the unit is 20 ms.
                media += 5
            case Mark(name):
                # At once, as from a caller who hears without delay: the ledger must not stop to wait for marks.
                playback.reached(name, now)
            case float(wait):
                now += wait
    return (time.process_time() - began) / media


async def writer() -> float:
    """Measure encoding and framing per 20 ms of the agent's audio, in messages of 100 ms."""
    line = await opened(Canned([b""]))
    # Five frames: the size of a message.
    voice, encode = sounds()[40] * 5, codec().audio
    began = time.process_time()
    for _ in range(LOOPS):
        await line.send(encode(voice))
    return (time.process_time() - began) / LOOPS / 5


async def mark() -> float:
    line = await opened(Canned([text_frame({"event": "mark", "streamSid": "MZ1", "mark": {"name": "r1.1"}})]))
    decode = codec().receive
    began = time.process_time()
    for _ in range(LOOPS):
        decode(await line.receive())
    return (time.process_time() - began) / LOOPS / 10  # one mark every 200 ms


STAGES: Final[dict[str, Stage]] = {
    "in: kernel and event loop, a wake-up for each message": kernel,
    "in: WebSocket frame to text": websocket,
    "in: JSON and base64 to audio": json_base64,
    "in: mu-law to samples": mulaw,
    "in: hand-over to another task (twice: voice activity, transcription)": hop,
    "in: VAD, a single call": lambda: vad(1),
    f"in: VAD, {CONCURRENT_CALLS} concurrent calls": lambda: vad(CONCURRENT_CALLS),
    "out: ledger (what to send, when; marks)": ledger,
    "out: JSON, base64 and framing": writer,
    "out: a returned mark, every 200 ms": mark,
}
"""The stages in the order of the audio's path, in and out."""


async def measure_stages() -> dict[str, float]:
    """Return microseconds per 20 ms of one call's audio, the best of several runs."""
    # The best, not the mean: noise only adds.
    return {name: 1e6 * min([await stage() for _ in range(REPEATS)]) for name, stage in STAGES.items()}


# The first prefix that fits decides, so the narrower ones come first: "trio" would take the sockets along.
AREAS: Final = (
    ("VAD: inference", ("onnxruntime", "patter_trio.providers.weights")),
    ("VAD: other", ("patter_trio.vad", "numpy")),
    ("mu-law", ("patter_trio.audio",)),
    ("WebSocket", ("websockets", "patter_trio.net")),
    ("carrier's protocol", ("patter_trio.wire", "patter_trio.carriers")),
    ("call: tasks and hand-overs", ("patter_trio.call", "patter_trio.events", "patter_trio.user_code")),
    ("turn-taking, ledger", ("patter_trio.conversation",)),
    ("sockets", ("trio._socket", "trio._highlevel", "trio._core._io")),
    ("event loop", ("trio", "outcome", "sortedcontainers", "attr")),
)


def area_of(name: str) -> str:
    # Methods that attrs makes have no file; their name holds the module.
    name = name.removeprefix("<attrs generated methods ")
    return next((area for area, prefixes in AREAS if name.startswith(prefixes)), "other")


def profile(server: str, calls: int, seconds: float, nice: int) -> tuple[dict[str, Any], Counter[str]]:
    """Run a server under N callers and a sampling profiler; return the callers' measurements and the samples by
    function.
    """
    with tempfile.TemporaryDirectory() as folder:
        sounds, found = Path(folder), Path(folder) / "profile.json"
        write_answer(sounds)
        with serving(server, sounds, "--profile", str(found), core=0, nice=nice) as about:
            result = measure(about, calls, seconds, core=1, nice=nice)
        return result, Counter(json.loads(found.read_text())["own"])


def _print_profile(server: str, result: dict[str, Any], own: Counter[str]) -> None:
    cost, total = result["cpu_ms_per_call_second"], sum(own.values())
    areas: Counter[str] = Counter()
    for name, samples in own.items():
        areas[area_of(name)] += samples
    print(f"\n{server}, {result['calls']} calls: {cost:.1f} ms of processor time per call-second, {total} samples\n")
    print("| where | share | ms per call-second |\n|---|---:|---:|")
    for area, samples in areas.most_common():
        print(f"| {area} | {100 * samples / total:.0f} % | {cost * samples / total:.2f} |")
    print("\n| function | share |\n|---|---:|")
    for name, samples in own.most_common(20):
        print(f"| `{name}` | {100 * samples / total:.1f} % |")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frame_path", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--calls", type=int, default=60, help="number of calls while the server is profiled; 0: no profile"
    )
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--nice", type=int, default=0, help="as for benchmarks.calls")
    options = parser.parse_args()
    print(f"{machine((), Path())['processor']}, {os.cpu_count()} cores\n")
    print("| stage | us per 20 ms of a call |\n|---|---:|")
    for name, cost in trio.run(measure_stages).items():
        print(f"| {name} | {cost:.1f} |")
    if options.calls:
        for server in ("ours", "bare"):
            _print_profile(server, *profile(server, options.calls, options.seconds, options.nice))


if __name__ == "__main__":
    main()
