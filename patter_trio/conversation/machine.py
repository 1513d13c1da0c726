"""The turn machine: it decides which side may speak, when an utterance has ended, and when a reply is cut.

The machine is a pure function of inputs and time. ``step`` takes an input and its instant, and returns the actions to
carry out, in order. ``deadline`` is the instant of the next call of ``step`` if no input arrives before. The rules are
the tables in ``turn_table``; docs/turns.md shows them.

Decisions do not depend on when the event loop runs. Before the machine applies an input, it fires each earlier
deadline, at that deadline's own time. An input at the instant of a deadline goes first. So the number of calls of
``step(None, now)`` makes no difference, and a lagging loop makes the same decisions as a punctual one.
"""

import math

from patter_trio.conversation.actions import Action
from patter_trio.conversation.inputs import (
    TRANSFERRED_REASON,
    AudioArrived,
    Busy,
    Closing,
    Drained,
    Input,
    OnWire,
    Produced,
    ReplyFailed,
    TokenArrived,
)
from patter_trio.conversation.policy import TurnPolicy
from patter_trio.conversation.turn_moves import Conversation
from patter_trio.conversation.turn_state import AgentState, Timer
from patter_trio.conversation.turn_table import AGENT, CALLER, Trigger

_REPLY_INPUTS = (TokenArrived, AudioArrived, OnWire, Busy, Closing, Produced, Drained, ReplyFailed)
"""Inputs that carry the number of a reply. They are stale if that reply is not live."""
_LEAVING = (AgentState.CLOSING, AgentState.FLUSHING, AgentState.ENDED)
"""States in which the call is about to end, or has ended."""
_TIMER_ORDER = {timer: place for place, timer in enumerate(Timer)}
"""Position of each deadline in :class:`Timer`, which is the order of deadlines at the same instant."""


class TurnMachine:
    """Turn-taking for one call. Times are seconds on the call's clock.

    With ``detector``, the machine asks a turn detector at the end of each voice (``AskDetector``, answered by
    ``Verdict``).
    """

    def __init__(self, policy: TurnPolicy, *, detector: bool = False) -> None:
        self._conversation = Conversation(policy, detector=detector)

    @property
    def deadline(self) -> float:
        """The instant at which ``step(None, deadline)`` is due; infinite while only an input can change the state."""
        # Twelve deadlines at most: a heap would cost more than it saves, and its stale
        # entries would have to be skipped.
        return min(self._conversation.timers.values(), default=math.inf)

    @property
    def ended(self) -> bool:
        """True once ``EndCall`` was returned. After that the machine ignores every input."""
        return self._conversation.agent is AgentState.ENDED

    @property
    def may_wait(self) -> bool:
        """True if the call goes on over another stream when it loses the one it has: it is neither over nor hung up.

        A call that is to be transferred goes on, too, until the carrier was asked to; and a caller may be on hold.
        """
        conversation = self._conversation
        leaves = conversation.ending not in (None, TRANSFERRED_REASON)
        on_hold = conversation.hold > 0 and conversation.agent is AgentState.CLOSING
        return not leaves and (on_hold or conversation.agent not in _LEAVING)

    @property
    def user_state(self) -> str:
        """The caller's public state: listening, speaking, thinking or away."""
        return self._conversation.user_state

    @property
    def agent_state(self) -> str:
        """The agent's public state: initializing, idle, thinking or speaking."""
        return self._conversation.agent_state

    @property
    def turn(self) -> int:
        """The number of committed utterances (``turn_idx``)."""
        return self._conversation.turn

    @property
    def reply(self) -> int | None:
        """The number of the live reply, or None."""
        return None if self._conversation.reply is None else self._conversation.reply.number

    @property
    def waiting_texts(self) -> int:
        """The number of texts of the application that wait to be spoken."""
        return len(self._conversation.queue)

    @property
    def has_floor(self) -> bool:
        """True if the live reply may be heard: the caller neither speaks nor may still be adding to the question."""
        return self._conversation.reply is not None and self._conversation.may_play()

    def step(self, event: Input | None, now: float) -> list[Action]:
        """Apply an input at ``now`` (None: only time has passed), and return the actions to carry out, in order.

        ``now`` must not decrease. If it does, the machine uses the latest time so far.
        """
        conversation = self._conversation
        # A clock that goes back must not fire a deadline twice, or date a decision before its cause.
        now = max(now, conversation.now)
        # Deadlines first, so that the input meets the state that it would have met in a loop without lag.
        self._fire_until(now, inclusive=event is None)
        conversation.now = now
        # Checked after the deadlines: one of them may have cut the reply of this input, or ended the call.
        if event is not None and not self.ended and not self._stale(event):
            self._apply(type(event), event)
        # A new list each time, because the session iterates over the old one.
        out, conversation.out = conversation.out, []
        return out

    def _fire_until(self, now: float, *, inclusive: bool) -> None:
        """Fire the deadlines before ``now``, each at its own time; with ``inclusive`` also those at ``now``."""
        timers = self._conversation.timers
        while timers:
            # One at a time: a rule may set, move or clear other deadlines.
            timer = min(timers, key=lambda timer: (timers[timer], _TIMER_ORDER[timer]))
            due = timers[timer]
            if due > now or (due == now and not inclusive):
                return
            self._conversation.now = due
            self._conversation.disarm(timer)
            self._apply(timer, None)

    def _apply(self, trigger: Trigger, event: Input | None) -> None:
        """Apply the rule for a trigger, and then the consequences at the same instant."""
        conversation = self._conversation
        # No entry is missing in either table, which a test checks, so a KeyError here is a bug and ends the call.
        if trigger in CALLER:
            CALLER[trigger][conversation.caller](conversation, event)
        else:
            AGENT[trigger][conversation.agent](conversation, event)
        conversation.derive()
        # A rule may set a deadline in the past, such as the end of a silence that the VAD reported late. It must fire
        # within this step, or the decision would depend on when the loop calls again.
        if conversation.prompt:
            timer = conversation.prompt[0]
            conversation.disarm(timer)
            self._apply(timer, None)

    def _stale(self, event: Input) -> bool:
        # An input that a task posted before its reply was cut can arrive after the cut.
        return isinstance(event, _REPLY_INPUTS) and event.reply != self.reply

    def __repr__(self) -> str:
        """Return the live state."""
        conversation = self._conversation
        parts = [f"turn {conversation.turn}", f"caller {conversation.caller}", f"agent {conversation.agent}"]
        if conversation.reply is not None:
            parts.append(str(conversation.reply))
        if conversation.utterance:
            parts.append(f"words {' '.join(piece.text for piece in conversation.utterance.pieces)!r}")
        if conversation.queue:
            parts.append(f"{len(conversation.queue)} queued")
        if conversation.ending is not None:
            parts.append(f"ending: {conversation.ending}")
        if self.deadline < math.inf:
            parts.append(f"next deadline {self.deadline:.3f}")
        return f"<TurnMachine {', '.join(parts)}>"
