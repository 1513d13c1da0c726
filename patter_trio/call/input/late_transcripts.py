"""The caller's words when an engine transcribes them: they arrive late, and are reported in the conversation's order.

An utterance is committed, and answered, when its voice is over. The engine transcribes it later, sometimes after its
answer. Observers still get ``on_transcript`` of the caller before that of the agent: whatever belongs behind an
utterance's words waits until they are there, for at most :data:`TRANSCRIPT_WAIT_S`, or until the next utterance is
over. Words that arrive even later are still reported, and enter the history at their position.
"""

import math
from collections.abc import Callable
from typing import Final

import attrs
import trio

from patter_trio.abc import EngineWords
from patter_trio.call.backend import StartPart
from patter_trio.conversation import actions as do
from patter_trio.conversation.history import History, Spoken
from patter_trio.events.reporter import CallReporter
from patter_trio.metrics.internal_events import LateWords, WordlessUtterance, WordsFinal
from patter_trio.net.pulse import Pulse
from patter_trio.scripts import join

# Judged: an engine transcribes while it answers, so words that are still missing by then are an exception.
TRANSCRIPT_WAIT_S: Final = 2.0
"""Seconds, from the end of an answer, to wait for the words that it answered.

Waiting longer would delay on_transcript of the agent; words that come later are still reported.
"""

# Judged: several minutes of talk; words that come later than that help nobody.
MAX_LATE_UTTERANCES: Final = 32
"""Utterances without words that are remembered; words of an older one are ignored.

An engine that never transcribes must not fill the memory.
"""


@attrs.define(eq=False)
class _CommittedTurn:
    """One message of the caller: one entry of the history, made of one or several commits."""

    at: float
    entry: Spoken
    """Its position in the history, reserved at its first commit."""
    parts: dict[int, str | None] = attrs.field(factory=dict)
    """The words by number of commit; None while they are not known."""
    told: bool = False
    """True once its words were reported; more words of the message are reported as a revision."""
    timed_out: bool = False
    """True once the wait for its words has ended. They may still come."""

    @property
    def is_complete(self) -> bool:
        return all(text is not None for text in self.parts.values())

    @property
    def text(self) -> str:
        return join(" ".join(text.split()) for text in self.parts.values() if text)


