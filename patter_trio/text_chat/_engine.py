"""An engine in a call that is held in text: its words are shown as they come, and its audio is left out."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import attrs

from patter_trio.abc import (
    Engine,
    EngineEvent,
    EngineResponse,
    EngineSession,
    EngineSetup,
    EngineWords,
    Message,
    SpeechChunk,
    ToolCall,
)
from patter_trio.audio.formats import MULAW_8K, RATE_HZ, AudioFormat
from patter_trio.text_chat._providers import SOUND, shown

# Judged: pieces are words or sentences, and few answers have more than a thousand words. Of a longer one, the engine
# learns too little of what the caller saw.
MAX_PIECES: Final = 4096
"""Pieces of an answer whose place in its audio is remembered."""


@attrs.frozen
class ShownEngine(Engine):
    """An engine whose answers are shown instead of played.

    Args:
        engine: the real one; it gets the caller's texts, and makes its audio in vain.
    """

    engine: Engine
    provider: str = attrs.field(init=False)
    model: str = attrs.field(init=False)
    accepts: AudioFormat = attrs.field(init=False)
    emits: AudioFormat = attrs.field(init=False, default=MULAW_8K)

    @provider.default
    def _provider(self) -> str:
        return self.engine.provider

    @model.default
    def _model(self) -> str:
        return self.engine.model

    @accepts.default
    def _accepts(self) -> AudioFormat:
        return self.engine.accepts

    async def prewarm(self) -> None:
        """Load what the engine loads."""
        await self.engine.prewarm()

    @asynccontextmanager
    async def open(self, setup: EngineSetup) -> AsyncIterator[EngineSession]:
        """Open a session of the engine."""
        async with self.engine.open(setup) as session:
            yield _ShownSession(session, self.engine.emits)


class _ShownSession(EngineSession):
    def __init__(self, session: EngineSession, emits: AudioFormat) -> None:
        self._session = session
        self._emits = emits

    def send(self, audio: bytes) -> None:
        self._session.send(audio)

    def commit(self) -> int:
        return self._session.commit()

    def discard(self) -> None:
        self._session.discard()

    def remember(self, message: Message) -> None:
        self._session.remember(message)

    def respond(self, text: str = "", *, tools: bool = True) -> AbstractAsyncContextManager[EngineResponse]:
        return self._respond(text, tools=tools)

    @asynccontextmanager
    async def _respond(self, text: str, *, tools: bool) -> AsyncIterator[EngineResponse]:
        async with self._session.respond(text, tools=tools) as response:
            yield _ShownResponse(response, self._emits)

    def events(self) -> AsyncIterator[EngineEvent]:
        return self._words()

    async def _words(self) -> AsyncIterator[EngineEvent]:
        async for event in self._session.events():
            # The end of a turn that nobody has spoken means nothing.
            if isinstance(event, EngineWords):
                yield event


class _ShownResponse(EngineResponse):
    """One answer: each piece of text is followed by a sound that takes no time."""

    def __init__(self, response: EngineResponse, emits: AudioFormat) -> None:
        self._response = response
        self._emits = emits
        self._next: deque[SpeechChunk] = deque()
        self._seconds = 0.0
        """The audio of the engine so far."""
        self._starts: deque[float] = deque(maxlen=MAX_PIECES)
        """The audio that came before each piece of text."""
        self._is_silent = True

    async def __anext__(self) -> str | SpeechChunk | ToolCall:
        if self._next:
            return self._next.popleft()
        while True:
            try:
                piece = await anext(self._response)
            except StopAsyncIteration:
                if not self._is_silent or not self._seconds:
                    raise
                # Speech without words: it counts as heard, although there is nothing to show.
                self._is_silent = False
                return SpeechChunk(SOUND)
            match piece:
                case str():
                    self._starts.append(self._seconds)
                    if any(map(str.isalnum, piece)):
                        self._is_silent = False
                        self._next.append(shown(piece, sentence=False))
                    return piece
                case SpeechChunk():
                    made = piece.format or self._emits
                    self._seconds += made.seconds(piece.audio)
                case ToolCall():
                    return piece

    def heard(self, seconds: float) -> None:
        # One sample for each piece with words; pieces that are marks alone have none, so this is never too much.
        pieces = round(seconds * RATE_HZ)
        self._response.heard(self._starts[pieces] if pieces < len(self._starts) else self._seconds)
