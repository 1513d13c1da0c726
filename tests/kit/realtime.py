"""The tools of the tests of OpenAI's Realtime engine: sessions with our fake server, a caller for them, and calls."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import attrs
import trio

from patter_trio import Agent, OpenAIRealtime, Patter
from patter_trio.abc import (
    EngineEvent,
    EngineResponse,
    EngineSession,
    EngineSetup,
    EngineWords,
    Message,
    SpeechChunk,
    ToolCall,
    ToolDefinition,
    VoiceEdge,
)
from patter_trio.audio.formats import RATE_HZ
from patter_trio.errors import ProviderError
from patter_trio.net.tasks import run_beside
from patter_trio.testing import ScriptedVAD
from patter_trio.testing.scripted_providers import audible_text
from patter_trio.testing.servers.openai_realtime import (
    FakeRealtime,
    RealtimeServer,
    RealtimeServerConnection,
    serve_openai_realtime,
)
from patter_trio.testing.simulation.caller import SimulatedCaller

Simulator = Callable[..., AbstractAsyncContextManager[SimulatedCaller]]

# Long and unlikely, so that a search for it in logs and errors finds nothing else.
KEY = "sk-made-up-key-that-nobody-may-see"
SORRY = "Sorry, again please."
# 20 ms, as a carrier sends.
FRAME = 160
SILENCE_BYTE = b"\xff" * FRAME


def serve(**script: Any) -> AbstractAsyncContextManager[RealtimeServer]:
    """Serve the vendor's protocol as scripted."""
    return serve_openai_realtime(FakeRealtime(key=KEY, **script))


def engine_of(vendor: RealtimeServer, **options: Any) -> OpenAIRealtime:
    return OpenAIRealtime(api_key=KEY, base_url=vendor.url, **options)


def agent_of(vendor: RealtimeServer, *, agent: dict[str, Any] | None = None, **options: Any) -> Agent:
    """Make an agent with the engine; ``agent`` has the agent's options, the others are the engine's."""
    chosen: dict[str, Any] = {"vad": ScriptedVAD(end_delay=0.3), "error_message": SORRY} | (agent or {})
    return Patter().agent(chosen.pop("system_prompt", "You are brief."), engine=engine_of(vendor, **options), **chosen)


# A session alone ------------------------------------------------------------------------------------------------------
@attrs.define(eq=False)
class RealtimeCaller:
    """The caller of one session, and the record of the engine's events."""

    session: EngineSession
    samples: int = 0
    spoken: int = 0
    received: list[tuple[float, EngineEvent]] = attrs.field(factory=list)
    failure: ProviderError | None = None
    _news: trio.Event = attrs.field(factory=trio.Event)

    async def hears(self, audio: bytes) -> None:
        """Send audio at its own pace."""
        for begin in range(0, len(audio), FRAME):
            piece = audio[begin : begin + FRAME]
            self.session.send(piece)
            self.samples += len(piece)
            # At the pace of speech: the fake detects turns by the audio, and its latencies run meanwhile.
            await trio.sleep(len(piece) / RATE_HZ)

    async def waits(self, seconds: float) -> None:
        await self.hears(SILENCE_BYTE * round(seconds * RATE_HZ / FRAME))

    async def begins(self, text: str, seconds: float = 1.0) -> bytes:
        """Speak without an end of the voice; return the audio."""
        self.spoken += 1
        audio = audible_text.encode(text, audible_text.frames_of(seconds), utterance=self.spoken)
        offset = self.samples
        # The VAD reports an onset 0.1 s late; the offset says when it was.
        await self.hears(audio[: 5 * FRAME])
        self.session.voice(VoiceEdge(speaking=True, offset=offset))
        await self.hears(audio[5 * FRAME :])
        return audio

    async def says(self, text: str, seconds: float = 1.0, *, pause: float = 0.3) -> bytes:
        """Speak, with the end of the voice noticed late and silence after it; return the audio."""
        audio = await self.begins(text, seconds)
        end = self.samples
        # Silence is heard before the end of the voice is reported, as with any VAD.
        await self.waits(pause)
        self.session.voice(VoiceEdge(speaking=False, offset=end))
        return audio

    async def listen(self) -> None:
        try:
            async for event in self.session.events():
                self.received.append((trio.current_time(), event))
                self._stir()
        # Kept, because the task would end the test; a test of failures looks at it.
        except ProviderError as error:
            self.failure = error
            self._stir()

    def _stir(self) -> None:
        # Set and replaced in one step: a task that waits sees each event, and looks for
        # itself whether it was the right one.
        self._news.set()
        self._news = trio.Event()

    async def until(self, holds: Callable[[], object], within: float = 30.0) -> None:
        """Wait until an event makes ``holds`` true."""
        # Far beyond every limit of the engine: a test that waits in vain fails, and says where.
        with trio.fail_after(within):
            while not holds():
                await self._news.wait()

    async def words(self, number: int) -> str:
        """Return the final words of a commit."""
        await self.until(lambda: number in self.finals())
        return self.finals()[number]

    def finals(self) -> dict[int, str]:
        return {e.commit: e.text for _, e in self.received if isinstance(e, EngineWords) and e.final}


