"""DTMF digits that a call sends: by a message of the carrier's stream, by its REST API, or as tones in the audio.

The turn machine decides when, as for a text: after what the agent is saying. They are a reply without words, which no
caller interrupts and no event reports.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import trio

from patter_trio.audio import dtmf, g711
from patter_trio.call.output.reply import Reply
from patter_trio.call.output.writer import CarrierWriter
from patter_trio.conversation import actions as do
from patter_trio.conversation import inputs
from patter_trio.conversation.digits import checked_digits, parted
from patter_trio.errors import CallEnded, ConfigurationError, PatterError, ProviderTimeout
from patter_trio.user_code.context import current_call

# Judged, as for a transfer: the carrier's own request gives up after 4 s.
SEND_TIMEOUT_S: Final = 5.0
"""Seconds that the carrier has to take a request for digits."""
# Judged: a longer one is a pause, which w and W are for.
MAX_GAP_MS: Final = 2000
"""Longest gap between two tones, in milliseconds."""

SendDigits = Callable[[str], Awaitable[bool]]
"""Asks the carrier to send digits; see ``Carrier.send_digits``."""
Post = Callable[[inputs.Input], None]

_log = logging.getLogger("patter_trio.call")


@attrs.define(eq=False)
class DigitsRequest:
    """Digits that the application wants sent, and the result."""

    digits: str = attrs.field(repr=False)  # may be a PIN
    gap_s: float
    error: PatterError | None = None
    """The failure; None if the digits were sent, and before ``over`` is set."""
    # Kept when set, so that a task which waits only afterwards learns the result, too.
    over: trio.Event = attrs.field(factory=trio.Event)

    def settle(self, error: PatterError | None) -> None:
        """Set the result, None for success, and wake the tasks that wait for it."""
        self.error = error
        self.over.set()

    async def sent(self) -> None:
        """Wait until the last digit was sent.

        Raises:
            CallEnded: the call ended before.
            PatterError: the carrier did not send them, and the call goes on.
        """
        await self.over.wait()
        if self.error is not None:
            raise self.error


def digits_request(digits: Any, delay_ms: Any) -> DigitsRequest:
    """Return a request for digits.

    Raises:
        ConfigurationError: the digits or the gap between them are invalid.
    """
    if isinstance(delay_ms, bool) or not isinstance(delay_ms, int) or not 0 < delay_ms <= MAX_GAP_MS:
        raise ConfigurationError(f"delay_ms must be 1 to {MAX_GAP_MS} milliseconds, got {delay_ms!r}")
    return DigitsRequest(checked_digits(digits), delay_ms / 1000)


class DigitsReply(Reply):
    """The reply that sends digits. It has no text, and no event tells of it."""

    def __init__(self, action: do.StartReply, order: DigitsRequest) -> None:
        super().__init__(action.reply, action.turn)
        self.order = order

    @property
    def waits_for(self) -> str:
        """The carrier, which is to send the digits."""
        return "the carrier"

    def ended(self, reason: str) -> None:
        """Settle the request, because all digits were sent, or the reply was cut for that reason."""
        if self.order.over.is_set():
            return
        error: PatterError | None = None
        if reason == "failed":
            error = ProviderTimeout("the digits were not sent in time")
        elif reason != "played":
            # Nothing but the end of the call cuts digits.
            error = CallEnded(f"call {current_call.get()} ended before all digits were sent ({reason})")
        self.order.settle(error)

    async def send(self, by_carrier: SendDigits, writer: CarrierWriter, post: Post) -> None:
        """Send the digits, and post the end."""
        parts = parted(self.order.digits)
        # As if the carrier had to be asked for each part, and took all its time.
        longest = sum(part if isinstance(part, float) else self._seconds(part) + SEND_TIMEOUT_S for part in parts)
        # Without audio, nothing else tells the turn machine that the reply is alive.
        post(inputs.Busy(self.number, trio.current_time() + longest))
        with self.scope:
            try:
                await self._send_parts(parts, by_carrier, writer)
            except PatterError as error:
                # Whatever the carrier's side raises by contract; anything else is a bug and ends the call.
                _log.warning("call %s: sending digits failed: %s", current_call.get(), error)
                self.order.settle(error)
            # Only of tones: digits that the carrier sends put nothing into the playout queue.
            if self.playout.put_samples:
                post(inputs.AudioArrived(self.number))
            self._all_made(writer, post)

    async def _send_parts(self, parts: list[str | float], by_carrier: SendDigits, writer: CarrierWriter) -> None:
        as_tones = False
        for part in parts:
            # Once as tones, always as tones: two ways with different delays could change the order of the digits.
            if not as_tones and isinstance(part, str):
                as_tones = not (writer.send_digits(part) or await self._asked(by_carrier, part))
            if as_tones:
                self.playout.put(self._tones(part))
            else:
                # The carrier does not say when it is done: what follows must not sound over the digits.
                await trio.sleep(part if isinstance(part, float) else self._seconds(part))

    async def _asked(self, by_carrier: SendDigits, digits: str) -> bool:
        try:
            with trio.fail_after(SEND_TIMEOUT_S):
                return await by_carrier(digits)
        except trio.TooSlowError as error:
            raise ProviderTimeout(f"the carrier did not answer within {SEND_TIMEOUT_S:g} s") from error

    def _seconds(self, digits: str) -> float:
        return len(digits) * (dtmf.TONE_S + self.order.gap_s)

    def _tones(self, part: str | float) -> bytes:
        if isinstance(part, float):
            return g711.silence(part)
        gap = g711.silence(self.order.gap_s)
        return b"".join(dtmf.tone(key) + gap for key in part)


class DigitsSender:
    """The digits that one call sends, one request after another.

    Args:
        call_id: the id of the call.
        by_carrier: asks the carrier.
        demand: posts an input; raises ``CallEnded`` if the call is over.
    """

    def __init__(self, call_id: str, by_carrier: SendDigits, demand: Callable[[inputs.Say], None]) -> None:
        self._call_id = call_id
        self._by_carrier = by_carrier
        self._demand = demand
        self._waiting: dict[int, DigitsRequest] = {}
        """The requests by number, until they are sent or the call is over."""
        self._count = 0

    def __repr__(self) -> str:
        return f"<DigitsSender {self._call_id}, {len(self._waiting)} requests>"

    def place(self, order: DigitsRequest) -> None:
        """Queue digits behind what the agent is saying.

        Raises:
            CallEnded: the call is over.
        """
        self._count += 1
        # Posted before it is stored: if the call is over, no request stays behind.
        self._demand(inputs.Say("", interruptible=False, digits=self._count))
        self._waiting[self._count] = order

    def start(self, action: do.StartReply, nursery: trio.Nursery, writer: CarrierWriter, post: Post) -> DigitsReply:
        """Begin to send the digits of a request."""
        reply = DigitsReply(action, self._waiting.pop(action.digits))
        nursery.start_soon(reply.send, self._by_carrier, writer, post)
        return reply

    def close(self, outcome: str) -> None:
        """End the requests that still wait, because the call is over."""
        waiting, self._waiting = self._waiting, {}
        for order in waiting.values():
            order.settle(CallEnded(f"call {self._call_id} was over before its digits were sent ({outcome})"))
