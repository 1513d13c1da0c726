"""One reply of the agent: generated, cut into sentences, and spoken into its playout queue, in one cancel scope.

``_think`` and ``_speak`` are two tasks joined by a channel of sentences, so that the caller hears the first sentence
while the second one is still being generated. Cancelling the scope stops both at any await; the playout queue, closed by
the cut, discards audio that still arrives.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from enum import Enum
from functools import partial
from typing import Any, Final, TypeVar

import attrs
import trio

from patter_trio.abc import LanguageModel, Message, TextToSpeechSession, Usage
from patter_trio.abc._usage import usage_sink
from patter_trio.audio.formats import RATE_HZ, AudioFormat
from patter_trio.call.hooks import EmitBlocked, ReplyHooks
from patter_trio.call.output.speech import SpeechFeed
from patter_trio.call.output.writer import CarrierWriter
from patter_trio.conversation.inputs import AudioArrived, Produced, ReplyFailed, TokenArrived
from patter_trio.conversation.playback import PlayoutQueue
from patter_trio.conversation.sentences import SentenceChunker
from patter_trio.conversation.text import is_sayable
from patter_trio.conversation.written import Gaps
from patter_trio.errors import ProviderError, ProviderTimeout, leaves
from patter_trio.metrics.internal_events import (
    EmitFact,
    InternalEvent,
    LlmChunk,
    LlmFailed,
    LlmFinished,
    LlmStarted,
    SentenceBlocked,
    SentenceStarted,
    TtsFailed,
    TtsFinished,
    TtsFirstAudio,
    TurnVetoed,
    UsageReported,
)
from patter_trio.user_code import invoke
from patter_trio.user_code.context import current_call
from patter_trio.user_code.signatures import name_of

# Judged: about half a minute of speech, so the TTS is never short of text; an LLM further ahead
# generates what a cut discards.
MAX_WAITING_SENTENCES: Final = 8
"""Sentences between responder and TTS; a responder that is further ahead waits."""
# Judged: few replies last half a minute, so most are synthesised without a pause; what a cut throws away was paid for.
MAX_PLAYOUT_SAMPLES: Final = 30 * RATE_HZ
"""30 s of audio in a playout queue; a TTS that is further ahead waits."""
# Judged: an application's own server may ask an LLM itself. docs/messages.md promises it.
ON_MESSAGE_TIMEOUT_S: Final = 30.0
"""Seconds that ``on_message`` has for its answer, or for each next piece of a streamed one."""

Post = Callable[[TokenArrived | AudioArrived | Produced | ReplyFailed], None]


class AnswerPhase(Enum):
    """A phase of an answer, between its texts or at its end."""

    TOOLS = "tools"
    """The LLM has called tools; the caller hears its text so far while they run."""
    MODEL = "model"
    """The tools have answered, and the LLM is asked again."""
    OVER = "over"
    """The answer is complete; only its connection remains to be closed."""


@attrs.frozen
class ProgressText:
    """A spoken text that is not the LLM's: the progress of a tool."""

    text: str


P = TypeVar("P")
"""Pieces of an answer that are generated: text, and from an engine also speech."""
TakePiece = Callable[[P | AnswerPhase | ProgressText], Awaitable[None]]
"""Takes the next piece of an answer; returns when it was passed on."""
AnswerSource = Callable[[TakePiece[str]], Awaitable[None]]
"""Generates the answer to the conversation as it is now, and has each piece taken before it makes the next one.

A source that has something to close reports :attr:`AnswerPhase.OVER` before: closing may take long.
"""
Prepare = Callable[["Reply"], Awaitable[AnswerSource | None]]
"""Runs the hooks before the answer and returns its source; None if there is nothing to answer."""
MakeHooks = Callable[[EmitBlocked], ReplyHooks]
"""Makes the hooks of one reply; its argument reports that a guardrail blocked a sentence of it."""

_log = logging.getLogger("patter_trio.call")


