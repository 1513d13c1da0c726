"""A reply that an engine makes: text and audio, from the first response to the last sample in the playout queue."""

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import attrs

from patter_trio.abc import EngineResponse, EngineSession, SpeechChunk
from patter_trio.abc._usage import usage_sink
from patter_trio.agent.guardrails import Guardrail
from patter_trio.audio.formats import RATE_HZ, AudioFormat
from patter_trio.call.backend import CallServices
from patter_trio.call.engine_guard import SpeechBlocked, SpeechGuard
from patter_trio.call.output import reply as replies
from patter_trio.call.output.speech import SpeechFeed
from patter_trio.conversation import inputs
from patter_trio.errors import ProviderError, leaves
from patter_trio.metrics.internal_events import EmitFact, LlmCalledTools, LlmFailed, TtsFinished
from patter_trio.providers.attempts import NothingCame, says_something

TakePiece = replies.TakePiece[str | SpeechChunk]
EngineSource = Callable[[TakePiece], Awaitable[None]]
"""Generates an engine's answer, and has each piece taken before it makes the next one."""

# Judged: mu-law of two minutes is 1 MB, and an engine may have finished an answer of a minute
# before five seconds are played.
MAX_ENGINE_PLAYOUT_SAMPLES: Final = 120 * RATE_HZ
"""2 min of audio in a playout queue.

An engine generates faster than real time. It has to wait only with an answer longer than any caller would listen to.
"""
_log = logging.getLogger("patter_trio.call")


@attrs.define(eq=False)
class _Part:
    """A response within a reply, and the samples of the playout queue between which it lies."""

    response: EngineResponse
    start: int
    end: float = math.inf

    def heard(self, samples: float) -> None:
        """Tell the engine how much of the response was heard, if that many samples of the reply were."""
        self.response.heard(max(0.0, min(samples, self.end) - self.start) / RATE_HZ)