@asynccontextmanager
async def line_of(
    engine: OpenAIRealtime,
    *,
    instructions: str = "Be brief.",
    tools: Sequence[ToolDefinition] = (),
    conversation: Callable[[], Sequence[Message]] = tuple,
) -> AsyncIterator[RealtimeCaller]:
    """Open a session, with a task that records its events."""
    setup = EngineSetup(instructions=instructions, tools=tuple(tools), conversation=conversation)
    async with engine.open(setup) as session:
        line = RealtimeCaller(session)
        # Beside the test, because a session's events must be taken while it does something else.
        async with run_beside(line.listen):
            yield line


@attrs.define
class Answer:
    """The text, audio and tool calls of an answer."""

    text: str = ""
    audio: bytes = b""
    calls: list[ToolCall] = attrs.field(factory=list)

    def add(self, piece: str | SpeechChunk | ToolCall) -> None:
        match piece:
            case str():
                self.text += piece
            case SpeechChunk():
                self.audio += piece.audio
            case ToolCall():
                self.calls.append(piece)

    @property
    def seconds(self) -> float:
        return len(self.audio) / RATE_HZ


async def taken(response: EngineResponse, *, until: float = float("inf")) -> Answer:
    """Take an answer to its end, or up to ``until`` seconds of its audio."""
    answer = Answer()
    async for piece in response:
        answer.add(piece)
        # The rest stays untaken, as when the caller interrupts: leaving the response stops it.
        if answer.seconds >= until:
            break
    return answer


async def answered(session: EngineSession, text: str = "", *, tools: bool = True) -> Answer:
    """Ask for an answer, and take all of it."""
    async with session.respond(text, tools=tools) as response:
        return await taken(response)


def sent_after(connection: RealtimeServerConnection, at: float) -> list[str]:
    """Return the types of the client's messages from an instant on, without audio."""
    return [str(message["type"]) for when, message in connection.said if when >= at]


def bare(messages: list[tuple[float, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return messages without their type, event id and instant, for a comparison."""
    # Ids are counted over the connection, so each would depend on everything before it.
    return [
        {key: value for key, value in message.items() if key not in ("type", "event_id")} for _, message in messages
    ]


def items_of(connection: RealtimeServerConnection) -> list[dict[str, Any]]:
    """Return the items that the client added to the conversation of a connection."""
    return [dict(message["item"]) for _, message in connection.sent("conversation.item.create")]


def shown(connection: RealtimeServerConnection) -> str:
    """Return all messages of a connection's client as one text."""
    return json.dumps([message for _, message in connection.said])
