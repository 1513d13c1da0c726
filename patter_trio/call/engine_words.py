"""The caller's words where an engine does the understanding: they come when they come, and are told in their place.

An utterance is committed, and answered, when its voice is over; what was said in it, the engine tells later, now and
then behind its answer. ``on_transcript`` of the caller comes before that of the agent all the same: what belongs behind
an utterance's words is kept until they are there, for :data:`PATIENCE` at most, or until the next utterance is over.
Words that come later still are told late, and stand in the history where they belong.
"""

from collections.abc import Callable
from typing import Final

import attrs
import trio

from patter_trio.abc import EngineWords
from patter_trio.call.telling import Teller
from patter_trio.conversation import actions as do
from patter_trio.conversation.history import History, Spoken

PATIENCE: Final = 2.0
"""Seconds, from the end of an answer, that the words which it answered are waited for."""

LATEST: Final = 32
"""Utterances without words that are remembered; words of an older one are nobody's."""


@attrs.define(eq=False)
class _Utterance:
    """What the caller said before an answer was heard: one entry, of one or several commits."""

    at: float
    entry: Spoken
    """Its position in the history, reserved when it was over."""
    parts: dict[int, str | None] = attrs.field(factory=dict)
    """Words by the number of their commit; None: not known yet."""
    given_up: bool = False
    """It was waited for long enough; its words may still come."""

    @property
    def known(self) -> bool:
        return all(text is not None for text in self.parts.values())

    @property
    def text(self) -> str:
        return " ".join(" ".join(text.split()) for text in self.parts.values() if text)


class LateWords:
    """Enters what the caller said, once the engine has told it.

    Args:
        history: the conversation.
        tell: tells eos and on_transcript.
        commit: tells the engine that an utterance is over; returns the commit's number.
    """

    def __init__(self, history: History, tell: Teller, commit: Callable[[], int]) -> None:
        self._history = history
        self._tell = tell
        self._commit = commit
        self._utterances: list[_Utterance] = []
        """Those whose words are not all known, and the newest."""
        self._behind: list[Callable[[], None]] = []
        self._due = trio.Event()
        self._known = trio.Event()
        self.talk: trio.Nursery | None = None
        """The conversation's, once it is under way."""

    def __repr__(self) -> str:
        return f"<LateWords, {self.owed} utterances unknown, {len(self._behind)} things behind them>"

    @property
    def owed(self) -> int:
        """How many utterances there are whose words are not known yet."""
        return sum(not (utterance.known or utterance.given_up) for utterance in self._utterances)

    def commit(self, action: do.CommitUser) -> None:
        """An utterance is over: tell eos, and wait for its words."""
        goes_on = action.replaces and bool(self._utterances)
        if not goes_on:
            self.settle("another turn began")
        self._tell.eos(action.at, action.trigger, action.trailing_silence, action.text)
        if not goes_on:
            self._begin(action.at)
        self._owe()

    def amend(self, action: do.AmendUser) -> None:
        """No words amend a voice."""

    def append(self, action: do.AppendUser) -> None:
        """The engine has been asked for these by ``flush``."""

    def flush(self, *, open_voice: bool) -> None:
        """The caller is gone: ask for the words of an utterance that was not over, too."""
        if open_voice:
            self.settle("the caller is gone")
            self._begin(trio.current_time())
            self._owe()

    def _owe(self) -> None:
        newest = self._utterances[-1]
        newest.given_up = False
        newest.parts[self._commit()] = None

    def _begin(self, at: float) -> None:
        unknown = [utterance for utterance in self._utterances if not utterance.known]
        # Reserved now: answers and tool rounds that come before the words stand behind them all the same.
        self._utterances = [*unknown[-LATEST:], _Utterance(at, self._history.reserve("user"))]

    def heard(self, words: EngineWords) -> None:
        """Take what the engine understood."""
        utterance = next((one for one in self._utterances if words.commit in one.parts), None)
        if utterance is None:
            return  # of something that was no utterance
        if not words.final:
            self._tell.partial(trio.current_time(), words.text)
            return
        if utterance.parts[words.commit] is not None:
            return
        utterance.parts[words.commit] = words.text
        self._tell.note("words_final", trio.current_time(), {"text": words.text})
        if utterance.known:
            self._enter(utterance)
        if not self.owed:
            self._release()
            self._known.set()
            self._known = trio.Event()

    def _enter(self, utterance: _Utterance) -> None:
        now, text = trio.current_time(), utterance.text
        if not text:
            self._tell.note("user_amended", now, {"text": ""})
            return
        utterance.entry.fill(text, self._tell.unix(utterance.at))
        if utterance is not self._utterances[-1]:
            self._tell.note("late_words", now, {})
        self._tell.transcript(now, "user", text, self._history.shown())

    def cut(self, reason: str) -> None:
        """Nothing waits for the application here."""

    def behind(self, enter: Callable[[], None]) -> None:
        """Do it when all words are there, or when they have been waited for long enough."""
        if not self.owed:
            enter()
            return
        if not self._behind and self.talk is not None:
            self._due = trio.Event()
            self.talk.start_soon(self._give_up, self._due)
        self._behind.append(enter)

    async def _give_up(self, released: trio.Event) -> None:
        with trio.move_on_after(PATIENCE):
            await released.wait()
        if not released.is_set():
            self._release()

    def _release(self) -> None:
        self._due.set()
        for utterance in self._utterances:
            utterance.given_up = utterance.given_up or not utterance.known
        behind, self._behind = self._behind, []
        for enter in behind:
            enter()

    def settle(self, reason: str) -> None:  # noqa: ARG002 (nobody is asked, so nobody is at fault)
        """Go on without the words that are still owed."""
        self._release()

    async def last(self) -> None:
        """``flush`` has waited for them."""

    async def all_known(self) -> None:
        """Wait until nothing is owed."""
        while self.owed:
            await self._known.wait()
