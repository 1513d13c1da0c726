"""An announced call whose media has not begun: what ``on_call_start(event, call_control)`` steers.

Commands are carried out when the call connects. A call that never connects drops them and is over.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from patter_trio.abc import CallInfo
from patter_trio.call.control import CallControl, ControlledCall, connect_control
from patter_trio.call.transfers import TransferRequest
from patter_trio.errors import CallEnded, PatterError, ProviderError
from patter_trio.events.payloads import INITIAL_STATE, ConversationStateSnapshot
from patter_trio.metrics.results import CallMetrics
from patter_trio.phone_numbers import checked_destination

MAX_DEFERRED_COMMANDS: Final = 64
"""Commands that wait for the connection; it takes a second or two, so more are a mistake."""


class ConnectedCall(ControlledCall, Protocol):
    """A call that has connected, and carries out what was asked of the announced one."""

    def place_transfer(self, order: TransferRequest) -> None:
        """Carry out an order that was made before the call connected."""


class PendingControl:
    """A call before it connects, as its :attr:`control` sees it.

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
        self._deferred: list[Callable[[ConnectedCall], object]] = []
        self._order: TransferRequest | None = None

    def __repr__(self) -> str:
        return f"<PendingControl {self.info.call_id}{f', {self.outcome}' if self.outcome else ''}>"

    @property
    def conversation_state(self) -> ConversationStateSnapshot:
        """That of a call that has not begun."""
        return ConversationStateSnapshot(user=INITIAL_STATE["user"], agent=INITIAL_STATE["agent"])

    @property
    def turn_idx(self) -> int:
        """Zero: the caller has said nothing yet."""
        return 0

    @property
    def metrics(self) -> CallMetrics | None:
        """None: nothing has been measured yet."""
        return None

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
        self._defer(lambda call: call.place_transfer(order))
        self._order = order
        return order

    def _defer(self, command: Callable[[ConnectedCall], object]) -> None:
        if self.outcome:
            raise self._over()
        if len(self._deferred) == MAX_DEFERRED_COMMANDS:
            raise PatterError(
                f"call {self.info.call_id} has not connected, and {MAX_DEFERRED_COMMANDS} commands already wait for it"
            )
        self._deferred.append(command)

    def _over(self) -> CallEnded:
        return CallEnded(f"call {self.info.call_id} is over ({self.outcome})")

    def connect(self, call: ConnectedCall) -> None:
        """Have :attr:`control` steer ``call`` from here on, and carry out the deferred commands."""
        connect_control(self.control, call)
        for command in self._deferred:
            command(call)

    def close(self, outcome: str) -> None:
        """End a call that never connected."""
        self.outcome = outcome
        if self._order is not None:
            self._order.settle(self._over())
