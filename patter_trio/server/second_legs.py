"""The calls to people who are to take over from an agent: placed, watched, and ended if nobody wants them any more.

Each runs in a task of the server, because the requests to the carrier may outlast the call that wants them. That call
cancels the task's scope at the instant at which its caller leaves, and waits for nothing.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from patter_trio.agent.agent import Agent
from patter_trio.call.bridge import Bridge
from patter_trio.call.second_leg import SecondLeg
from patter_trio.errors import CallEnded, PatterError, TransferReason
from patter_trio.server.outbound import DIAL_TIMEOUT_S, RING_MARGIN_S, Dialler
from patter_trio.server.placed import CallRequest, PlacedCall

TRANSFER_OF: Final = "transfer_of"
"""The custom parameter of such a call: the id of the call that is to be taken over."""
# A hang-up waits 10 s at most for the current speech (``conversation/policy.py``).
GOODBYE_TIMEOUT_S: Final = 12.0
"""Seconds for the end of a call whose person has declined."""
_REASONS: Final[dict[str, TransferReason]] = {"busy": "busy", "no_answer": "no_answer", "rejected": "rejected"}
"""The reasons for the outcomes of calls that nobody has answered; each other outcome is a failure."""


class SecondLegs:
    """The calls to people who are to take over, of one server.

    Args:
        dialler: places the calls.
        nursery: the server's, which outlives the calls.
    """

    def __init__(self, dialler: Dialler, nursery: trio.Nursery) -> None:
        self._dialler = dialler
        self._nursery = nursery

    def __repr__(self) -> str:
        return f"<SecondLegs of {self._dialler!r}>"

    def place(self, leg: SecondLeg, agent: Agent) -> None:
        """Call a person in the background."""
        self._nursery.start_soon(self._run, leg, agent)

    async def _run(self, leg: SecondLeg, agent: Agent) -> None:
        # The number that the caller knows: the person sees from whom the call comes.
        ours = leg.info.callee if leg.info.direction == "inbound" else leg.info.caller
        request = CallRequest(
            to=leg.to,
            from_number=leg.warm.from_number or ours,
            agent=agent,
            ring_timeout=leg.warm.ring_timeout,
            custom_params={TRANSFER_OF: leg.info.call_id},
            second_leg=leg,
        )
        with leg.wanted:
            try:
                await self._call(leg, request)
            except PatterError as error:
                leg.fail("failed", str(error))
        # In any case: the other call waits for a decision.
        leg.fail("failed")

    async def _call(self, leg: SecondLeg, request: CallRequest) -> None:
        """Call a person, and return at the end of that call.

        Raises:
            PatterError: the carrier did not take the call.
        """
        placed: PlacedCall | None = None
        try:
            # The dialler has longer limits: for a call that nobody waits for, a carrier may keep it in its queue.
            with trio.move_on_after(DIAL_TIMEOUT_S + request.ring_timeout + RING_MARGIN_S):
                placed = await self._dialler.call(request)
                await placed.talking.wait()
            if placed is None or not placed.talking.is_set():
                leg.fail("no_answer")
            elif not placed.is_live:
                leg.fail(_REASONS.get(placed.outcome, "failed"), "" if placed.outcome in _REASONS else placed.outcome)
            else:
                await self._decide(leg, placed)
        finally:
            if placed is not None:
                # In any case: nobody must be left on a line that nobody wants. A call that is over is not there to be
                # ended.
                self._dialler.cancel(placed, "it was not wanted any more")

    async def _decide(self, leg: SecondLeg, placed: PlacedCall) -> None:
        """Wait for the person's decision, and then for the end of the call."""
        async with trio.open_nursery() as nursery:
            # Beside the wait: to hang up is a decision, too.
            nursery.start_soon(self._end_with, leg, placed)
            with trio.move_on_after(leg.warm.decision_timeout):
                await leg.decided.wait()
            leg.fail("undecided")
            nursery.cancel_scope.cancel(reason="decided")
        if leg.is_accepted:
            # Its call goes on, and this task with it: until both are connected, the caller may still leave.
            await placed.over.wait()
            return
        # CallEnded: the person was faster, and has hung up.
        with trio.move_on_after(GOODBYE_TIMEOUT_S), suppress(CallEnded):
            if placed.control is not None:
                placed.control.hang_up()
            await placed.over.wait()

    async def _end_with(self, leg: SecondLeg, placed: PlacedCall) -> None:
        await placed.over.wait()
        leg.fail("hung_up" if placed.outcome == "caller_hung_up" else "failed")


class _NobodyThere:
    """The party of a person who was not called; leaves at once."""

    can_join = True

    def join(self, bridge: Bridge, pass_on: Callable[[bytes], None]) -> None:
        """End the bridge: there is nobody to hear the caller."""
        del pass_on
        bridge.over.set()

    def hear(self, audio: bytes) -> None:
        """Do nothing: nobody hears the caller."""


def accept_at_once(take_over: Callable[[str, str], None], leg: SecondLeg, agent: Agent) -> None:
    """Call ``take_over`` with number and briefing instead of a person, and accept in the place of that person."""
    take_over(leg.to, agent.greeting)
    leg.meet(_NobodyThere())
    leg.accept()
