"""The caller's committed words on their way into the history, through ``after_transcribe`` if the agent has that hook.

The hook is the application's and may take its time. So it runs inside the reply that answers the words, as its first
step, and the session loop does not wait for it. Until the hook has answered, the words *wait*. Meanwhile:

* If the caller goes on, or late words come, the reply is retracted, and the hook is asked about all words as the one
  message that they are. An entry that the message already has is replaced, or removed if the hook vetoes the whole.
* If words are corrected, the hook is asked again: by the reply, or, if that has its answer already, by a task of its
  own.
* If anything else ends the reply, such as a hang-up, the words pass unchanged, because the hook has not objected.

Each time that words take the place of words that were reported, on_transcript carries ``revises``.

A vetoed turn has no entry, no on_transcript and no answer. It does have an eos and a turn number, because the decision
that the utterance was over came first.
"""

import logging
from collections.abc import Awaitable, Callable

import attrs
import trio

from patter_trio.call.backend import StartPart
from patter_trio.conversation import actions as do
from patter_trio.conversation.history import History, Spoken
from patter_trio.events.reporter import CallReporter
from patter_trio.metrics.internal_events import LateWords
from patter_trio.user_code.context import current_call

# Judged: what is left of the second after 0.8 s for the STT's last words, and 0.05 s and 0.1 s for closing the sockets
# of vendors and carrier (docs/design.md).
LAST_WORDS_TIMEOUT_S = 0.04
"""Seconds for the hook at the end of the call.

Together with the STT's last words and closing the stream, the call then ends within one second.
"""

AfterTranscribe = Callable[[str], Awaitable[str]]
"""``after_transcribe``: takes words and returns words; an empty text vetoes the turn."""

_log = logging.getLogger("patter_trio.events")


@attrs.define(eq=False)
class _PendingTurn:
    """Committed words for which the hook has not returned yet."""

    text: str
    at: float
    began: float


@attrs.define(eq=False)
class _Entry:
    """The entry of one message of the caller."""

    spoken: Spoken | None = None
    """Its position in the history; None before its words are entered, and after a veto."""
    corrections: int = 0
    """How often its words were corrected; the hook's answer counts for the newest correction only."""

    def replace(self, text: str) -> None:
        """Put other words in the place of those that are entered, if there are any; without words, remove the entry."""
        if self.spoken is None:
            return
        if text:
            # Still the same message of the caller: it keeps the time of its first commit.
            self.spoken.fill(text, self.spoken.timestamp)
        else:
            self.spoken.clear()
            self.spoken = None


