"""The live reply of a call: the one that has the floor, from its start until it was played or cut.

All methods are plain functions, so that nothing happens between the steps of one.
"""

import math
from collections.abc import Callable

import attrs
import trio

from patter_trio.agent.agent import Agent
from patter_trio.call.backend import Backend
from patter_trio.call.failover import Failover
from patter_trio.call.output.digits import DigitsSender
from patter_trio.call.output.reply import Reply
from patter_trio.call.output.writer import CarrierWriter
from patter_trio.call.recorded import Recorded
from patter_trio.call.reply_log import ReplyLog
from patter_trio.call.tools.runner import ToolRunner
from patter_trio.conversation import actions as do
from patter_trio.conversation import inputs
from patter_trio.conversation.history import History
from patter_trio.conversation.playback import Media
from patter_trio.conversation.playout import HeardSpeech
from patter_trio.events.reporter import CallReporter
from patter_trio.metrics.internal_events import SpeechHeard, TtsChunk


class LiveReply:
    """The reply of the agent that is being made and played, if there is one.

    Args:
        backend: makes replies.
        writer: plays one reply at a time.
        reporter: emits the call's events.
        history: gets what the caller has heard.
        post: puts an input into the inbox.
        tools: run within a reply, or wait for its end.
        digits: has the digits that a reply may send.
        recorded: follows the notice, which is a reply.
        failover: counts replies that failed.
    """

    def __init__(
        self,
        backend: Backend,
        writer: CarrierWriter,
        reporter: CallReporter,
        history: History,
        post: Callable[[inputs.Input], None],
        *,
        tools: ToolRunner,
        digits: DigitsSender,
        recorded: Recorded,
        failover: Failover,
    ) -> None:
        self._backend = backend
        self._writer = writer
        self._reporter = reporter
        self._history = history
        self._post = post
        self._tools = tools
        self._digits = digits
        self._recorded = recorded
        self._failover = failover
        self._log = ReplyLog(backend, reporter, history)
        self._reply: Reply | None = None
        self._is_answer = False
        self._turn = 0
        self._began = math.inf
        """The begin of the newest reply's sound; infinite before it."""

    def __repr__(self) -> str:
        return f"<LiveReply {self._reply!r}>"

    @property
    def is_answer(self) -> bool:
        """True if the newest reply answers the caller; False for a fixed text and for an apology."""
        return self._is_answer

    @property
    def turn(self) -> int:
        """The public number of the turn that the newest reply belongs to."""
        return self._turn

    @property
    def samples_waiting(self) -> int:
        """The samples of audio that wait to be sent."""
        return 0 if self._reply is None else self._reply.playout.waiting

    def on_sent(self, media: Media) -> None:
        """Emit an event about audio that was sent to the carrier."""
        reply = self._reply
        # A message that was on its way at a cut belongs to the reply before this one.
        if reply is not None and reply.number == media.reply and self._reporter.wants(TtsChunk):
            reply.emit_fact(TtsChunk(reply.number, reply.turn, media.audio))

    def on_heard(self) -> None:
        """Emit an event about what the caller has heard of the reply so far."""
        reply = self._reply
        if reply is not None and self._reporter.wants(SpeechHeard):
            heard = self._writer.heard(trio.current_time())
            reply.emit_fact(SpeechHeard(reply.number, reply.turn, heard.text))

    def start(self, action: do.StartReply, nursery: trio.Nursery, agent: Agent) -> None:
        """Begin a reply, and count it if it is the apology for one that failed."""
        # Once for each reply: an adapter that commits a turn meanwhile must not shift the numbers of its events.
        action = attrs.evolve(action, turn=self._reporter.turn_of_reply(action.turn))
        self._turn, self._began = action.turn, math.inf
        self._recorded.reply_begins(action)
        if action.digits:
            self._reply = self._digits.start(action, nursery, self._writer, self._post)
        else:
            self._reply = self._backend.start(action, nursery)
        self._is_answer = action.text is None and not action.apology
        if action.apology:
            self._failover.reply_failed(agent)

    def sounds(self, at: float) -> None:
        """Report that the caller begins to hear the reply."""
        self._began = at
        self._reporter.agent_started(at, self._turn, self._backend.speaker())

    def open(self) -> None:
        """Let the writer play the reply, if it still lives."""
        if self._reply is not None:
            self._writer.open(self._reply.playout)

    def finish(self, action: do.FinishReply) -> None:
        """Close the reply, which was played to its end."""
        heard, reply, self._reply = self._writer.close(), self._reply, None
        if reply is None:
            return
        if action.started:
            # Fixed texts and the apology itself say nothing about what answers.
            if self._is_answer:
                self._failover.reply_finished()
            self._log.heard(reply, action.at, heard, began=self._began, interrupted=False)
        self._backend.end_reply(reply, heard, "played")
        self._log.over(reply, "played")
        self._recorded.reply_is_over(reply.number, heard=action.started)
        # Last: a tool that has waited for the end of this reply may hang up or transfer.
        self._tools.played(reply)

    def cut(self, action: do.CutReply) -> None:
        """Silence the reply: its playout queue, the carrier's buffer, and everything still being made for it."""
        reply, self._reply = self._reply, None
        if reply is None:
            return
        # The audio first: everything after this line is bookkeeping that the caller does not hear.
        heard = self._writer.cut(trio.current_time()) if action.opened else HeardSpeech(0.0, "")
        reply.playout.cut()
        if action.reason == "failed":
            reply.time_out()  # unless it has failed by itself: then its deadline passed, and nothing else logs that
        reply.scope.cancel(reason=action.reason)
        self._tools.cut(reply)
        self._backend.end_reply(reply, heard, action.reason)
        if action.started:
            self._log.heard(reply, action.at, heard, began=self._began, interrupted=True)
            self._reporter.interruption(action.at, reply.turn, heard.seconds, heard.text, action.reason)
        self._recorded.reply_is_over(reply.number, heard=False)
        self._log.over(reply, action.reason)

    def freeze(self) -> None:
        """Cut the reply without an event, and enter what the caller heard of it in the transcript."""
        reply, self._reply = self._reply, None
        if reply is None:
            return
        heard = self._writer.cut(trio.current_time())
        if heard.text:
            at = self._reporter.unix(trio.current_time())
            self._history.add("assistant", heard.text, at, began=self._began)
