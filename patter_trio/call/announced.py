"""An announced call whose media stream has not begun: the call that ``on_call_start(event, call_control)`` controls.

Commands are deferred until the call connects. If the call never connects, they are dropped and the call is over.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from patter_trio.abc import CallInfo
from patter_trio.call.control import CallControl, ControlledCall, connect_control
from patter_trio.call.output.digits import DigitsRequest
from patter_trio.call.transfer_request import TransferRequest
from patter_trio.errors import CallEnded, PatterError, ProviderError
from patter_trio.events.payloads import INITIAL_STATE, ConversationStateSnapshot
from patter_trio.metrics.results import CallMetrics

# Judged: callbacks that get the control this early give a command or two.
MAX_DEFERRED_COMMANDS: Final = 64
"""Commands that may wait for the connection. It takes a second or two, so more than that are a mistake."""


class ConnectedCall(ControlledCall, Protocol):
    """A connected call, which carries out the commands given to the announced one."""

    def exit(self, why: str) -> None:
        """End the call, because code of the application raised SystemExit for it."""


class PendingControl:
    """The state of a call before it connects; :attr:`control` forwards to it until then.

    Args:
        info: the facts of the call.
        cancel: ends a call that we placed and nobody has answered; returns False if somebody has.
    """

    def __init__(self, info: CallInfo, cancel: Callable[[], bool] = lambda: False) -> None:
        self.info: CallInfo = info
        self.data: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.outcome: str = ""
        self.control: CallControl = CallControl(self)
        """The application's control of the call. It stays the same object when the call connects."""
        self._cancel = cancel
        self._deferred: list[Callable[[ConnectedCall], object]] = []
        self._order: TransferRequest | None = None
        self._digits: list[DigitsRequest] = []

    def __repr__(self) -> str:
        return f"<PendingControl {self.info.call_id}{f', {self.outcome}' if self.outcome else ''}>"

    @property
    def conversation_state(self) -> ConversationStateSnapshot:
        """The state of a call that has not begun."""
        return ConversationStateSnapshot(user=INITIAL_STATE["user"], agent=INITIAL_STATE["agent"])

    @property
    def turn_idx(self) -> int:
        """Zero, because the caller has said nothing yet."""
        return 0

    @property
    def metrics(self) -> CallMetrics | None:
        """None, because nothing has been measured yet."""
        return None

    @property
    def silence(self) -> float:
        """Zero, because nobody can have spoken yet."""
        return 0.0

    def say(self, text: str, *, interruptible: bool = True, interrupt: bool = False) -> None:
        """Make the agent say ``text`` when the call has begun, before its first message.

        Raises:
            CallEnded: the call never connected.
        """
        self._defer(lambda call: call.say(text, interruptible=interruptible, interrupt=interrupt))

    def hang_up(self) -> None:
        """End the call: at once if we placed it and nobody has answered, else as soon as it connects.

        Raises:
            CallEnded: the call never connected.
        """
        if not self.outcome and self._cancel():
            return
        self._defer(lambda call: call.hang_up())

    def send_digits(self, order: DigitsRequest) -> None:
        """Send DTMF digits as soon as the call has connected, before its first message.

        Raises:
            CallEnded: the call never connected.
        """
        # Deferred before it is stored: a refused command must not leave a request behind.
        self._defer(lambda call: call.send_digits(order))
        self._digits.append(order)

    def send_text(self, text: str) -> None:
        """Take ``text`` as a message of the caller's as soon as the call has connected.

        Raises:
            CallEnded: the call never connected.
        """
        self._defer(lambda call: call.send_text(text))

    def place_transfer(self, order: TransferRequest) -> None:
        """Request a transfer, as :meth:`Transfers.place` does; it starts after the call has connected.

        Raises:
            ProviderError: a transfer has already been requested.
            CallEnded: the call never connected.
        """
        # Checked here as well as in Transfers: a second request must fail now, not when the call connects.
        if self._order is not None:
            raise ProviderError(f"call {self.info.call_id} is being transferred already")
        # Deferred before it is stored: a refused command must not leave a request behind.
        self._defer(lambda call: call.place_transfer(order))
        self._order = order

    def exit(self, why: str) -> None:
        """End the call as soon as it connects, because code of the application raised SystemExit for it."""
        if self.outcome:
            return
        # Instead of whatever else was asked for, and beyond the bound: this call ends.
        self._deferred = [lambda call: call.exit(why)]
        self._settle(CallEnded(f"call {self.info.call_id} ends: {why}"))

    def _settle(self, error: CallEnded) -> None:
        """End what tasks of the application may wait for: it does not happen any more."""
        for order in (*self._digits, *(() if self._order is None else (self._order,))):
            order.settle(error)

    def _defer(self, command: Callable[[ConnectedCall], object]) -> None:
        if self.outcome:
            raise self._over()
        # An error for the application rather than a dropped command: it would wait for something that never happens.
        if len(self._deferred) == MAX_DEFERRED_COMMANDS:
            raise PatterError(
                f"call {self.info.call_id} has not connected, and {MAX_DEFERRED_COMMANDS} commands already wait for it"
            )
        self._deferred.append(command)

    def _over(self) -> CallEnded:
        return CallEnded(f"call {self.info.call_id} is over ({self.outcome})")

    def connect(self, call: ConnectedCall) -> None:
        """Connect :attr:`control` to the live call, and carry out the deferred commands in order."""
        # First, so that a command given from here on goes to the live call and is not deferred.
        connect_control(self.control, call)
        # In one plain function, and in the session's constructor: no other task can give a command in between.
        for command in self._deferred:
            command(call)

    def close(self, outcome: str) -> None:
        """End a call that never connected."""
        self.outcome = outcome
        self._settle(self._over())
