"""The turn machine: who has the floor, when an utterance is over, and when a reply is cut.

It is a pure function of inputs and time. ``step`` takes what happened and when, and returns what is to be done, in
order; ``deadline`` says when it wants to be called again if nothing happens. The rules are the tables in
``turn_table``; docs/turns.md shows them.

Time does not depend on the caller's punctuality: before an input is looked at, every deadline before it is fired, at
the deadline's own time. An input stamped exactly at a deadline goes first. So it makes no difference how often
``step(None, now)`` is called, and a loop that lags decides what one without lag would have decided.
"""

import math

from patter_trio.conversation.actions import Action
from patter_trio.conversation.inputs import (
    AudioArrived,
    Busy,
    Drained,
    Input,
    OnWire,
    Produced,
    ReplyFailed,
    TokenArrived,
)
from patter_trio.conversation.policy import TurnPolicy
from patter_trio.conversation.turn_moves import Conversation
from patter_trio.conversation.turn_state import Agent, Timer
from patter_trio.conversation.turn_table import AGENT, CALLER, Trigger

_OF_A_REPLY = (TokenArrived, AudioArrived, OnWire, Busy, Produced, Drained, ReplyFailed)
_ORDER = {timer: place for place, timer in enumerate(Timer)}


class TurnMachine:
    """The turn taking of one call. Times are seconds on the call's clock.

    With ``detector`` the end of each voice is shown to a turn detector (``AskDetector``, answered by ``Verdict``).
    """

    def __init__(self, policy: TurnPolicy, *, detector: bool = False) -> None:
        self._talk = Conversation(policy, detector=detector)

    @property
    def deadline(self) -> float:
        """When ``step(None, deadline)`` has something to do; infinite if only an input has."""
        return min(self._talk.timers.values(), default=math.inf)

    @property
    def ended(self) -> bool:
        """Whether ``EndCall`` was returned; nothing is after it."""
        return self._talk.agent is Agent.ENDED

    @property
    def user_state(self) -> str:
        """The caller's public state: listening, speaking, thinking or away."""
        return self._talk.user_state

    @property
    def agent_state(self) -> str:
        """The agent's public state: initializing, idle, thinking or speaking."""
        return self._talk.agent_state

    @property
    def turn(self) -> int:
        """The number of committed utterances (``turn_idx``)."""
        return self._talk.turn

    @property
    def reply(self) -> int | None:
        """The number of the live reply."""
        return None if self._talk.reply is None else self._talk.reply.number

    @property
    def has_floor(self) -> bool:
        """Whether the live reply is heard, or could be: the caller is not speaking, nor going on with the question."""
        return self._talk.reply is not None and self._talk.may_open()

    def step(self, event: Input | None, now: float) -> list[Action]:
        """Take what happened at ``now``, or with None only that it is ``now``; return what to do, in order.

        ``now`` should not go back; an earlier one counts as the latest so far.
        """
        talk = self._talk
        now = max(now, talk.now)
        self._fire_until(now, inclusive=event is None)
        talk.now = now
        if event is not None and not self.ended and not self._stale(event):
            self._apply(type(event), event)
        out, talk.out = talk.out, []
        return out

    def _fire_until(self, now: float, *, inclusive: bool) -> None:
        timers = self._talk.timers
        while timers:
            timer = min(timers, key=lambda timer: (timers[timer], _ORDER[timer]))
            due = timers[timer]
            if due > now or (due == now and not inclusive):
                return
            self._talk.now = due
            self._talk.disarm(timer)
            self._apply(timer, None)

    def _apply(self, trigger: Trigger, event: Input | None) -> None:
        """Apply the rule of the one table that has the trigger, then what follows from it at the same instant."""
        talk = self._talk
        if trigger in CALLER:
            CALLER[trigger][talk.caller](talk, event)
        else:
            AGENT[trigger][talk.agent](talk, event)
        talk.settle()
        if talk.prompt:
            timer = talk.prompt[0]
            talk.disarm(timer)
            self._apply(timer, None)

    def _stale(self, event: Input) -> bool:
        return isinstance(event, _OF_A_REPLY) and event.reply != self.reply

    def __repr__(self) -> str:
        """Show the live state."""
        talk = self._talk
        parts = [f"turn {talk.turn}", f"caller {talk.caller}", f"agent {talk.agent}"]
        if talk.reply is not None:
            parts.append(str(talk.reply))
        if talk.utterance:
            parts.append(f"words {' '.join(piece.text for piece in talk.utterance.pieces)!r}")
        if talk.queue:
            parts.append(f"{len(talk.queue)} queued")
        if talk.ending is not None:
            parts.append(f"ending: {talk.ending}")
        if self.deadline < math.inf:
            parts.append(f"next deadline {self.deadline:.3f}")
        return f"<TurnMachine {', '.join(parts)}>"
