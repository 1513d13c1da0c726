"""Transfers of a call to another number: requested by the application, made after the speech before was played.

The turn machine decides when, as for a hang-up. A task of the call asks the carrier, so that cancelling the
application's task, which may wait for the result, does not cancel a request that is already on its way.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import trio

from patter_trio.conversation.inputs import TRANSFERRED_REASON, Transfer, TransferAccepted, TransferFailed
from patter_trio.errors import CallEnded, PatterError, ProviderError, ProviderTimeout
from patter_trio.phone_numbers import checked_destination, mask_number

# Judged; below TurnPolicy.transfer (6 s), so that the turn machine gets this failure and not its own deadline.
# docs/callbacks.md promises it.
TRANSFER_TIMEOUT_S: Final = 5.0
"""Seconds that the carrier has to answer; the caller hears nothing meanwhile."""

# A little longer than the party may ring (RING_TIMEOUT_S of the carriers), for the way of the report.
REACH_TIMEOUT_S: Final = 30.0
"""Seconds after which a transfer counts as reached without any report of the carrier."""

TransferCall = Callable[[str], Awaitable[None]]
"""Asks the carrier to connect the caller to another number; see ``Carrier.transfer``."""

_log = logging.getLogger("patter_trio.call")


@attrs.define(eq=False)
class TransferRequest:
    """A requested transfer, and its result."""

    to: str
    error_message: str | None
    """The text that the agent says if the transfer fails; None for the agent's ``error_message``."""
    error: PatterError | None = None
    """The failure; None if the carrier accepted the transfer, and before ``over`` is set."""
    # Kept when set, so that a task which waits only afterwards learns the result, too.
    over: trio.Event = attrs.field(factory=trio.Event)

    def settle(self, error: PatterError | None) -> None:
        """Set the result, None for success, and wake the tasks that wait for it."""
        self.error = error
        self.over.set()

    async def accepted(self) -> None:
        """Wait until the carrier has accepted the transfer.

        Raises:
            CallEnded: the call ended before.
            PatterError: the carrier did not accept the transfer, and the call goes on.
        """
        await self.over.wait()
        if self.error is not None:
            raise self.error


class Transfers:
    """The transfers of one call, one at a time.

    Args:
        call_id: the id of the call.
        transfer_call: asks the carrier.
        demand: posts an input; raises ``CallEnded`` if the call is over.
        post: posts an input; does nothing if the call is over.
        on_refused: called when the carrier has not taken a transfer.
        takes_back: True if the carrier reports whether the party answers, and gives the call back if it does not.
    """

    def __init__(
        self,
        call_id: str,
        transfer_call: TransferCall,
        demand: Callable[[Transfer], None],
        post: Callable[[TransferAccepted | TransferFailed], None],
        *,
        takes_back: bool = False,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._call_id = call_id
        self._transfer_call = transfer_call
        self._demand = demand
        self._post = post
        self._request: TransferRequest | None = None
        self._takes_back = takes_back
        self._on_refused = on_refused
        self._reached: bool | None = None
        self._decided = trio.Event()
        self.is_open: bool = False
        """True while the carrier was asked for a transfer from which the call may come back."""

    def __repr__(self) -> str:
        return f"<Transfers {self._call_id}{', requested' if self._request is not None else ''}>"

    def request(self, to: Any, error_message: str | None) -> TransferRequest:
        """Request a transfer.

        Raises:
            ConfigurationError: (a ``ValueError``) ``to`` is not a valid destination.
            ProviderError: another transfer is already under way.
            CallEnded: the call is over.
        """
        order = TransferRequest(checked_destination(to), error_message)
        self.place(order)
        return order

    def place(self, order: TransferRequest) -> None:
        """Start a requested transfer.

        Raises:
            ProviderError: another transfer is already under way.
            CallEnded: the call is over.
        """
        if self._request is not None:
            raise ProviderError(f"call {self._call_id} is being transferred already")
        # Posted before it is stored: if the call is over, no request stays behind.
        self._demand(Transfer())
        self._request = order

    async def run(self, apology: str) -> None:
        """Ask the carrier; if it fails, the agent says the request's ``error_message``, or ``apology`` without one."""
        order = self._request
        if order is None:  # the turn machine acts only on a Transfer, which place() posts
            raise AssertionError("the turn machine started a transfer without a request")
        self._reached, self._decided, self.is_open = None, trio.Event(), self._takes_back
        try:
            # Not shielded: a call that ends meanwhile cancels the request, and close() settles
            # it by the outcome of the call.
            with trio.fail_after(TRANSFER_TIMEOUT_S):
                await self._transfer_call(order.to)
        except trio.TooSlowError:
            self._failed(order, ProviderTimeout(f"the carrier did not answer within {TRANSFER_TIMEOUT_S:g} s"), apology)
        except PatterError as error:
            # Whatever the carrier's side raises by contract; anything else is a bug and ends the call.
            self._failed(order, error, apology)
        else:
            _log.info("call %s: transferred to %s", self._call_id, mask_number(order.to))
            # Settled first: TransferAccepted ends the call, and close() must find the request settled.
            order.settle(None)
            if await self._is_reached():
                self._post(TransferAccepted())
            else:
                _log.info("call %s: nobody answered the transfer; the agent goes on", self._call_id)
                self._request = None
                self._post(TransferFailed(apology if order.error_message is None else order.error_message))
        finally:
            self.is_open = False

    async def _is_reached(self) -> bool:
        """Wait until it is known whether the party answers; True without a report."""
        if self._takes_back:
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
        _log.warning("call %s: transfer failed: %s", self._call_id, error)
        text = apology if order.error_message is None else order.error_message
        # Cleared first: the application may request another transfer as soon as it learns of the failure.
        self._request = None
        order.settle(error)
        self._on_refused()
        # CallEnded: the carrier says that the call is over, so the caller hears nothing; the leg will end in a moment.
        self._post(TransferFailed("" if isinstance(error, CallEnded) else text))

    async def hand_over(self, to: str) -> bool:
        """Ask the carrier at once, without the turn machine; return True if it connects the caller."""
        try:
            await self._transfer_call(to)
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
