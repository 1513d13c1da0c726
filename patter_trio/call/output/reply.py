"""One reply of the agent: generated, cut into sentences, and spoken into its playout queue, in one cancel scope.

``_think`` and ``_speak`` are two tasks joined by a channel of sentences, so that the caller hears the first sentence
while the second one is still being generated. Cancelling the scope stops both at any await; the playout queue, closed
by the cut, discards audio that still arrives.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from enum import Enum
from functools import partial
from typing import Final, TypeVar

import attrs
import trio

from patter_trio.abc import TextToSpeechSession, Usage
from patter_trio.abc._usage import usage_sink
from patter_trio.audio.formats import RATE_HZ, AudioFormat
from patter_trio.call.hooks import EmitBlocked, ReplyHooks
from patter_trio.call.output.speech import SpeechFeed
from patter_trio.call.output.writer import CarrierWriter
from patter_trio.conversation.cutting import ReplyText
from patter_trio.conversation.inputs import AudioArrived, Produced, ReplyFailed, TokenArrived
from patter_trio.conversation.playout import PlayoutQueue
from patter_trio.conversation.text import TextFilter, is_sayable
from patter_trio.errors import AnswerCut, ProviderError, ProviderTimeout, leaves
from patter_trio.metrics.internal_events import (
    EmitFact,
    InternalEvent,
    LlmCalledTools,
    LlmChunk,
    LlmFailed,
    LlmFinished,
    LlmStarted,
    ReplyFailure,
    SentenceBlocked,
    SentenceStarted,
    TtsFailed,
    TtsFinished,
    TtsFirstAudio,
    TurnVetoed,
    UsageReported,
)
from patter_trio.net.tasks import run_beside
from patter_trio.providers.attempts import KeptText, ProviderBug, open_speech, open_twice, says_something
from patter_trio.providers.fallback import FallbackSynthesis
from patter_trio.scripts import solid
from patter_trio.user_code import invoke
from patter_trio.user_code.context import current_call

# Judged: about half a minute of speech, so the TTS is never short of text; an LLM further ahead
# generates what a cut discards.
MAX_WAITING_SENTENCES: Final = 8
"""Sentences between responder and TTS; a responder that is further ahead waits."""
# Judged: few replies last half a minute, so most are synthesised without a pause; what a cut throws away was paid for.
MAX_PLAYOUT_SAMPLES: Final = 30 * RATE_HZ
"""30 s of audio in a playout queue; a TTS that is further ahead waits."""

# Judged: with the 8 s that an LLM may take, less than the 15 s that a caller waits for a reply.
FIRST_AUDIO_TIMEOUT_S: Final = 6.0
"""Seconds from the first sentence to the first audio, after which the TTS is given the text once more."""

# Judged: some milliseconds of work.
MAX_SLICE_CHARACTERS: Final = 1024
"""Characters of a text that are filtered and cut into sentences at once; other tasks run before the next."""

Post = Callable[[TokenArrived | AudioArrived | Produced | ReplyFailed], None]


class AnswerPhase(Enum):
    """A phase of an answer, between its texts or at its end."""

    PAUSED = "paused"
    """No text has come for a moment, and the next may take long: a sentence that ends here need not wait for it."""

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

A coroutine that has each piece taken, not a generator that yields it: a generator whose scopes stay open while it
yields needs a task of its own and a channel, which would cost each token about 11 us.

A source that has something to close reports :attr:`AnswerPhase.OVER` before: closing may take long.
"""
Prepare = Callable[["Reply"], Awaitable[AnswerSource | None]]
"""Runs the hooks before the answer and returns its source; None if there is nothing to answer."""
MakeHooks = Callable[[EmitBlocked], ReplyHooks]
"""Makes the hooks of one reply; its argument reports that a guardrail blocked a sentence of it."""

_log = logging.getLogger("patter_trio.call")


def _origin(error: BaseException) -> BaseException | None:
    """Return the exception of code that is not ours behind an error, or None."""
    return error.__cause__ if isinstance(error, invoke.ApplicationError | ProviderBug) else None


