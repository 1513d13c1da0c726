"""The caller's committed words on their way into the history, through ``after_transcribe`` if the agent has that hook.

The hook is the application's and may take its time. So it runs inside the reply that answers the words, as its first
step, and the session loop does not wait for it. Until the hook has answered, the words *wait*. Meanwhile:

* If the caller goes on, the reply is retracted, and the hook is asked about both utterances as the one message that they
  are. An entry that the first one already has is replaced, or removed if the hook vetoes the whole.
* If late words of the same utterance come, the hook is asked again.
* If anything else ends the reply, such as a hang-up, the words pass unchanged, because the hook has not objected.

A vetoed turn has no entry, no on_transcript and no answer. It does have an eos and a turn number, because the decision
that the utterance was over came first.
"""

import logging
from collections.abc import Awaitable, Callable

import attrs
import trio

from patter_trio.conversation import actions as do
from patter_trio.conversation.history import History, Spoken
from patter_trio.events.reporter import CallReporter
from patter_trio.metrics.internal_events import UserAmended
from patter_trio.user_code.context import current_call

# Judged: what is left of the second after 0.8 s for the STT's last words and 0.15 s for the close (docs/design.md).
LAST_WORDS_TIMEOUT_S = 0.04
"""Seconds for the hook at the end of the call.

Together with the STT's last words and closing the stream, the call then ends within one second.
"""

AfterTranscribe = Callable[[str], Awaitable[str]]
"""``after_transcribe``: takes words and returns words; an empty text vetoes the turn."""

_log = logging.getLogger("patter_trio.events")


@attrs.frozen(eq=False)
class _PendingTurn:
    """Committed words for which the hook has not returned yet."""

    text: str
    at: float
    reports: bool
    """True if on_transcript has not been emitted yet; False if late words amend an entry that was reported."""


class UserTurns:
    """The log of the caller's turns in a pipeline: enters their words in the history and emits on_transcript."""

    def __init__(self, history: History, reporter: CallReporter) -> None:
        self._history = history
        self._reporter = reporter
        self._waiting: _PendingTurn | None = None
        self._entry: Spoken | None = None
        """Position of the newest commit's words; None before they are entered, and after a veto."""
        self._after_transcribe: AfterTranscribe | None = None

    def __repr__(self) -> str:
        return f"<UserTurns {self._waiting!r}>"

    def use_hook(self, after_transcribe: AfterTranscribe) -> None:
        """Run the agent's hook, which the call knows from here on, on every utterance."""
        self._after_transcribe = after_transcribe

    def commit(self, action: do.CommitUser) -> None:
        """Commit an utterance: report eos, and enter its words."""
        self._reporter.eos(action.at, action.trigger, action.trailing_silence, action.text)
        if not action.replaces:
            # A new message: words that still wait belong to the one before, and enter the history first.
            self.settle("another turn began")
            self._entry = None
        self._take(_PendingTurn(action.text, action.at, reports=True))

    def amend(self, action: do.AmendUser) -> None:
        """Replace the utterance's words, because some of them came late."""
        reports = self._waiting.reports if self._waiting is not None else self._entry is None
        self._take(_PendingTurn(action.text, action.at, reports=reports))

    def append(self, action: do.AppendUser) -> None:
        """Enter words that no reply will answer."""
        self.settle("the call is ending")
        self._entry = None
        self._take(_PendingTurn(action.text, action.at, reports=True))

    def cut(self, reason: str) -> None:
        """Handle the end of the reply that was to answer: waiting words pass unchanged, unless the caller goes on."""
        if self._waiting is None:
            return
        if reason in ("retracted", "amended"):
            # The same words as a new object, so that an answer of the hook that is under way no longer counts.
            # Compared by identity in run_hook(), which is why _PendingTurn has eq=False.
            self._waiting = attrs.evolve(self._waiting)
        else:
            self.settle(reason)

    def after_user_turn(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` at once: waiting words belong to a reply that has not begun, so nothing follows them yet."""
        callback()

    def settle(self, reason: str) -> None:
        """Enter words that still wait, unchanged."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            _log.warning(
                "call %s: after_transcribe had not returned (%s); the original passes", current_call.get(), reason
            )
            self._enter(waiting, waiting.text, trio.current_time())

    async def run_hook(self) -> bool:
        """Run the hook on the words that wait. Return True if there is something to answer."""
        waiting = self._waiting
        if waiting is None or self._after_transcribe is None:
            return True
        # May take up to the hook's deadline; the session loop goes on meanwhile.
        text = await self._after_transcribe(waiting.text)
        # During the await other words came, or the reply ended: this result of the hook no longer counts.
        if self._waiting is not waiting:
            return False
        self._waiting = None
        if text:
            self._enter(waiting, text, trio.current_time())
        elif self._entry is not None:
            # An earlier part of the same message was entered; the hook has now vetoed the whole.
            self._entry.clear()
            self._entry = None
        return bool(text)

    async def last(self) -> None:
        """Run the hook on the call's last words, within :data:`LAST_WORDS_TIMEOUT_S` seconds."""
        with trio.move_on_after(LAST_WORDS_TIMEOUT_S):
            await self.run_hook()

    def _take(self, words: _PendingTurn) -> None:
        self._waiting = None
        # At once for most agents, which have no such hook: the words are in the history before the reply reads it.
        if self._after_transcribe is None:
            self._enter(words, words.text, words.at)
        else:
            self._waiting = words

    def _enter(self, words: _PendingTurn, text: str, now: float) -> None:
        if self._entry is None:
            self._entry = self._history.add("user", text, self._reporter.unix(words.at))
        else:
            # Still the same message of the caller: it keeps the time of its first commit.
            self._entry.fill(text, self._entry.timestamp)
        if words.reports:
            self._reporter.transcript(now, "user", text, self._history.shown())
        else:
            self._reporter.emit_fact(UserAmended(text), now)
