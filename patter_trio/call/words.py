"""The caller's committed words on their way into the history, by way of ``after_transcribe`` where there is one.

The hook is the application's and takes its time, so it is asked within the reply that answers the words, as its first
step; the session loop does not wait for it. Until it has answered, the words *wait*. What may happen meanwhile:

* the caller goes on: the reply is taken back, and the hook is asked about both utterances, as the one message that they
  are. An entry that the first one has got already is replaced, or removed if the hook vetoes the whole;
* late words of the same utterance: the hook is asked afresh;
* anything else that ends the reply, such as a hang-up: the words pass as they are, for nobody has objected.

A vetoed turn has no entry, no on_transcript and no answer. It has an eos, and counts: the decision was made before.
"""

import logging
from collections.abc import Awaitable, Callable

import attrs
import trio

from patter_trio.call.context import current_call
from patter_trio.call.telling import Teller
from patter_trio.conversation import actions as do
from patter_trio.conversation.history import History, Spoken

LAST_WORDS = 0.04
"""Seconds for the hook when the call is over: with the recogniser's last words and closing, it ends within one second."""

Asks = Callable[[str], Awaitable[str]]
"""``after_transcribe``: words in, words out; empty: a veto."""

_log = logging.getLogger("patter_trio.events")


@attrs.frozen(eq=False)
class _Waiting:
    """Committed words that the hook has not answered about."""

    text: str
    at: float
    tells: bool
    """on_transcript is still to be told; not when late words amend what it was told already."""


class UserWords:
    """Enters what the caller said."""

    def __init__(self, history: History, tell: Teller) -> None:
        self._history = history
        self._tell = tell
        self._waiting: _Waiting | None = None
        self._entry: Spoken | None = None
        """Where the words of the newest commit stand in the history; None before they are entered, and after a veto."""
        self.asks: Asks | None = None
        """Set once the call knows its agent."""

    def __repr__(self) -> str:
        return f"<UserWords {self._waiting!r}>"

    def commit(self, action: do.CommitUser) -> None:
        """An utterance is over: tell eos, and enter its words."""
        self._tell.eos(action.at, action.trigger, action.trailing_silence, action.text)
        if not action.replaces:
            self.settle("another turn began")
            self._entry = None
        self._take(_Waiting(action.text, action.at, tells=True))

    def amend(self, action: do.AmendUser) -> None:
        """Words came late: they are the whole utterance's."""
        tells = self._waiting.tells if self._waiting is not None else self._entry is None
        self._take(_Waiting(action.text, action.at, tells=tells))

    def append(self, action: do.AppendUser) -> None:
        """Words came that nobody will answer."""
        self.settle("the call is ending")
        self._entry = None
        self._take(_Waiting(action.text, action.at, tells=True))

    def cut(self, reason: str) -> None:
        """The reply that was to answer is over; unless the caller has just gone on, its words pass as they are."""
        if self._waiting is None:
            return
        if reason in ("retracted", "amended"):
            self._waiting = attrs.evolve(self._waiting)  # an answer that is under way is for another one
        else:
            self.settle(reason)

    def behind(self, enter: Callable[[], None]) -> None:
        """Do it at once: words that wait are those of a reply that has not begun."""
        enter()

    def settle(self, reason: str) -> None:
        """Enter words that still wait as they are."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            _log.warning(
                "call %s: after_transcribe had not answered (%s); the original passes", current_call.get(), reason
            )
            self._enter(waiting, waiting.text, trio.current_time())

    async def passed(self) -> bool:
        """Ask about the words that wait; whether there is something to answer."""
        waiting = self._waiting
        if waiting is None or self.asks is None:
            return True
        text = await self.asks(waiting.text)
        if self._waiting is not waiting:
            return False
        self._waiting = None
        if text:
            self._enter(waiting, text, trio.current_time())
        elif self._entry is not None:
            self._entry.clear()
            self._entry = None
        return bool(text)

    async def last(self) -> None:
        """Ask about the call's last words, quickly."""
        with trio.move_on_after(LAST_WORDS):
            await self.passed()

    def _take(self, words: _Waiting) -> None:
        self._waiting = None
        if self.asks is None:
            self._enter(words, words.text, words.at)
        else:
            self._waiting = words

    def _enter(self, words: _Waiting, text: str, now: float) -> None:
        if self._entry is None:
            self._entry = self._history.add("user", text, self._tell.unix(words.at))
        else:
            # Still the same message of the caller: it keeps the time of its first commit.
            self._entry.fill(text, self._entry.timestamp)
        if words.tells:
            self._tell.transcript(now, "user", text, self._history.shown())
        else:
            self._tell.note("user_amended", now, {"text": text})