class EngineReply(replies.Reply):
    """A reply that an engine makes: text and audio arrive together, and go into the playout queue as they arrive."""

    def __init__(
        self,
        number: int,
        turn: int,
        emit_fact: EmitFact,
        session: EngineSession,
        *,
        language: str,
        guard: SpeechGuard | None = None,
    ) -> None:
        super().__init__(number, turn, emit_fact, language=language)
        self._session = session
        self._guard = guard
        self._parts: list[_Part] = []
        self._feed: SpeechFeed | None = None
        self._says = False
        """True if the engine has given text that can be spoken."""

    @property
    def waits_for(self) -> str:
        """The engine, which makes all of the reply."""
        return "the engine"

    @asynccontextmanager
    async def respond(
        self, text: str = "", *, tools: bool = False, by: EngineSession | None = None
    ) -> AsyncIterator[EngineResponse]:
        """Open a response as the next part of this reply; ``by`` names a session other than the call's."""
        # First, because put_samples below must count all audio of the part before this one.
        await self._push()
        async with (by or self._session).respond(text, tools=tools) as response:
            self._parts.append(_Part(response, self.playout.put_samples))
            self.playout.begin()
            yield response

    def heard(self, seconds: float) -> None:
        """Tell the engine how much of each part the caller heard, because the reply was cut."""
        for part in self._parts:
            part.heard(seconds * RATE_HZ)

    async def make(self, source: EngineSource, emits: AudioFormat, at: CallServices) -> None:
        """Generate the reply, and post its success or failure unless the scope was cancelled."""
        usage_sink.set(self._used)
        begun = partial(self._sounds, at.post)
        self._feed = feed = SpeechFeed(self.playout, emits, at.writer, MAX_ENGINE_PLAYOUT_SAMPLES, begun=begun)
        with self.scope:
            try:
                self._begin_thinking()
                await self._generate(source, partial(self._take_piece, feed, at), at)
                # Only now has the last response ended, and no more audio comes.
                await feed.finish()
                if self._says and not self.playout.put_samples:
                    raise NothingCame("the engine gave no audio for what it said")
            except* ProviderError as group:
                # A group, because respond() may run a nursery. Other exceptions are bugs, and end the conversation.
                error = next(leaves(group))
                self._emit_failure(LlmFailed, error)
                self._log_failure(error)
                # The speech that has come is heard to its end: an engine is ahead of what the caller hears.
                self.playout.end(broken=True)  # the words that have come may be ahead of the speech
                self._end_early(error, at.writer, at.post, heard_out=bool(self.playout.put_samples))
            else:
                self._end_thinking()
                self.emit_fact(TtsFinished(self.number, self.turn))
                self._all_made(at.writer, at.post)

    async def _generate(self, source: EngineSource, take: TakePiece, at: CallServices) -> None:
        """Have the answer generated; a sentence that a guardrail blocks ends it, and its replacement is said."""
        guard, blocked = self._guard, None
        if guard is None:
            await source(take)
            return
        try:
            await source(partial(self._take_checked, guard, take, at))
            await guard.settle(take)
        # A group, because respond() may run a nursery.
        except* SpeechBlocked as failures:
            blocked = next(leaves(failures))
        if isinstance(blocked, SpeechBlocked):
            await self._replace(blocked.guardrail, take, at, leaked=blocked.leaked)

    async def _take_checked(
        self,
        guard: SpeechGuard,
        take: TakePiece,
        at: CallServices,
        piece: str | SpeechChunk | replies.AnswerPhase | replies.ProgressText,
    ) -> None:
        if isinstance(piece, str | SpeechChunk):
            self._begin(at.post)  # before it is held back: the engine answers
            await guard.take(piece, take)
            return
        # A tool call ends the text before it, and a progress text is the application's own.
        await guard.settle(take)
        await take(piece)

    async def _replace(self, guardrail: Guardrail, take: TakePiece, at: CallServices, *, leaked: bool) -> None:
        """Say the replacement of a guardrail in place of the rest of the answer."""
        self.emit_blocked(guardrail.name)
        await self._push()
        if leaked:
            self.playout.discard_waiting()
        for part in self._parts[-1:]:
            # The engine must not remember what it did not say.
            part.end = self.playout.put_samples
            part.heard(part.end)
        self.playout.shorten_text()  # the words came ahead of their audio
        self._says = False  # nothing of it is owed any more
        if leaked and guardrail.replacement:
            # Some of the sentence is with the carrier, which a cut makes discard it.
            at.post(inputs.Say(guardrail.replacement, interrupt=True))
        elif guardrail.replacement:
            async with self.respond(guardrail.replacement) as response:
                async for piece in response:
                    if isinstance(piece, str | SpeechChunk):
                        await take(piece)

    async def _push(self) -> None:
        if self._feed is not None:
            await self._feed.push()

    async def _take_piece(
        self, feed: SpeechFeed, at: CallServices, piece: str | SpeechChunk | replies.AnswerPhase | replies.ProgressText
    ) -> None:
        match piece:
            case str():
                self._begin(at.post)
                self._say(piece)
            case SpeechChunk():
                self._begin(at.post)
                # Waits while the playout queue is full, and so slows the engine down.
                # Without its text, because the engine sends the words as separate pieces: they must not count twice.
                await feed.put(attrs.evolve(piece, text=""))
            case replies.ProgressText():
                async with self.respond(piece.text) as response:
                    async for part in response:
                        if isinstance(part, str):
                            self.playout.add_text(part)  # a text of ours: it is spoken, but it is not an LlmChunk
                        elif isinstance(part, SpeechChunk):
                            await self._take_piece(feed, at, part)
            case replies.AnswerPhase.TOOLS:
                self._begin(at.post)  # a tool call consists of tokens, too
                self.emit_fact(LlmCalledTools(self.number, self.turn))
                # Speech pauses until the tools have answered: the caller must hear the end of the last word before.
                await self._push()
                self._end_thinking()
            case replies.AnswerPhase.MODEL:
                self._begin_thinking()
            case replies.AnswerPhase.OVER:
                pass  # an engine's reply ends when its response is closed

    def _say(self, text: str) -> None:
        if text:
            self.emit_chunk(text)
            self._says = self._says or says_something(text)
            self.playout.add_text(text)
