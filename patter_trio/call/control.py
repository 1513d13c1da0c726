"""What callbacks, tools, ``on_message`` and ``phone.calls`` hand out: the call, as far as the application may steer it."""

from typing import Any, Protocol

from patter_trio.abc import CallInfo
from patter_trio.call.transfers import TransferRequest
from patter_trio.events.payloads import ConversationStateSnapshot
from patter_trio.metrics.results import CallMetrics


class ControlledCall(Protocol):
    """A call as :class:`CallControl` uses it: a live one, or one that is announced and has not begun."""

    data: dict[str, Any]

    @property
    def info(self) -> CallInfo:
        """The facts of the call."""

    @property
    def history(self) -> list[dict[str, Any]]:
        """The conversation so far; a copy."""

    @property
    def conversation_state(self) -> ConversationStateSnapshot:
        """The public states at this moment."""

    @property
    def turn_idx(self) -> int:
        """The number of the caller's utterances that are over."""

    @property
    def metrics(self) -> CallMetrics | None:
        """What has been measured so far."""

    @property
    def outcome(self) -> str:
        """How the call ended; empty while it lives."""

    def say(self, text: str, *, interruptible: bool = True, interrupt: bool = False) -> None:
        """Have the agent say ``text``."""

    def hang_up(self) -> None:
        """End the call after the current speech was played."""

    def request_transfer(self, to: str, error_message: str | None) -> TransferRequest:
        """Order a transfer to ``to``, and return the order."""


class CallControl:
    """One call, steered from callbacks, tools, ``on_message`` and ``phone.calls``: speak, hang up, transfer, remember.

    The application may keep it and use it from other tasks for as long as the call lives. Two calls never share one.
    """

    __slots__ = ("_call", "_hung_up")

    def __init__(self, call: ControlledCall) -> None:
        self._call = call
        self._hung_up = False

    def __repr__(self) -> str:
        return f"<CallControl {self.call_id}{', ended' if self.ended else ''}>"

    @property
    def call_id(self) -> str:
        """The carrier's id of the call."""
        return self._call.info.call_id

    @property
    def caller(self) -> str:
        """The number that calls, E.164."""
        return self._call.info.caller

    @property
    def callee(self) -> str:
        """The number that is called, E.164."""
        return self._call.info.callee

    @property
    def direction(self) -> str:
        """``inbound`` or ``outbound``."""
        return self._call.info.direction

    @property
    def telephony_provider(self) -> str:
        """The carrier's name, as in ``on_call_start``."""
        return self._call.info.provider

    @property
    def custom_params(self) -> dict[str, str]:
        """The parameters that came with the call; a copy."""
        return dict(self._call.info.custom_params)

    @property
    def data(self) -> dict[str, Any]:
        """The application's own values for this call."""
        return self._call.data

    @property
    def history(self) -> list[dict[str, Any]]:
        """The conversation so far, the newest 200 entries: role, text (of the agent's what was heard) and timestamp."""
        return self._call.history

    @property
    def conversation_state(self) -> ConversationStateSnapshot:
        """``{"user": ..., "agent": ...}`` at this moment."""
        return self._call.conversation_state

    @property
    def turn_idx(self) -> int:
        """The number of the caller's utterances that are over."""
        return self._call.turn_idx

    @property
    def metrics(self) -> CallMetrics | None:
        """What has been measured so far; the final figures once the call is over.

        None before the call connects, and if measuring failed.
        """
        return self._call.metrics

    @property
    def outcome(self) -> str:
        """How the call ended; empty while it lives."""
        return self._call.outcome

    @property
    def ended(self) -> bool:
        """Whether the call is over, or was hung up here."""
        return self._hung_up or bool(self.outcome)

    def say(self, text: str, *, interruptible: bool = True, interrupt: bool = False) -> None:
        """Have the agent say ``text``: behind the reply that is being made, or instead of it with ``interrupt``.

        With ``interrupt`` the running ``on_message`` is cancelled, for its reply is over.

        Raises:
            CallEnded: the call is over.
        """
        self._call.say(text, interruptible=interruptible, interrupt=interrupt)

    def hang_up(self) -> None:
        """End the call after what is being said, and what this ``on_message`` returns, was played (10 s at most).

        Raises:
            CallEnded: the call is over.
        """
        self._call.hang_up()
        self._hung_up = True

    async def transfer(self, to: str, *, error_message: str | None = None, wait: bool = False) -> None:
        """Connect the caller with ``to``, after what is being said, and what this ``on_message`` returns, was played.

        It returns at once. The call ends by it, with the outcome ``transferred``. Until then nothing new is said, and
        nothing can be interrupted (10 s at most). If the carrier does not do it, the caller hears so, the log says why,
        and the call goes on.

        Args:
            to: a number in E.164, such as ``+15550100003``, or a SIP address, such as ``sip:desk@example.com``.
            error_message: what the caller hears if it fails; default: the agent's; empty: nothing.
            wait: return when the carrier has taken it, and raise if it does not. Not for ``on_message``, which would
                wait for its own reply.

        Raises:
            ConfigurationError: (a ``ValueError``) that is neither; or (with ``wait``) the carrier transfers no calls.
            CallEnded: the call is over, or (with ``wait``) was before it was transferred.
            ProviderError: a transfer is under way already, or (with ``wait``) the carrier did not do it.
        """
        order = self._call.request_transfer(to, error_message)
        if wait:
            await order.accepted()

    async def hangup(self) -> None:
        """Do as :meth:`hang_up`, under the name and in the form that programs for ``getpatter`` use.

        Raises:
            CallEnded: the call is over.
        """
        self.hang_up()


def connect_control(control: CallControl, call: ControlledCall) -> None:
    """Have ``control`` steer ``call`` from here on: the announced call has connected."""
    control._call = call  # noqa: SLF001 (same module: applications must not see this)
