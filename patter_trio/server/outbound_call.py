"""The handle of a call that we have placed, and the block that ends with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import trio

from patter_trio.call.control import CallControl
from patter_trio.errors import CallEnded, PatterError
from patter_trio.phone_numbers import mask_number
from patter_trio.providers.misuse import CARRIED_OUT
from patter_trio.server.outbound import HANG_UP_TIMEOUT_S, Dialler
from patter_trio.server.placed import PlacedCall

# A hang-up waits 10 s at most for the current speech (``conversation/policy.py``).
SPEECH_TIMEOUT_S: Final = 12.0
"""Seconds for the current speech at the end of a block of ``phone.dial``."""
# A live call ends within one second.
END_TIMEOUT_S: Final = HANG_UP_TIMEOUT_S + 1.0
"""Seconds that the end of a block of ``phone.dial`` may take when it is cancelled."""


class OutboundCall:
    """A call that :meth:`Patter.call` or :meth:`Patter.dial` has placed."""

    # Closed to other attributes, like CallControl: an application keeps its own values in data.
    __slots__ = ("_dialler", "_info", "_placed", "control")

    def __init__(self, dialler: Dialler, placed: PlacedCall) -> None:
        # Both are there as soon as the id is known, unless the server was closed meanwhile.
        if placed.info is None or placed.control is None:
            raise PatterError(
                f"the call to {mask_number(placed.request.to)} was ended: the server was closed meanwhile"
            )
        self._dialler = dialler
        self._placed = placed
        self._info = placed.info
        self.control: CallControl = placed.control
        """The control of the call: the object that callbacks receive as ``call_control``."""

    def __repr__(self) -> str:
        state = self.outcome or (
            "live" if self._placed.is_live else "answered" if self._placed.is_answered else "rings"
        )
        return f"<OutboundCall {self.call_id}, {state}>"

    @property
    def call_id(self) -> str:
        """The carrier's id of the call."""
        return self._info.call_id

    @property
    def to(self) -> str:
        """The number that was called, E.164."""
        return self._info.callee

    @property
    def data(self) -> dict[str, Any]:
        """The application's own values for this call."""
        return self.control.data

    @property
    def outcome(self) -> str:
        """The outcome of the call; empty while it rings or lives."""
        return self._placed.outcome

    async def answered(self) -> bool:
        """Wait until somebody has answered and both sides can talk, and return True; return False if none has.

        A machine that answers counts, too.
        """
        await self._placed.talking.wait()
        return self._placed.is_live

    async def ended(self) -> str:
        """Wait for the end of the call, and return its outcome.

        One of ``completed``, ``caller_hung_up`` (the person who was called), ``agent_hung_up``, ``transferred``,
        ``voicemail``, ``no_answer``, ``busy``, ``rejected``, ``failed`` and ``cancelled``.
        """
        await self._placed.over.wait()
        return self._placed.outcome

    def say(self, text: str, *, interruptible: bool = True, interrupt: bool = False) -> None:
        """Make the agent say ``text``, as :meth:`CallControl.say` does; before the answer, as soon as there is one.

        Raises:
            CallEnded: the call is over.
            ConfigurationError: (a ``ValueError``) the text is not a string.
        """
        return self.control.say(text, interruptible=interruptible, interrupt=interrupt)

    def hang_up(self) -> None:
        """End the call: at once while it rings, else as :meth:`CallControl.hang_up` does. Again, it changes nothing.

        Raises:
            CallEnded: the call is over, and was not cancelled while it rang.
        """
        if self._placed.outcome != "cancelled":
            self.control.hang_up()
        return CARRIED_OUT


@asynccontextmanager
async def ended_with_block(call: OutboundCall) -> AsyncIterator[OutboundCall]:
    """End a call with the block: after the current speech, or at once if the block fails or is cancelled."""
    dialler, placed = call._dialler, call._placed  # noqa: SLF001 (same module: applications must not see them)
    try:
        yield call
        with suppress(CallEnded), trio.move_on_after(SPEECH_TIMEOUT_S):
            call.hang_up()
            await placed.over.wait()
    finally:
        dialler.cancel(placed, "the block of dial() has ended")
        # Shielded, within its limit: nobody else ends the call of a block that is cancelled.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + END_TIMEOUT_S):
            await placed.over.wait()
            await placed.released.wait()