class LateTranscripts:
    """Enters the caller's words in the history once the engine has transcribed them.

    Args:
        history: the conversation.
        reporter: reports eos and on_transcript.
        commit: tells the engine that an utterance is over; returns the number of the commit.
        tell_typed: tells the engine a text of the caller's that it cannot have heard.
    """

    def __init__(
        self,
        history: History,
        reporter: CallReporter,
        commit: Callable[[], int],
        tell_typed: Callable[[str], None],
    ) -> None:
        self._history = history
        self._reporter = reporter
        self._commit = commit
        self._tell_typed = tell_typed
        self._turns: list[_CommittedTurn] = []
        """The utterances whose words are not all known, and the newest."""
        self._deferred: list[Callable[[], None]] = []
        """Callbacks that wait for the words before them, in order."""
        self._due = trio.Event()
        self._completed = Pulse()
        self._start_part: StartPart | None = None

    def __repr__(self) -> str:
        return f"<LateTranscripts, {self.pending_count} pending, {len(self._deferred)} deferred callbacks>"

    @property
    def pending_count(self) -> int:
        """The number of utterances whose words are awaited."""
        return sum(not (utterance.is_complete or utterance.timed_out) for utterance in self._turns)

    def open(self, start: StartPart) -> None:
        """Begin the conversation: from here on, waiting for words has a limit."""
        self._start_part = start

    # Invariant: the number of each commit that the engine got belongs to exactly one turn, or to none that is
    # remembered. So words find their turn by number alone, in whatever order they come.
    def commit(self, action: do.CommitUser) -> None:
        """Commit an utterance: report eos, and ask the engine for its words."""
        goes_on = action.replaces and bool(self._turns)
        # Before eos: what belongs behind the turn before must be reported before this turn begins.
        if not goes_on:
            self.settle("another turn began")
        self._reporter.eos(action.at, action.trigger, action.trailing_silence, action.text)
        # The position is reserved only now, because settle() may just have entered the answer before it.
        if not goes_on:
            self._begin(action.at, action.began)
        if action.spoken:
            self._expect_transcript()
        if action.typed:
            self._add_typed(action.typed)

    def _add_typed(self, text: str) -> None:
        """Add a text that was typed, whose words need not be waited for."""
        newest = self._turns[-1]
        # A number that no commit of the engine has: those count from 1.
        newest.parts[-1 - len(newest.parts)] = text
        self._tell_typed(text)
        if newest.is_complete:
            self._enter(newest)

    def revise(self, action: do.ReviseUser) -> None:
        """Do nothing: an engine's utterances are made of voice, so no words are corrected."""

    def flush(self, *, open_voice: bool) -> None:
        """Ask also for the words of an utterance that was not over when the caller left."""
        if open_voice:
            self.settle("the caller is gone")
            self._begin(trio.current_time(), math.inf)
            self._expect_transcript()

    def _expect_transcript(self) -> None:
        newest = self._turns[-1]
        # Another commit joins the utterance, so it is worth waiting for again.
        newest.timed_out = False
        newest.parts[self._commit()] = None

    def _begin(self, at: float, began: float) -> None:
        unknown = [utterance for utterance in self._turns if not utterance.is_complete]
        # Reserved before the answer begins, so that its words and tool rounds stand behind the question.
        self._turns = [*unknown[-MAX_LATE_UTTERANCES:], _CommittedTurn(at, self._history.reserve("user", began=began))]

    def on_transcript(self, words: EngineWords) -> None:
        """Handle a transcript from the engine."""
        utterance = next((one for one in self._turns if words.commit in one.parts), None)
        if utterance is None:
            return  # not of an utterance, or of one that is no longer remembered
        if not words.final:
            self._reporter.partial(trio.current_time(), words.text)
            return
        # If an engine repeats a final transcript, the first one counts.
        if utterance.parts[words.commit] is not None:
            return
        utterance.parts[words.commit] = words.text
        self._reporter.emit_fact(WordsFinal(words.text), trio.current_time())
        if utterance.is_complete:
            self._enter(utterance)
        if not self.pending_count:
            self._release()
            self._completed.fire()

    def _enter(self, utterance: _CommittedTurn) -> None:
        now, text = trio.current_time(), utterance.text
        if not text:
            self._reporter.emit_fact(WordlessUtterance(), now)
            return
        utterance.entry.fill(text, self._reporter.unix(utterance.at))
        if utterance is not self._turns[-1]:
            self._reporter.emit_fact(LateWords(), now)
        self._reporter.transcript(now, "user", text, self._history.shown(), revises=utterance.told)
        utterance.told = True

    def cut(self, reason: str) -> None:
        """Do nothing: an engine has no hook that could still run."""

    def after_user_turn(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when all words are there, or when the wait for them has ended."""
        if not self.pending_count:
            callback()
            return
        if not self._deferred and self._start_part is not None:
            self._due = trio.Event()
            # One wait for all callbacks that come meanwhile: the oldest of them decides when the
            # answer has waited for long enough.
            self._start_part("transcripts", self._time_out, self._due)
        self._deferred.append(callback)

    async def _time_out(self, released: trio.Event) -> None:
        with trio.move_on_after(TRANSCRIPT_WAIT_S):
            await released.wait()
        # The event of this wait alone: by now self._due may belong to the next one.
        if not released.is_set():
            self._release()

    def _release(self) -> None:
        self._due.set()
        # Marked, not forgotten: their words may still come, and then belong at their position in the history.
        for utterance in self._turns:
            utterance.timed_out = utterance.timed_out or not utterance.is_complete
        # Emptied first, because a callback may defer another one.
        behind, self._deferred = self._deferred, []
        for enter in behind:
            enter()

    def settle(self, reason: str) -> None:  # noqa: ARG002 (without a hook, nothing is logged)
        """Go on without the words that are still missing."""
        self._release()

    async def last(self) -> None:
        """Do nothing: ``flush`` has waited for the words."""

    async def wait_until_complete(self) -> None:
        """Wait until no words are missing."""
        while self.pending_count:
            await self._completed.wait()
