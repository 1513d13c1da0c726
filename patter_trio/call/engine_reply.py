"""A reply that an engine makes: its words and its voice, from the first response to the last sample in the lane."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final

import attrs

from patter_trio.abc import EngineResponse, EngineSession, SpeechChunk, usage_sink
from patter_trio.audio.formats import RATE, AudioFormat
from patter_trio.call.backend import CallServices
from patter_trio.call.output import reply as replies
from patter_trio.call.output.speech import SpeechFeed
from patter_trio.conversation import inputs
from patter_trio.conversation.text import is_sayable
from patter_trio.errors import ProviderError, leaves
from patter_trio.metrics.internal_events import LlmChunk, LlmFailed, TtsFinished
from patter_trio.user_code.context import current_call

AnswerPiece = str | SpeechChunk | replies.AnswerPhase | replies.ProgressText
AnswerPieces = AbstractAsyncContextManager[AsyncIterator[AnswerPiece]]

MAX_PLAYOUT_SAMPLES: Final = 120 * RATE
"""2 min of audio in a lane: an engine is quicker than speech, and waits only with an answer that nobody would listen to."""

_log = logging.getLogger("patter_trio.call")


@attrs.frozen(eq=False)
class _Part:
    """A response within a reply, and the sample of its lane that it begins with."""

    response: EngineResponse
    start: int


class EngineReply(replies.Reply):
    """A reply that an engine makes: words and voice come together, and go into the lane as they come."""

    def __init__(
        self, number: int, turn: int, emit_fact: replies.EmitFact, session: EngineSession, *, language: str
    ) -> None:
        super().__init__(number, turn, emit_fact, language=language)
        self._session = session
        self._parts: list[_Part] = []
        self._feed: SpeechFeed | None = None

    @asynccontextmanager
    async def respond(
        self, text: str = "", *, tools: bool = False, by: EngineSession | None = None
    ) -> AsyncIterator[EngineResponse]:
        """Open a response as the next part of this reply; ``by`` another session than the call's."""
        await self._push()  # the new part begins behind all audio of the one before
        async with (by or self._session).respond(text, tools=tools) as response:
            self._parts.append(_Part(response, self.playout.put_samples))
            self.playout.begin()
            yield response

    def heard(self, seconds: float) -> None:
        """It was cut: tell the engine how much of each part the caller heard."""
        for part in self._parts:
            part.response.heard(max(0.0, seconds - part.start / RATE))

    async def make(self, pieces: Callable[[], AnswerPieces], emits: AudioFormat, at: CallServices) -> None:
        """Have it made; the inbox is told how it went, unless the scope was cancelled."""
        usage_sink.set(self._used)
        begun = partial(self._sounds, at.post)
        self._feed = feed = SpeechFeed(self.playout, emits, at.writer, MAX_PLAYOUT_SAMPLES, begun=begun)
        with self.scope:
            try:
                self._begin_thinking()
                async with pieces() as made:
                    async for piece in made:
                        await self._take(piece, feed, at)
                await feed.finish()
            except* ProviderError as group:
                error = next(leaves(group))
                self._emit_failure(LlmFailed, error)
                _log.warning("call %s: a reply failed: %s", current_call.get(), error)
                at.post(inputs.ReplyFailed(self.number, str(error)))
            else:
                self._end_thinking()
                self.emit_fact(TtsFinished(self.number, self.turn))
                self._all_made(at.writer, at.post)

    async def _push(self) -> None:
        if self._feed is not None:
            await self._feed.push()

    async def _take(self, piece: AnswerPiece, feed: SpeechFeed, at: CallServices) -> None:
        match piece:
            case str():
                self._begin(at.post)
                self._say(piece)
            case SpeechChunk():
                self._begin(at.post)
                await feed.put(attrs.evolve(piece, text=""))  # its words come as texts of their own
            case replies.ProgressText():
                async with self.respond(piece.text) as response:
                    async for part in response:
                        if isinstance(part, str):
                            self.playout.add_text(part)  # it is a text of ours, not one of the engine's
                        elif isinstance(part, SpeechChunk):
                            await self._take(part, feed, at)
            case replies.AnswerPhase.TOOLS:
                self._begin(at.post)  # the call of a tool is made of tokens, too
                await self._push()  # speech pauses until the tools have answered
                self._end_thinking()
            case replies.AnswerPhase.MODEL:
                self._begin_thinking()
            case replies.AnswerPhase.OVER:
                pass  # an engine's reply ends when its response is closed

    def _say(self, text: str) -> None:
        if not is_sayable(text):
            raise ProviderError("half a character is no text that can be said")
        if text:
            self.emit_fact(LlmChunk(self.number, self.turn, text))
            self.playout.add_text(text)
