"""The log of one call's replies: what of each was heard, and why it ended."""

from functools import partial

from patter_trio.call.backend import Backend
from patter_trio.call.output.digits import DigitsReply
from patter_trio.call.output.reply import Reply
from patter_trio.conversation.history import History
from patter_trio.conversation.playout import HeardSpeech
from patter_trio.events.reporter import CallReporter
from patter_trio.metrics.internal_events import ReplyEnded, ReplyHeard


class ReplyLog:
    """The entries about replies in events and history, each after the words of the caller that it follows."""

    def __init__(self, backend: Backend, reporter: CallReporter, history: History) -> None:
        self._backend = backend
        self._reporter = reporter
        self._history = history

    def __repr__(self) -> str:
        return f"<ReplyLog {self._history!r}>"

    def over(self, reply: Reply, reason: str) -> None:
        """Report that a reply has ended, for this reason."""
        if isinstance(reply, DigitsReply):
            reply.ended(reason)
        ended = ReplyEnded(reply.number, reply.turn, reason)
        self._backend.user_turns.after_user_turn(partial(reply.emit_fact, ended))

    def heard(self, reply: Reply, at: float, heard: HeardSpeech, *, began: float, interrupted: bool) -> None:
        """Report the end of the agent's speech, which began at ``began``, and enter what was heard in the history."""
        self._reporter.agent_ended(at, reply.turn, heard.seconds, interrupted=interrupted)
        if heard.text:
            self._backend.user_turns.after_user_turn(partial(self._enter, at, heard.text, reply, began))

    def _enter(self, at: float, text: str, reply: Reply, began: float) -> None:
        reply.emit_fact(ReplyHeard(reply.number, reply.turn))
        self._history.add("assistant", text, self._reporter.unix(at), began=began)
        self._reporter.transcript(at, "assistant", text, self._history.shown())
