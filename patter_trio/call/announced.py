"""A call that is announced and whose media has not begun: what ``on_call_start(event, call_control)`` steers.

What is wanted of it is done when it connects; of one that never does, it is over.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from patter_trio.abc import CallInfo
from patter_trio.call.control import CallControl, ControlledCall
from patter_trio.call.transfers import TransferRequest, Transfers
from patter_trio.errors import CallEnded, PatterError, ProviderError
from patter_trio.events.payloads import INITIAL_STATE, ConversationStateSnapshot
from patter_trio.phone_numbers import checked_destination

MAX_DEFERRED_COMMANDS: Final = 64
"""What may be wanted of a call before it connects; it does so within a second or two."""


class BegunCall(ControlledCall, Protocol):
    """A call that has begun, as the announced one hands over to it what it was asked to do."""

    transfers: Transfers


class PendingControl:
    """A call before it is one, as its :attr:`control` sees it.

    Args:
        info: the facts of the call.
    """

    def __init__(self, info: CallInfo) -> None:
        self.info: CallInfo = info
        self.data: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.outcome: str = ""
        self.control: CallControl = CallControl(self)
        """What steers the call, from now on to its end."""
        self._deferred: list[Callable[[BegunCall], object]] = []
        self._order: TransferRequest | None = None

    def __repr__(self) -> str:
        return f"<Announced {self.info.call_id}{f', {self.outcome}' if self.outcome else ''}>"

    @property
    def conversation_state(self) -> ConversationStateSnapshot:
        """That of a call that has not begun."""
        return ConversationStateSnapshot(user=INITIAL_STATE["user"], agent=INITIAL_STATE["agent"])

    def say(self, text: str, *, interruptible: bool = True, interrupt: bool = False) -> None:
        """Have the agent say ``text`` when the call has begun, before its first message.

        Raises:
            CallEnded: the call never connected.
        """
        self._defer(lambda call: call.say(text, interruptible=interruptible, interrupt=interrupt))

    def hang_up(self) -> None:
        """End the call as soon as it connects.

        Raises:
            CallEnded: the call never connected.
        """
        self._defer(lambda call: call.hang_up())

    def request_transfer(self, to: Any, error_message: str | None) -> TransferRequest:
        """Order a transfer, as ``Transfers.order`` does.

        Raises:
            ConfigurationError: (a ``ValueError``) that is no destination.
            ProviderError: one is ordered already.
            CallEnded: the call never connected.
        """
        order = TransferRequest(checked_destination(to), error_message)
        if self._order is not None:
            raise ProviderError(f"call {self.info.call_id} is being transferred already")
        self._defer(lambda call: call.transfers.place(order))
        self._order = order
        return order

    def _defer(self, command: Callable[[BegunCall], object]) -> None:
        if self.outcome:
            raise self._over()
        if len(self._deferred) == MAX_DEFERRED_COMMANDS:
            raise PatterError(
                f"call {self.info.call_id} has not begun, and {MAX_DEFERRED_COMMANDS} things are wanted of it already"
            )
        self._deferred.append(command)

    def _over(self) -> CallEnded:
        return CallEnded(f"call {self.info.call_id} is over ({self.outcome})")

    def connect(self, call: BegunCall) -> None:
        """The call has begun: from here on it is the one that is steered."""
        call.data = self.data
        self.control.connect(call)
        for wish in self._deferred:
            wish(call)

    def close(self, outcome: str) -> None:
        """The call never connected."""
        self.outcome = outcome
        if self._order is not None:
            self._order.settle(self._over())
