"""The control of one call that callbacks, tools, ``on_message`` and ``phone.calls`` give to the application."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import trio

from patter_trio.abc import CallInfo
from patter_trio.agent.warm_transfer import WarmTransfer
from patter_trio.call.output.digits import DigitsRequest, digits_request
from patter_trio.call.transfer_request import TransferRequest, transfer_request
from patter_trio.errors import CallEnded, ConfigurationError
from patter_trio.events.payloads import ConversationStateSnapshot
from patter_trio.metrics.results import CallMetrics
from patter_trio.providers.misuse import CARRIED_OUT

# A protocol instead of the session's class: control.py stands below session.py and announced.py, which both
# satisfy it, and imports point down.
T = TypeVar("T")


class ControlledCall(Protocol):
    """A call to which :class:`CallControl` forwards: a live one, or an announced one that has not begun."""

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
        """The metrics measured so far."""

    @property
    def silence(self) -> float:
        """The seconds since either side spoke."""

    @property
    def outcome(self) -> str:
        """The outcome of the call; empty while it lives."""

    def say(self, text: str, *, interruptible: bool = True, interrupt: bool = False) -> None:
        """Make the agent say ``text``."""

    def hang_up(self) -> None:
        """End the call after the current speech was played."""

    def place_transfer(self, order: TransferRequest) -> None:
        """Carry out a transfer."""

    def send_digits(self, order: DigitsRequest) -> None:
        """Send DTMF digits after what the agent is saying."""

    def send_text(self, text: str) -> None:
        """Take ``text`` as a message of the caller's."""


