"""The use of each vendor's provider that ``benchmarks.providers`` measures, and the counts; ``provider_raw`` has the
raw loops.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import attrs
import trio

from benchmarks.servers.vendors import DIGITS
from patter_trio import DeepgramSTT, ElevenLabsTTS, OpenAILLM
from patter_trio.abc import Message, VoiceEdge
from patter_trio.net.http import shared_client
from patter_trio.testing.scripted_providers import audible_text

WORDS: Final = "I should like to know whether there is a room for two at the end of next week"
# Without a pause, so that each interim result has words, and with them a timestamp.
UTTERANCE: Final = [audible_text.encode(WORDS, 100)[begin : begin + 160] for begin in range(0, 16000, 160)]
"""Two seconds of a voice, in frames of 20 ms."""
SENTENCES: Final = (
    "Good morning, this is the front desk.",
    "There is a room left for two.",
    "Shall I keep it for you?",
)
MESSAGES: Final[list[Message]] = [
    {"role": "system", "content": "You are the front desk of a hotel."},
    {"role": "user", "content": "Is there a room left?"},
]
KEY: Final = "key"


@attrs.define
class Count:
    """The work of a loop since the count began."""

    items: int = 0
    late: list[int] = attrs.field(factory=list)
    """Microseconds from the time at which a message left the vendor to the time at which the program has its content.
    """

    def came(self, stamp: str | bytes) -> None:
        """Record a message by the timestamp in it."""
        # The clock is the machine's: the fake reads it in its process, this loop in its own. The digits are those of
        # eleven days, so a run that crosses their end would show one absurd value.
        self.late.append(time.perf_counter_ns() // 1000 % 10**DIGITS - int(stamp))


Loop = Callable[[int, Count, float], Awaitable[None]]
"""A function that uses a vendor at a port of loopback until it is cancelled; it begins after ``delay`` seconds."""


# STT ------------------------------------------------------------------------------------------------------------------
async def speak(
    send: Callable[[bytes], Awaitable[None]], end: Callable[[], Awaitable[None]], count: Count, delay: float
) -> None:
    """Send frames in real time, and the end of the voice after each utterance, as a caller's audio comes."""
    # Instants, not pauses: a loop that is late catches up, so both loops send equally many frames.
    due = trio.current_time() + delay
    while True:
        for frame in UTTERANCE:
            await trio.sleep_until(due)
            # Awaited, as in a call: back-pressure slows the loop down, and shows as fewer items.
            await send(frame)
            count.items += 1
            due += 0.02
        await end()


def heard(count: Count, text: str) -> None:
    """Record interim words, which end with the timestamp."""
    # Final results have no made-up word at their end, and so no time.
    if text[-DIGITS:].isdigit():
        count.came(text[-DIGITS:])


async def deepgram(port: int, count: Count, delay: float) -> None:
    async def listen() -> None:
        async for transcript in session.transcripts():
            heard(count, transcript.text)

    async def end() -> None:
        await session.voice(VoiceEdge(speaking=False, offset=0))

    stt = DeepgramSTT(api_key=KEY, base_url=f"ws://127.0.0.1:{port}")
    async with stt.open(language="en") as session, trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await speak(session.send, end, count, delay)


async def no_stt(_: int, count: Count, delay: float) -> None:
    """Send at the pace alone, which is part of the cost of both other loops."""

    async def send(_: bytes) -> None: ...

    async def end() -> None: ...

    await speak(send, end, count, delay)


# LLM ------------------------------------------------------------------------------------------------------------------
async def openai(port: int, count: Count, delay: float) -> None:
    llm = OpenAILLM(KEY, model="made-up", base_url=f"http://127.0.0.1:{port}/v1")
    await trio.sleep(delay)
    async with shared_client():  # as a running server holds it
        while True:
            async with llm.stream(MESSAGES) as items:
                async for item in items:
                    if isinstance(item, str):
                        count.items += 1
                        count.came(item)


# TTS ------------------------------------------------------------------------------------------------------------------
def spoken(count: Count, audio: bytes) -> None:
    """Record audio, which begins with the timestamp."""
    if audio[:DIGITS].isdigit():
        count.items += 1
        count.came(audio[:DIGITS])


class Sentences(AsyncIterator[str]):
    """A reply as an LLM gives it, sentence by sentence; iteration may stop anywhere."""

    def __init__(self) -> None:
        self._rest = iter(SENTENCES)

    # A plain iterator, because a generator that is left in the middle would have to be closed.
    async def __anext__(self) -> str:
        for sentence in self._rest:
            return sentence
        raise StopAsyncIteration


async def _elevenlabs(transport: Any, port: int, count: Count, delay: float) -> None:
    tts = ElevenLabsTTS(api_key=KEY, base_url=f"http://127.0.0.1:{port}", transport=transport)
    # Held open, as a running server does, so that no reply pays for a client of its own.
    async with shared_client(), tts.open(language="en") as session:
        await trio.sleep(delay)
        while True:
            async with session.speak(Sentences()) as chunks:
                async for chunk in chunks:
                    spoken(count, chunk.audio)


async def elevenlabs(port: int, count: Count, delay: float) -> None:
    await _elevenlabs("websocket", port, count, delay)


async def elevenlabs_http(port: int, count: Count, delay: float) -> None:
    await _elevenlabs("http", port, count, delay)
