"""Handing a call over to another number: ordered by the application, carried out when what is said before was heard.

When it is time is the turn machine's business, as for a hang-up. The carrier is asked by a task of the call's, whoever
ordered it: a request that is on its way is not taken back because the one who waits for it is cancelled.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import trio

from patter_trio.conversation.inputs import TRANSFERRED_REASON, Transfer, TransferAccepted, TransferFailed
from patter_trio.errors import CallEnded, PatterError, ProviderError, ProviderTimeout
from patter_trio.phone_numbers import checked_destination, mask_number

TRANSFER_TIMEOUT_S: Final = 5.0
"""Seconds that the carrier has for its answer."""

TransferCall = Callable[[str], Awaitable[None]]
"""Has the carrier connect the caller with somebody else; see ``Carrier.transfer``."""

_log = logging.getLogger("patter_trio.call")


@attrs.define(eq=False)
class TransferRequest:
    """A transfer that was ordered, and what becomes of it."""

    to: str
    error_message: str | None
    """What the caller hears if it fails; None: the agent's ``error_message``."""
    error: PatterError | None = None
    over: trio.Event = attrs.field(factory=trio.Event)

    def settle(self, error: PatterError | None) -> None:
        """Let those who wait know; None: it was taken."""
        self.error = error
        self.over.set()

    async def accepted(self) -> None:
        """Wait until the carrier has taken it.

        Raises:
            CallEnded: the call ended before.
            PatterError: the carrier did not, and the call goes on.
        """
        await self.over.wait()
        if self.error is not None:
            raise self.error


class Transfers:
    """The transfers of one call, of which there is one at a time.

    Args:
        call_id: whose they are.
        hand_over: asks the carrier.
        demand: tells the turn machine, unless the call is over.
        post: the same, and what comes too late is for nobody.
    """

    def __init__(
        self,
        call_id: str,
        transfer_call: TransferCall,
        demand: Callable[[Transfer], None],
        post: Callable[[TransferAccepted | TransferFailed], None],
    ) -> None:
        self._call_id = call_id
        self._transfer_call = transfer_call
        self._demand = demand
        self._post = post
        self._request: TransferRequest | None = None

    def __repr__(self) -> str:
        return f"<Transferring {self._call_id}{', ordered' if self._request is not None else ''}>"

    def request(self, to: Any, error_message: str | None) -> TransferRequest:
        """Order a transfer.

        Raises:
            ConfigurationError: (a ``ValueError``) that is no destination.
            ProviderError: one is under way already.
            CallEnded: the call is over.
        """
        order = TransferRequest(checked_destination(to), error_message)
        self.place(order)
        return order

    def place(self, order: TransferRequest) -> None:
        """Do as ordered.

        Raises:
            ProviderError: another transfer is under way already.
            CallEnded: the call is over.
        """
        if self._request is not None:
            raise ProviderError(f"call {self._call_id} is being transferred already")
        self._demand(Transfer())
        self._request = order

    async def run(self, apology: str) -> None:
        """It is time: ask the carrier. ``apology`` is what the caller hears where the order does not say."""
        order = self._request
        if order is None:  # nothing else makes it time
            raise AssertionError("a transfer that nobody ordered")
        try:
            with trio.fail_after(TRANSFER_TIMEOUT_S):
                await self._transfer_call(order.to)
        except trio.TooSlowError:
            self._failed(order, ProviderTimeout(f"the carrier did not answer within {TRANSFER_TIMEOUT_S:g} s"), apology)
        except PatterError as error:
            self._failed(order, error, apology)
        else:
            _log.info("call %s: handed over to %s", self._call_id, mask_number(order.to))
            order.settle(None)
            self._post(TransferAccepted())

    def _failed(self, order: TransferRequest, error: PatterError, apology: str) -> None:
        _log.warning("call %s: it was not handed over: %s", self._call_id, error)
        text = apology if order.error_message is None else order.error_message
        self._request = None
        order.settle(error)
        # A call that is over hears nothing; its leg says so in a moment.
        self._post(TransferFailed("" if isinstance(error, CallEnded) else text))

    def close(self, outcome: str) -> None:
        """The call is over: so is what was ordered."""
        order, self._request = self._request, None
        if order is not None and not order.over.is_set():
            over = CallEnded(f"call {self._call_id} was over before it was transferred ({outcome})")
            order.settle(None if outcome == TRANSFERRED_REASON else over)