class Reply:
    """A reply: its number, its turn, its playout queue, and the scope that everything made for it runs in.

    Args:
        number: the number of the reply within the call.
        turn: the turn to which the reply belongs.
        emit_fact: emits internal events.
        language: the agent's language, for splitting sentences.
        make_hooks: makes the hooks for the reply's text and audio.
        prepare: runs hooks within the reply's scope and returns the answer source, instead of that given to :meth:`run`.
    """

    def __init__(
        self,
        number: int,
        turn: int,
        emit_fact: EmitFact | None = None,
        *,
        language: str = "en",
        make_hooks: MakeHooks | None = None,
        prepare: Prepare | None = None,
    ) -> None:
        self.number = number
        self.language = language
        self.hooks: ReplyHooks | None = None if make_hooks is None else make_hooks(self.emit_blocked)
        self.prepare: Prepare | None = prepare
        self._emit_fact = emit_fact
        self._failed = False
        self._begun = False
        self._thinks = False
        self._gaps = Gaps()
        self.turn = turn
        self.playout: PlayoutQueue = PlayoutQueue(number)
        self.scope: trio.CancelScope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<Reply {self.number} of turn {self.turn}, {self.playout!r}>"

    def emit_fact(self, event: InternalEvent) -> None:
        """Emit an internal event, if this reply has observers."""
        if self._emit_fact is not None:
            self._emit_fact(event)

    def emit_blocked(self, guardrail: str) -> None:
        """Report that a guardrail blocked a sentence of this reply."""
        self.emit_fact(SentenceBlocked(self.number, self.turn, guardrail))

    def _used(self, usage: Usage) -> None:
        self.emit_fact(UsageReported(usage, self.number))

    async def _noting(
        self, failed: type[LlmFailed | TtsFailed], part: Callable[..., Awaitable[None]], *arguments: object
    ) -> None:
        """Run a part; emit its first exception as ``failed``. A part that is cancelled because of it has not failed."""
        try:
            await part(*arguments)
        except (ProviderError, invoke.ApplicationError, ExceptionGroup) as error:
            # A group comes from a provider whose stream runs a nursery. Reported here, because run() no
            # longer knows which part it was.
            self._emit_failure(failed, next(leaves(error)))
            raise

    def _emit_failure(self, failed: type[LlmFailed | TtsFailed], error: BaseException) -> None:
        # The first failure is the cause: the other part often fails because of it.
        if not self._failed:
            self._failed = True
            theirs = error.__cause__ if isinstance(error, invoke.ApplicationError) else None
            self.emit_fact(failed(self.number, self.turn, type(theirs or error).__name__))

    async def run(
        self, source: AnswerSource, voice: TextToSpeechSession, emits: AudioFormat, writer: CarrierWriter, post: Post
    ) -> None:
        """Generate and speak the reply, and post its success or failure unless the scope was cancelled."""
        # In this task, before the nursery: the tasks of the nursery inherit the context.
        usage_sink.set(self._used)
        # Entered only now, but made with the reply: a cut that comes before this task's first step still ends it.
        with self.scope:
            try:
                async with trio.open_nursery() as nursery:
                    # Bounded: when the TTS falls behind, the responder waits, and with it the LLM's connection.
                    sentences, to_voice = trio.open_memory_channel[str](MAX_WAITING_SENTENCES)
                    nursery.start_soon(self._noting, LlmFailed, self._think, source, sentences, post)
                    feed = self._feed_of(emits, writer, post, nursery)
                    await self._noting(TtsFailed, self._speak, voice, to_voice, feed)
            except* (ProviderError, invoke.ApplicationError) as group:
                # except*, because the nursery raises a group. Outside of the nursery, so that both parts
                # have ended before the apology.
                error = next(leaves(group))
                theirs = error.__cause__ if isinstance(error, invoke.ApplicationError) else None
                _log.warning("call %s: a reply failed: %s", current_call.get(), error, exc_info=theirs)
                post(ReplyFailed(self.number, str(error)))
            else:
                self._all_made(writer, post)

    def _all_made(self, writer: CarrierWriter, post: Post) -> None:
        # In this order: Produced says that the playout queue is complete.
        self.playout.end()
        writer.wake()
        post(Produced(self.number))

    async def _think(self, source: AnswerSource, sentences: trio.MemorySendChannel[str], post: Post) -> None:
        async with sentences:  # closing it ends the TTS's text, also if the turn is vetoed
            prepared = source if self.prepare is None else await self.prepare(self)
            if prepared is None:
                self.emit_fact(TurnVetoed(self.number, self.turn))
            else:
                await self._answer(prepared, sentences, post)

    async def _answer(self, source: AnswerSource, sentences: trio.MemorySendChannel[str], post: Post) -> None:
        """Have the answer generated, and send each sentence to the TTS as soon as it is complete."""
        chunker = SentenceChunker(language=self.language)
        self._begin_thinking()
        await source(partial(self._take, chunker, sentences, post))
        # For sources that do not report their end; after OVER nothing is left.
        await self._finish(chunker, sentences)

    async def _take(
        self,
        chunker: SentenceChunker,
        sentences: trio.MemorySendChannel[str],
        post: Post,
        piece: str | AnswerPhase | ProgressText,
    ) -> None:
        """Take the next piece of the answer."""
        match piece:
            case str():
                # Awaits while the TTS has enough sentences; with it the LLM's connection waits, and no text piles up
                # here.
                await self._take_text(piece, chunker, sentences, post)
            case ProgressText():
                # Flushed first: the LLM's unfinished text would otherwise be spoken after the progress that followed
                # it.
                await self._send_all(chunker.flush(), sentences)
                self._gaps.restart()
                await self._send_all([piece.text], sentences)
            case AnswerPhase.TOOLS:
                self._begin(post)  # a tool call consists of tokens, too
                self._end_thinking()
                # The text before a tool call is complete: the caller hears its last sentence now, not after the tool.
                await self._send_all(chunker.flush(), sentences)
                self._gaps.restart()
            case AnswerPhase.MODEL:
                self._begin_thinking()
            case AnswerPhase.OVER:
                await self._finish(chunker, sentences)

    async def _take_text(
        self, text: str, chunker: SentenceChunker, sentences: trio.MemorySendChannel[str], post: Post
    ) -> None:
        """Add a piece of the LLM's text, and send the sentences that it completes."""
        if not text:
            return  # some LLMs begin an answer with an empty piece, which must not count as the first token
        self._begin(post)
        if not is_sayable(text):
            raise ProviderError("The text contains a lone surrogate (invalid Unicode).")
        self.emit_fact(LlmChunk(self.number, self.turn, text))
        await self._send_all(
            self._cut(chunker, text if self.hooks is None else await self.hooks.piece(text)), sentences
        )

    async def _finish(self, chunker: SentenceChunker, sentences: trio.MemorySendChannel[str]) -> None:
        """Send the rest of the text; if ``on_response`` held the answer back, that is the whole rewritten answer."""
        self._end_thinking()  # before the hook, whose time is not the LLM's
        rest = self._cut(chunker, "" if self.hooks is None else await self.hooks.rest())
        await self._send_all([*rest, *chunker.flush()], sentences)

    def _cut(self, chunker: SentenceChunker, text: str) -> list[str]:
        """Add text that will be spoken, and return the sentences that it completes."""
        self._gaps.add(text)
        return chunker.push(text)

    def _begin_thinking(self) -> None:
        self._thinks = True
        self.emit_fact(LlmStarted(self.number, self.turn))

    def _end_thinking(self) -> None:
        if self._thinks:
            self._thinks = False
            self.emit_fact(LlmFinished(self.number, self.turn))

    def _begin(self, post: Post) -> None:
        """Post ``TokenArrived`` once, at the first piece of the answer of any kind; from an engine it may be audio."""
        if not self._begun:
            self._begun = True
            post(TokenArrived(self.number))

    async def _send_all(self, texts: Iterable[str], sentences: trio.MemorySendChannel[str]) -> None:
        for text in texts:
            await self._hand_over(sentences, text)

    def _feed_of(self, emits: AudioFormat, writer: CarrierWriter, post: Post, nursery: trio.Nursery) -> SpeechFeed:
        hooks = self.hooks if self.hooks is not None and self.hooks.touches_audio else None
        begun = partial(self._sounds, post)
        return SpeechFeed(
            self.playout, emits, writer, MAX_PLAYOUT_SAMPLES, hooks=hooks, begun=begun, start_soon=nursery.start_soon
        )

    def _sounds(self, post: Post) -> None:
        """Report that the first audio is in the playout queue."""
        self.emit_fact(TtsFirstAudio(self.number, self.turn))
        post(AudioArrived(self.number))

    async def _speak(
        self, voice: TextToSpeechSession, sentences: trio.MemoryReceiveChannel[str], feed: SpeechFeed
    ) -> None:
        # Closing our end makes the responder's next send fail, should the TTS end before its text does.
        async with sentences, voice.speak(sentences) as chunks:
            async for chunk in chunks:
                await feed.put(chunk)  # waits while the playout queue is full, and so slows the TTS down
            # Within the TTS's context, so that the end of its last word is out before
            # anything waits for the TTS to close.
            await feed.finish()
        self.emit_fact(TtsFinished(self.number, self.turn))

    async def _hand_over(self, sentences: trio.MemorySendChannel[str], sentence: str) -> None:
        gap = self._gaps.before(sentence)  # before the hooks, which may rewrite the sentence
        if self.hooks is not None:
            sentence = await self.hooks.sentence(sentence)
            if not sentence:
                return
        # Before the send: the TTS may begin to speak before this task runs again, and its events come after this one.
        self.emit_fact(SentenceStarted(self.number, self.turn, sentence))
        self.playout.expect(sentence, gap)
        try:
            await sentences.send(sentence)
        except trio.BrokenResourceError as error:
            # _speak has returned and closed its end although there is more text.
            ended = ProviderError("the TTS ended before its text did")
            self._emit_failure(TtsFailed, ended)
            raise ended from error


