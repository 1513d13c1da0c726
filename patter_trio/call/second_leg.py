"""The call to a person who is to take over from the agent: what both calls and the server know about it."""

from collections.abc import Callable

import attrs
import trio

from patter_trio.abc import CallInfo
from patter_trio.agent.agent import Agent
from patter_trio.agent.briefing import briefing_agent
from patter_trio.agent.warm_transfer import WarmTransfer
from patter_trio.call.bridge import Party
from patter_trio.errors import TransferReason


@attrs.define(eq=False)
class SecondLeg:
    """The call to a person, from the dial to the person's decision.

    Attributes:
        info: the facts about the call that is to be taken over.
        to: the person's number, E.164.
        warm: the options.
    """

    info: CallInfo
    to: str
    warm: WarmTransfer
    is_accepted: bool = False
    """True if the person takes the call."""
    reason: TransferReason = "failed"
    """Why the person does not take it; of use once ``decided`` is set."""
    detail: str = ""
    """The error in words, if there was one."""
    decided: trio.Event = attrs.field(factory=trio.Event)
    wanted: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """The server's work for this call; cancelled when nobody wants it any more."""
    party: Party | None = None
    """The person, once there."""

    def agent(self, agent: Agent, briefing: str) -> Agent:
        """Return the agent that briefs the person, with the voice of the agent of the other call."""
        return briefing_agent(agent, briefing, self.warm.prompt, self.accept, self.decline)

    def meet(self, party: Party) -> None:
        """Note that the person is there."""
        self.party = party

    def accept(self) -> None:
        """Take the call."""
        if not self.decided.is_set():
            self.is_accepted = True
            self.decided.set()

    def decline(self) -> None:
        """Decline the call."""
        self.fail("declined")

    def fail(self, reason: TransferReason, detail: str = "") -> None:
        """Note that the person does not take the call; the first decision counts."""
        if not self.decided.is_set():
            self.reason, self.detail = reason, detail
            self.decided.set()

    def cancel(self, why: str) -> None:
        """End the call to the person at once, whatever it is doing."""
        self.wanted.cancel(reason=why)


PlaceSecondLeg = Callable[[SecondLeg, Agent], None]
"""Calls the person with that agent, in the background; see :class:`SecondLeg`."""