def note_first_attempt(error: ProviderError) -> None:
    """Log why a first attempt failed."""
    _log.warning("call %s: %s, and is tried once more", current_call.get(), error)


class Reply:
    """A reply: its number, its turn, its playout queue, and the scope that everything made for it runs in.

    Args:
        number: the number of the reply within the call.
        turn: the turn to which the reply belongs.
        emit_fact: emits internal events.
        language: the agent's language, for splitting sentences.
        make_hooks: makes the hooks for the reply's text and audio.
        prepare: runs hooks within the reply's scope and returns the answer source, instead of that given to
            :meth:`run`.
        text_filter: filters the text before it is cut into sentences; None: it is spoken as it is.
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
        text_filter: TextFilter | None = None,
    ) -> None:
        self.number = number
        self.hooks: ReplyHooks | None = None if make_hooks is None else make_hooks(self.emit_blocked)
        self.prepare: Prepare | None = prepare
        self._emit_fact = emit_fact
        self._failed = False
        self._broken: BaseException | None = None
        """The failure behind the last finished sentence, which the caller hears to its end."""
        self._answered = False
        """True once all text of the answer was passed on; only its source remains to be closed."""
        self._handed: list[str] = []
        """The sentences that the TTS was given."""
        self._spoken: list[str] = []
        """The texts of the speech that the TTS gave."""
        self._begun = False
        self._thinks = False
        self._text = ReplyText(language, text_filter)
        # Two tasks hand over text: that of the answer, and the one that speaks what is late.
        self._handing_over = trio.Lock()
        self._late_at = trio.CancelScope()
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
        _log.info("call %s: guardrail %r blocked a sentence", current_call.get(), guardrail)
        self.emit_fact(SentenceBlocked(self.number, self.turn, guardrail))

    def emit_chunk(self, text: str) -> None:
        """Report a piece of generated text.

        Raises:
            ProviderError: it cannot be encoded.
        """
        if not is_sayable(text):
            raise ProviderError("The text contains a lone surrogate (invalid Unicode).")
        self.emit_fact(LlmChunk(self.number, self.turn, text))

    def _used(self, usage: Usage) -> None:
        self.emit_fact(UsageReported(usage, self.number))

    @property
    def waits_for(self) -> str:
        """The part of the reply that has not finished, for the log."""
        return "the TTS" if self._handed and not self._thinks else "the LLM or on_message"

    def time_out(self) -> None:
        """Log that the reply, which is being cut, gave no audio in time; not if it has failed before."""
        if not self._failed:
            self._log_failure(ProviderTimeout(f"no audio came in time from {self.waits_for}"))

    def _log_failure(self, error: BaseException) -> None:
        # With the traceback of an error in code that is not ours.
        _log.warning("call %s: a reply failed: %s", current_call.get(), error, exc_info=_origin(error))
        self.emit_fact(ReplyFailure(self.number, self.turn, str(error)))

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
            self.emit_fact(failed(self.number, self.turn, type(_origin(error) or error).__name__))

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
                self._log_failure(error)
                self._end_early(error, writer, post, heard_out=self.playout.drop_unfinished())
            else:
                if self._broken is None:
                    self._all_made(writer, post)
                else:
                    self._end_early(self._broken, writer, post, heard_out=True)

    def _end_early(self, error: BaseException, writer: CarrierWriter, post: Post, *, heard_out: bool) -> None:
        """Post the failure; with ``heard_out``, the caller hears the finished sentences first."""
        self.playout.end()
        writer.wake()
        post(ReplyFailed(self.number, str(error), heard_out=heard_out))

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
        self._begin_thinking()
        try:
            async with run_beside(partial(self._speak_late, sentences)):
                try:
                    await source(partial(self._take, sentences, post))
                finally:
                    # A text that is being handed over has left the text that waits: it must not be lost.
                    async with self._handing_over:
                        pass
            # For sources that do not report their end; after OVER nothing is left.
            await self._finish(sentences)
        except (ProviderError, invoke.ApplicationError, ExceptionGroup) as error:
            if not all(isinstance(leaf, ProviderError | invoke.ApplicationError) for leaf in leaves(error)):
                raise  # among them is a bug
            if self._broken is None:  # else the TTS has ended, and this is the consequence
                await self._break_off(next(leaves(error)), sentences)
            if not self._handed:
                raise

    async def _speak_late(self, sentences: trio.MemorySendChannel[str]) -> None:
        """Send the text that has waited too long for the end of its sentence, whether or not more comes."""
        while True:
            with trio.CancelScope(deadline=self._text.next_late(trio.current_time())) as self._late_at:
                await trio.sleep_forever()
            async with self._handing_over:
                # Asked only now: a piece that was taken meanwhile may have completed the sentence.
                await self._send_all(self._text.late(trio.current_time()), sentences)

    async def _break_off(self, failure: BaseException, sentences: trio.MemorySendChannel[str]) -> None:
        """Pass on the sentences that are finished: the caller hears them to their end, whatever became of the rest."""
        is_cut = isinstance(failure, AnswerCut)
        if is_cut:
            self._end_thinking()
            rest = "" if self.hooks is None else await self.hooks.rest()
            await self._send_text(rest, sentences)
        await self._send_finished(sentences)
        if not self._handed:
            return
        if self._answered or is_cut:
            what = "complete, but failed when it was closed" if self._answered else "cut off, and ends at a sentence"
            _log.warning("call %s: an answer is %s: %s", current_call.get(), what, failure)
        else:
            self._record_broken(LlmFailed, failure)

    def _record_broken(self, failed: type[LlmFailed | TtsFailed], failure: BaseException) -> None:
        """Record that the reply ends behind the sentences that are finished."""
        self._broken = failure
        self._emit_failure(failed, failure)
        self._log_failure(failure)

    async def _take(
        self, sentences: trio.MemorySendChannel[str], post: Post, piece: str | AnswerPhase | ProgressText
    ) -> None:
        """Take the next piece of the answer."""
        # Without an await if nobody holds it, which is nearly always: this is done for each token.
        try:
            self._handing_over.acquire_nowait()
        except trio.WouldBlock:
            await self._handing_over.acquire()
        try:
            await self._take_alone(sentences, post, piece)
        finally:
            self._handing_over.release()
        # What waits for the end of its sentence may have changed, and with it the instant at which that is too long.
        self._late_at.deadline = self._text.next_late(trio.current_time())

    async def _take_alone(
        self, sentences: trio.MemorySendChannel[str], post: Post, piece: str | AnswerPhase | ProgressText
    ) -> None:
        match piece:
            case str():
                # Awaits while the TTS has enough sentences; with it the LLM's connection waits, and no text piles up
                # here.
                await self._take_text(piece, sentences, post)
            case ProgressText():
                # Flushed first: the LLM's unfinished text would otherwise be spoken after the progress that followed
                # it.
                await self._send_rest(sentences)
                await self._send_text(piece.text, sentences)
                await self._send_rest(sentences)
            case AnswerPhase.PAUSED:
                await self._send_finished(sentences)
            case AnswerPhase.TOOLS:
                self._begin(post)  # a tool call consists of tokens, too
                self.emit_fact(LlmCalledTools(self.number, self.turn))
                self._end_thinking()
                # The text before a tool call is complete: the caller hears its last sentence now, not after the tool.
                await self._send_rest(sentences)
            case AnswerPhase.MODEL:
                self._begin_thinking()
            case AnswerPhase.OVER:
                await self._finish(sentences)
                self._answered = True

    async def _take_text(self, text: str, sentences: trio.MemorySendChannel[str], post: Post) -> None:
        """Add a piece of the LLM's text, and send the sentences that it completes."""
        if not text:
            return  # some LLMs begin an answer with an empty piece, which must not count as the first token
        self._begin(post)
        self.emit_chunk(text)
        await self._send_text(text if self.hooks is None else await self.hooks.piece(text), sentences)

    async def _finish(self, sentences: trio.MemorySendChannel[str]) -> None:
        """Send the rest of the text; if ``on_response`` held the answer back, that is the whole rewritten answer."""
        self._end_thinking()  # before the hook, whose time is not the LLM's
        if self.hooks is not None:
            await self._send_text(await self.hooks.rest(), sentences)
        await self._send_rest(sentences)

    async def _send_text(self, text: str, sentences: trio.MemorySendChannel[str]) -> None:
        """Add text that will be spoken, and send what can be spoken by now."""
        for start in range(0, len(text), MAX_SLICE_CHARACTERS):
            if start:
                await trio.lowlevel.checkpoint()  # a text of any length must not hold up the other calls
            pushed = self._text.push(text[start : start + MAX_SLICE_CHARACTERS], trio.current_time())
            await self._send_all(pushed, sentences)

    async def _send_finished(self, sentences: trio.MemorySendChannel[str]) -> None:
        """Send the text so far if it ends a sentence, because nothing follows for a moment."""
        await self._send_all(self._text.pause(trio.current_time()), sentences)

    async def _send_rest(self, sentences: trio.MemorySendChannel[str]) -> None:
        """Send the text that waits, because nothing follows that belongs to it."""
        await self._send_all(self._text.rest(trio.current_time()), sentences)
        self._text.begin_anew()

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
        text = KeptText(aiter(sentences))
        attempt = partial(open_speech, voice, text, "the TTS")
        # A fallback tries again by itself.
        speech = (
            attempt(math.inf)
            if isinstance(voice, FallbackSynthesis)
            else open_twice(attempt, FIRST_AUDIO_TIMEOUT_S, note_first_attempt)
        )
        # Closing our end makes the responder's next send fail, should the TTS end before its text does.
        async with sentences, speech as chunks:
            async for chunk in chunks:
                self._spoken.append(chunk.text)
                await feed.put(chunk)  # waits while the playout queue is full, and so slows the TTS down
            # Within the TTS's context, so that the end of its last word is out before
            # anything waits for the TTS to close.
            await feed.finish()
        self.emit_fact(TtsFinished(self.number, self.turn))
        if self._broken is None and (left := self._unspoken()):
            # Not raised: the sentences before are complete, and are heard to their end.
            why = f"the TTS gave no audio for the last {left} of {len(self._handed)} sentences"
            self._record_broken(TtsFailed, ProviderError(why))

    def _unspoken(self) -> int:
        """Return how many sentences at the end have no audio, as far as the TTS says which text it has spoken."""
        # By exact text, up to white space: a TTS may also report a spelling of its own, or nothing.
        spoken = solid("".join(self._spoken))
        before = ""
        for number, sentence in enumerate(self._handed):
            if spoken and spoken == before:
                return len(self._handed) - number
            before += solid(sentence)
        return 0

    async def _hand_over(self, sentences: trio.MemorySendChannel[str], sentence: str) -> None:
        gap = self._text.gap_before(sentence)  # before the hooks, which may rewrite the sentence
        if self.hooks is not None:
            sentence = await self.hooks.sentence(sentence)
        # Marks and emoji have no sound: some TTS providers refuse such a text, and the reply would fail.
        if not says_something(sentence):
            return
        # Before the send: the TTS may begin to speak before this task runs again, and its events come after this one.
        self.emit_fact(SentenceStarted(self.number, self.turn, sentence))
        self.playout.expect(sentence, gap)
        self._handed.append(sentence)
        try:
            await sentences.send(sentence)
        except trio.BrokenResourceError as error:
            # _speak has returned and closed its end although there is more text.
            ended = ProviderError("the TTS ended before its text did")
            if self._broken is None:
                self._record_broken(TtsFailed, ended)
            raise ended from error


# Fixed texts ----------------------------------------------------------------------------------------------------------
def from_text(text: str) -> AnswerSource:
    """Return the source of one fixed text."""

    async def answer(take: TakePiece[str]) -> None:
        await take(text)

    return answer