class UserTurns:
    """The log of the caller's turns in a pipeline: enters their words in the history and emits on_transcript."""

    def __init__(self, history: History, reporter: CallReporter) -> None:
        self._history = history
        self._reporter = reporter
        self._waiting: _PendingTurn | None = None
        self._turn = 0
        # One small object for each turn, like the history's; a correction may come for a turn that is long over.
        self._entries: dict[int, _Entry] = {}
        """The entry of each turn's message; turns of one message share theirs."""
        self._after_transcribe: AfterTranscribe | None = None
        self._start_part: StartPart | None = None

    def __repr__(self) -> str:
        return f"<UserTurns {self._waiting!r}>"

    def use_hook(self, after_transcribe: AfterTranscribe, start: StartPart) -> None:
        """Run the agent's hook, which the call knows from here on, on every utterance; ``start`` starts a task."""
        self._after_transcribe = after_transcribe
        self._start_part = start

    @property
    def _entry(self) -> _Entry:
        """The entry of the newest message."""
        return self._entries[self._turn]

    def commit(self, action: do.CommitUser) -> None:
        """Commit an utterance: report eos, and enter its words."""
        self._reporter.eos(action.at, action.trigger, action.trailing_silence, action.text)
        if not action.replaces:
            # A new message: words that still wait belong to the one before, and enter the history first.
            self.settle("another turn began")
        before = self._entries.get(self._turn) if action.replaces else None
        self._turn = action.turn
        self._entries[action.turn] = before or _Entry()
        # A correction that the hook still looks at is older than these words.
        self._entry.corrections += 1
        self._waiting = None
        if self._after_transcribe is None:
            self._enter(_PendingTurn(action.text, action.at, action.began), action.at)
        else:
            self._waiting = _PendingTurn(action.text, action.at, action.began)

    def revise(self, action: do.ReviseUser) -> None:
        """Correct the words of a turn, which the hook sees once more."""
        entry = self._entries[action.turn]
        if self._waiting is not None and entry is self._entry:
            # The reply that runs the hook notices that the words are others by now, and asks once more.
            self._waiting.text = action.text
            return
        if entry.spoken is None:
            return  # vetoed
        entry.corrections += 1
        if self._after_transcribe is None or self._start_part is None:
            self._correct(entry, action.text)
        else:
            self._start_part("after_transcribe", self._correct_by_hook, self._after_transcribe, entry, action.text)

    async def _correct_by_hook(self, after_transcribe: AfterTranscribe, entry: _Entry, text: str) -> None:
        correction = entry.corrections
        text = await after_transcribe(text)
        if entry.corrections != correction or entry.spoken is None:
            return
        if text:
            self._correct(entry, text)
        else:
            entry.replace("")

    def _correct(self, entry: _Entry, text: str) -> None:
        spoken = entry.spoken
        if spoken is None or spoken.text == text:
            return
        now = trio.current_time()
        entry.replace(text)
        if entry is not self._entry:
            self._reporter.emit_fact(LateWords(), now)
        self._reporter.transcript(now, "user", text, self._history.shown(), revises=True)

    def cut(self, reason: str) -> None:
        """Handle the end of the reply that was to answer: waiting words pass unchanged, unless the caller goes on."""
        if self._waiting is None:
            return
        if reason == "retracted":
            # The same words as a new object, so that an answer of the hook that is under way no longer counts.
            # Compared by identity in run_hook(), which is why _PendingTurn has eq=False.
            self._waiting = attrs.evolve(self._waiting)
        else:
            self.settle(reason)

    def after_user_turn(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` at once: waiting words are of a reply that has not begun, so nothing follows them."""
        callback()

    def settle(self, reason: str) -> None:
        """Enter words that still wait, unchanged."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            _log.warning(
                "call %s: after_transcribe had not returned (%s); the original passes", current_call.get(), reason
            )
            self._enter(waiting, trio.current_time())

    async def run_hook(self) -> bool:
        """Run the hook on the words that wait. Return True if there is something to answer."""
        waiting = self._waiting
        if waiting is None or self._after_transcribe is None:
            return True
        while True:
            asked = waiting.text
            # May take up to the hook's deadline; the session loop goes on meanwhile.
            text = await self._after_transcribe(asked)
            # During the await other words came, or the reply ended: this result of the hook no longer counts.
            if self._waiting is not waiting:
                return False
            if waiting.text == asked:
                break
        self._waiting = None
        if text:
            self._enter(attrs.evolve(waiting, text=text), trio.current_time())
        else:
            self._entry.replace("")
        return bool(text)

    async def last(self) -> None:
        """Run the hook on the call's last words, within :data:`LAST_WORDS_TIMEOUT_S` seconds."""
        with trio.move_on_after(LAST_WORDS_TIMEOUT_S):
            await self.run_hook()

    def _enter(self, turn: _PendingTurn, now: float) -> None:
        """Enter the words of the newest message, and report them."""
        entry, text = self._entry, turn.text
        revises = entry.spoken is not None
        if revises:
            entry.replace(text)
        else:
            entry.spoken = self._history.add("user", text, self._reporter.unix(turn.at), began=turn.began)
        self._reporter.transcript(now, "user", text, self._history.shown(), revises=revises)