# Answer sources ----------------------------------------------------------------------------------------------
# Coroutines that have each piece taken, not generators that yield it: a generator whose scopes stay open while it yields
# needs a task of its own and a channel, which would cost each token about 11 us.
def from_text(text: str) -> AnswerSource:
    """Return the source of one fixed text."""

    async def answer(take: TakePiece[str]) -> None:
        await take(text)

    return answer


def from_llm(llm: LanguageModel, messages: Sequence[Message]) -> AnswerSource:
    """Return the source that asks an LLM without tools; it logs and ignores tool calls."""

    async def answer(take: TakePiece[str]) -> None:
        async with llm.stream(messages) as items:
            async for item in items:
                if isinstance(item, str):
                    await take(item)
                else:
                    _log.warning("call %s: the LLM called the tool %r, but has no tools", current_call.get(), item.name)
            await take(AnswerPhase.OVER)

    return answer


def from_callback(function: Callable[..., Any], *arguments: object) -> AnswerSource:
    """Return the source that calls the application's ``on_message``: a function, a coroutine or an async generator."""

    async def answer(take: TakePiece[str]) -> None:
        result = invoke.call_sync(function, *arguments)
        # By what it returned, not by what it is: a plain function may return the generator of another one.
        if hasattr(result, "__aiter__"):
            async with aclosing(invoke.UserIterator(function, result)) as pieces:
                await _pass_on(pieces, take)
                await take(AnswerPhase.OVER)
            return
        with _answering(function):
            text = await invoke.await_result(function, result)
        await take(_text(function, text))

    return answer


async def _pass_on(pieces: invoke.UserIterator, take: TakePiece[str]) -> None:
    """Pass on the pieces of ``on_message``, each within the deadline and checked to be text."""
    while True:
        try:
            # Around the wait alone: the time that the reply takes with a piece does not count.
            with _answering(pieces.function):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        await take(_text(pieces.function, piece))


@contextmanager
def _answering(function: Callable[..., Any]) -> Iterator[None]:
    """Limit the time of the block, and raise a timeout that names the function."""
    try:
        with trio.fail_after(ON_MESSAGE_TIMEOUT_S):
            yield
    except trio.TooSlowError as error:
        # Our own deadline: a timeout that the application raises comes as an ApplicationError.
        name = name_of(function)
        raise ProviderTimeout(f"{name} did not answer within {ON_MESSAGE_TIMEOUT_S:g} s") from error


def _text(function: Callable[..., Any], answer: object) -> str:
    if answer is None:
        return ""
    if isinstance(answer, str):
        if not is_sayable(answer):
            raise invoke.ApplicationError(f"{name_of(function)} must give text that can be encoded in UTF-8")
        return answer
    raise invoke.ApplicationError(f"{name_of(function)} must give text or None, not {type(answer).__name__}")
