"""A transfer that the application has requested, and its result."""

from typing import Any

import attrs
import trio

from patter_trio.agent.warm_transfer import WarmTransfer
from patter_trio.errors import ConfigurationError, PatterError
from patter_trio.phone_numbers import checked_destination, checked_number


@attrs.define(eq=False)
class TransferRequest:
    """A requested transfer, and its result."""

    to: str
    warm: WarmTransfer | None
    """The options of a warm transfer; None: a cold one."""
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


def transfer_request(to: Any, warm: Any, error_message: str | None) -> TransferRequest:
    """Return a request for a transfer.

    Raises:
        ConfigurationError: (a ``ValueError``) the destination or the options are not valid.
    """
    if warm is not None and not isinstance(warm, WarmTransfer):
        raise ConfigurationError(f"warm must be a WarmTransfer(...), got {warm!r}")
    if error_message is not None and not isinstance(error_message, str):
        raise ConfigurationError(f"error_message must be a string, or None for the agent's, got {error_message!r}")
    to = checked_destination(to) if warm is None else checked_number(to, "the destination of a warm transfer")
    return TransferRequest(to, warm, error_message)
