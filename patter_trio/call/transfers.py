"""Transfers of a call to another number: requested by the application, made after the speech before was played.

The turn machine decides when, as for a hang-up. A task of the call asks the carrier, so that cancelling the
application's task, which may wait for the result, does not cancel a request that is already on its way.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from patter_trio.agent.agent import ERROR_MESSAGE, TRANSFER_FAILED_MESSAGE, Agent
from patter_trio.agent.warm_transfer import WarmTransfer
from patter_trio.call.transfer_request import TransferRequest
from patter_trio.conversation.inputs import TRANSFERRED_REASON, Transfer, TransferAccepted, TransferFailed
from patter_trio.errors import CallEnded, PatterError, ProviderError, ProviderTimeout
from patter_trio.phone_numbers import mask_number

# Judged; below TurnPolicy.transfer (6 s), so that the turn machine gets this failure and not its own deadline.
# docs/callbacks.md promises it.
TRANSFER_TIMEOUT_S: Final = 5.0
"""Seconds that the carrier has to answer; the caller hears nothing meanwhile."""

# A little longer than the party may ring (RING_TIMEOUT_S of the carriers), for the way of the report.
REACH_TIMEOUT_S: Final = 30.0
"""Seconds after which a transfer counts as reached without any report of the carrier."""
# Judged: 10 s for the function that makes the briefing, 10 s for the request to the carrier, 10 s for its reports, and
# a reserve, because that task ends by itself.
LONGEST_SETUP_S: Final = 40.0
"""Seconds that a warm transfer may take beyond those of the ring and of the decision."""

TransferCall = Callable[[str], Awaitable[None]]
"""Asks the carrier to connect the caller to another number; see ``Carrier.transfer``."""

ConnectWarmly = Callable[[str, WarmTransfer, Agent], Awaitable[None]]
"""Connects the caller with a person at a number, if that person takes the call; the agent briefs the person."""

_log = logging.getLogger("patter_trio.call")


class Transfers:
    """The transfers of one call, one at a time.

    Args:
        call_id: the id of the call.
        transfer_call: asks the carrier.
        connect_warmly: asks a person, while the caller is on hold; see :meth:`Hold.connect`.
        demand: posts an input; raises ``CallEnded`` if the call is over.
        post: posts an input; does nothing if the call is over.
        on_refused: called when the carrier has not taken a transfer.
        takes_back: True if the carrier reports whether the party answers, and gives the call back if it does not.
    """

    def __init__(
        self,
        call_id: str,
        transfer_call: TransferCall,
        connect_warmly: ConnectWarmly,
        demand: Callable[[Transfer], None],
        post: Callable[[TransferAccepted | TransferFailed], None],
        *,
        takes_back: bool = False,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._call_id = call_id
        self._transfer_call = transfer_call
        self._connect_warmly = connect_warmly
        self._demand = demand
        self._post = post
        self._request: TransferRequest | None = None
        self._takes_back = takes_back
        self._on_refused = on_refused
        self._reached: bool | None = None
        self._decided = trio.Event()
        # A call that loses its stream may ask while the turn machine does.
        self._asking = trio.Lock()
        self._is_handed_over = False
        self.is_open: bool = False
        """True while the carrier was asked for a transfer from which the call may come back."""
        self.is_under_way: bool = False
        """True from the request to the carrier, or to the person, until it is known what became of it."""

    def __repr__(self) -> str:
        return f"<Transfers {self._call_id}{', requested' if self._request is not None else ''}>"

    def place(self, order: TransferRequest) -> None:
        """Start a requested transfer.

        Raises:
            ProviderError: another transfer is already under way.
            CallEnded: the call is over.
        """
        if self._request is not None:
            raise ProviderError(f"call {self._call_id} is being transferred already")
        # Posted before it is stored: if the call is over, no request stays behind.
        self._demand(Transfer(hold=0.0 if order.warm is None else LONGEST_SETUP_S + order.warm.longest))
        self._request = order

    async def run(self, agent: Agent) -> None:
        """Make the requested transfer; if it fails, the agent says the request's ``error_message``, or else its own."""
        order = self._request
        if order is None:  # the turn machine acts only on a Transfer, which place() posts
            raise AssertionError("the turn machine started a transfer without a request")
        self._reached, self._decided, self.is_open = None, trio.Event(), self._takes_back and order.warm is None
        self.is_under_way = True
        try:
            await self._make(order, agent)
        except PatterError as error:
            # Whatever the carrier's side raises by contract; anything else is a bug and ends the call.
            self._failed(order, error, _apology(order, agent))
        else:
            _log.info("call %s: transferred to %s", self._call_id, mask_number(order.to))
            # Settled first: TransferAccepted ends the call, and close() must find the request settled.
            order.settle(None)
            # A warm transfer has told both calls of it already.
            if order.warm is None:
                await self._report(_apology(order, agent))
        finally:
            self.is_open = self.is_under_way = False

    async def _report(self, apology: str) -> None:
        """Post what became of a transfer that the carrier has accepted."""
        if await self._is_reached():
            self._post(TransferAccepted())
        else:
            _log.info("call %s: nobody answered the transfer; the agent goes on", self._call_id)
            self._request = None
            self._post(TransferFailed(apology))

    async def _make(self, order: TransferRequest, agent: Agent) -> None:
        """Ask the carrier, or the person; return when the caller is connected.

        Raises:
            PatterError: the caller is not connected.
        """
        if order.warm is not None:
            await self._connect_warmly(order.to, order.warm, agent)
            return
        try:
            # Not shielded: a call that ends meanwhile cancels the request, and close() settles
            # it by the outcome of the call.
            with trio.fail_after(TRANSFER_TIMEOUT_S):
                async with self._asking:
                    if not self._is_handed_over:
                        await self._transfer_call(order.to)
        except trio.TooSlowError as error:
            raise ProviderTimeout(f"the carrier did not answer within {TRANSFER_TIMEOUT_S:g} s") from error

    async def _is_reached(self) -> bool:
        """Wait until it is known whether the party answers; True without a report."""
        if self._takes_back:
            # No report counts as reached: the agent must not speak into a conversation of two people.
            with trio.move_on_after(REACH_TIMEOUT_S):
                await self._decided.wait()
        return self._reached is not False

    @property
    def is_ringing(self) -> bool:
        """True while it is not known whether the party of a transfer answers."""
        return self.is_open and self._reached is None

    def decide(self, *, reached: bool) -> bool:
        """Take the carrier's report about the party; return True if a transfer waited for it."""
        if not self.is_ringing:
            return False
        self._reached = reached
        self._decided.set()
        return True

    def _failed(self, order: TransferRequest, error: PatterError, apology: str) -> None:
        # A hang-up on hold is the caller's decision, and not a failure.
        is_failure = order.warm is None or not isinstance(error, CallEnded)
        _log.log(logging.WARNING if is_failure else logging.INFO, "call %s: transfer failed: %s", self._call_id, error)
        # Cleared first: the application may request another transfer as soon as it learns of the failure.
        self._request = None
        order.settle(error)
        if order.warm is None:
            self._on_refused()
        # CallEnded: the carrier says that the call is over, so the caller hears nothing; the leg will end in a moment.
        self._post(TransferFailed("" if isinstance(error, CallEnded) else apology))

    async def hand_over(self, to: str) -> bool:
        """Ask the carrier at once, without the turn machine; return True if it connects the caller."""
        try:
            async with self._asking:
                await self._transfer_call(to)
                self._is_handed_over = True
        except PatterError as error:
            _log.warning("call %s: transfer failed: %s", self._call_id, error)
            return False
        _log.info("call %s: transferred to %s", self._call_id, mask_number(to))
        return True

    def close(self, outcome: str) -> None:
        """End a transfer that is still requested, because the call is over."""
        order, self._request = self._request, None
        if order is not None and not order.over.is_set():
            over = CallEnded(f"call {self._call_id} was over before it was transferred ({outcome})")
            order.settle(None if outcome == TRANSFERRED_REASON else over)


def _apology(order: TransferRequest, agent: Agent) -> str:
    """Return what the caller hears if a transfer fails."""
    if order.error_message is not None:
        return order.error_message
    # The agent's default asks the caller to repeat something, which does not help here.
    return TRANSFER_FAILED_MESSAGE if agent.error_message == ERROR_MESSAGE else agent.error_message