class CallControl:
    """The control of one call: say a text, hang up, transfer, read the conversation, and keep data with the call.

    The application may keep it and use it from other tasks for as long as the call lives. Two calls never share one.
    In a worker thread (a plain tool, ``in_thread``) its methods are carried to the event loop, and return when it has
    carried them out; an async one is returned by the tool, or run by ``trio.from_thread.run``.
    """

    # Closed to other attributes: an application keeps its own values in data, and a misspelt one must not vanish here.
    __slots__ = ("_call", "_hung_up", "_loop")

    def __init__(self, call: ControlledCall) -> None:
        self._call = call
        self._hung_up = False
        # None outside a trio run, as in a test: then nothing is carried.
        self._loop = trio.lowlevel.current_trio_token() if trio.lowlevel.in_trio_run() else None

    def __repr__(self) -> str:
        return f"<CallControl {self.call_id}{', ended' if self.ended else ''}>"

    @property
    def call_id(self) -> str:
        """The carrier's id of the call."""
        return self._call.info.call_id

    @property
    def caller(self) -> str:
        """The caller's number, E.164."""
        return self._call.info.caller

    @property
    def callee(self) -> str:
        """The called number, E.164."""
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
        # Copied, because all tasks of the call share one CallInfo, which is frozen.
        return dict(self._call.info.custom_params)

    @property
    def data(self) -> dict[str, Any]:
        """The application's own values for this call."""
        return self._call.data

    @property
    def history(self) -> list[dict[str, Any]]:
        """The conversation so far, the newest 200 entries: role, text (of the agent: as heard) and timestamp."""
        return self._carried(lambda: self._call.history)

    @property
    def conversation_state(self) -> ConversationStateSnapshot:
        """``{"user": ..., "agent": ...}`` at this moment."""
        return self._carried(lambda: self._call.conversation_state)

    @property
    def turn_idx(self) -> int:
        """The number of the caller's utterances that are over."""
        return self._call.turn_idx

    @property
    def metrics(self) -> CallMetrics | None:
        """The metrics measured so far; the final figures once the call is over.

        None before the call connects, and if measuring failed.
        """
        return self._carried(lambda: self._call.metrics)

    @property
    def silence(self) -> float:
        """The seconds for which nobody has spoken or pressed a key; 0 while somebody speaks or the agent thinks."""
        return self._carried(lambda: self._call.silence)

    @property
    def outcome(self) -> str:
        """The outcome of the call; empty while it lives."""
        return self._call.outcome

    @property
    def ended(self) -> bool:
        """True if the call is over, or was hung up through this control."""
        return self._hung_up or bool(self.outcome)

    def say(self, text: str, *, interruptible: bool = True, interrupt: bool = False) -> None:
        """Make the agent say ``text``: after the current reply, or instead of it with ``interrupt``.

        With ``interrupt``, a running ``on_message`` is cancelled, because its reply is over.

        Raises:
            CallEnded: the call is over.
            ConfigurationError: (a ``ValueError``) the text is not a string.
            PatterError: 256 texts already wait to be spoken.
        """
        # Else the caller would hear silence, and only the log would know.
        if not isinstance(text, str):
            raise ConfigurationError(f"text must be a string, got {text!r}")
        self._carried(lambda: self._call.say(text, interruptible=interruptible, interrupt=interrupt))
        return CARRIED_OUT

    def send_text(self, text: str) -> None:
        """Give the agent a text as a message of the caller's, which it answers like spoken words.

        The turn is over at once, with whatever the caller said before; a reply that is being spoken is cut, as by a
        key.

        Raises:
            CallEnded: the call is over.
            ConfigurationError: (a ``ValueError``) the text is blank.
        """
        if not isinstance(text, str) or not text.strip():
            raise ConfigurationError(f"text must be a string that is not blank, got {text!r}")
        self._carried(lambda: self._call.send_text(" ".join(text.split())))
        return CARRIED_OUT

    def hang_up(self) -> None:
        """End the call after the current speech and the text that this ``on_message`` returns (10 s at most).

        Raises:
            CallEnded: the call is over.
        """
        self._carried(self._call.hang_up)
        # After the command, which raises if the call is over.
        self._hung_up = True
        return CARRIED_OUT

    def _carried(self, command: Callable[[], T]) -> T:
        """Carry out a command on the event loop, and return its result; from a thread, wait for it."""
        # The state of a call belongs to the event loop: from another thread, a command would run in the middle of a
        # step of it.
        loop = trio.lowlevel.current_trio_token() if trio.lowlevel.in_trio_run() else None
        if self._loop is None or loop is self._loop:
            return command()
        try:
            return trio.from_thread.run_sync(command, trio_token=self._loop)
        except trio.RunFinishedError as error:
            raise CallEnded(f"call {self.call_id} is over: its server has stopped") from error

    async def transfer(
        self,
        to: str,
        *,
        warm: WarmTransfer | None = None,
        error_message: str | None = None,
        wait: bool = False,
    ) -> None:
        """Transfer the caller to ``to``, after the current speech and the text that this ``on_message`` returns.

        The method returns at once, and the call ends with the outcome ``transferred``. Until then the agent says
        nothing new and cannot be interrupted (10 s at most). If the transfer fails, the agent says ``error_message``,
        the log has the reason, and the call goes on.

        A warm transfer calls the person first. The caller hears a hold sound until the person has pressed a key; then
        both hear each other, or the caller is taken back.

        Args:
            to: a number in E.164, such as ``+15550100003``, or a SIP address, such as ``sip:desk@example.com``;
                of a warm transfer, a number.
            warm: what the person hears, and the other options of a warm transfer; None: the carrier connects the caller
                at once.
            error_message: the text that the agent says if the transfer fails. Default: the agent's
                ``error_message``, or that nobody can take the call; empty: nothing.
            wait: return when the carrier, or the person, has accepted the transfer, and raise if not. Do not use it in
                ``on_message``, which would wait for its own reply.

        Raises:
            ConfigurationError: (a ``ValueError``) ``to`` is neither; or (with ``wait``) the carrier cannot transfer.
            CallEnded: the call is over, or (with ``wait``) ended before it was transferred.
            TransferError: (with ``wait``) nobody took a warm transfer; its ``reason`` says why.
            ProviderError: a transfer is already under way, or (with ``wait``) the carrier did not accept it.
        """
        order = transfer_request(to, warm, error_message)
        self._call.place_transfer(order)
        # The request lives in the call: cancelling this wait, with the application's task,
        # does not withdraw the transfer.
        if wait:
            await order.accepted()

    async def send_dtmf(self, digits: str, *, delay_ms: int = 100, wait: bool = False) -> None:
        """Send DTMF digits to the other side, after the current speech and the text that this ``on_message`` returns.

        The method returns at once. The caller cannot interrupt the digits, and what the agent says next follows them.
        The carrier sends them if it can; otherwise they are played as tones of 100 ms.

        Args:
            digits: 0-9, ``*``, ``#`` and A-D, with ``w`` for a pause of 0.5 s and ``W`` for one of 1 s: ``"1w1234#"``;
                at most 64 in all.
            delay_ms: milliseconds of silence behind each tone; a carrier that sends the digits itself has its own.
            wait: return when the last digit was sent, and raise if the carrier does not send them. Do not use it in
                ``on_message`` or in a tool, which would wait for their own reply.

        Raises:
            ConfigurationError: (a ``ValueError``) ``digits`` has something else, or ``delay_ms`` is not 1 to 2000.
            CallEnded: the call is over, or (with ``wait``) ended before they were sent.
            ProviderError: (with ``wait``) the carrier did not send them.
        """
        order = digits_request(digits, delay_ms)
        self._carried(lambda: self._call.send_digits(order))
        if wait:
            await order.sent()

    async def hangup(self) -> None:
        """Hang up like :meth:`hang_up`; the name and the async form are those of ``getpatter``.

        Raises:
            CallEnded: the call is over.
        """
        self.hang_up()


def connect_control(control: CallControl, call: ControlledCall) -> None:
    """Make ``control`` forward to ``call`` from here on, because the announced call has connected."""
    control._call = call  # noqa: SLF001 (same module: applications must not see this)
