"""Ends calls that the carrier does not end with their stream: without a request, their callers would hear silence.

Some carriers never do so; and none does if the stream never began, or was lost, and with it the close that says that
the call is over.
"""

import logging
from collections.abc import Callable
from typing import Final

import attrs
import trio

from patter_trio.abc import Carrier
from patter_trio.errors import AuthenticationError, CallEnded, ConfigurationError, PatterError
from patter_trio.server.carrier_border import carrier_border

# Judged: a request has 4 s (``carriers/rest.py``). A server that is being cancelled waits for it, as it does 5 s for
# the last callbacks.
HANG_UP_TIMEOUT_S: Final = 5.0
"""Seconds within which the carrier must have taken the hang-up."""
# Judged: one lost connection, or a refusal that asks for fewer requests.
RETRY_WAIT_S: Final = 0.5
"""Seconds between two requests to end the same call. To end a call twice is harmless."""

_log = logging.getLogger("patter_trio.call")


@attrs.frozen
class HangUps:
    """The hang-ups of one server.

    Args:
        carrier: ends the calls.
        nursery: runs the requests; it outlives the calls.
    """

    carrier: Carrier
    nursery: trio.Nursery = attrs.field(repr=False)

    def end(self, call_id: str, *, is_lost: bool = False) -> bool:
        """End a call in the background, if the end of its stream has not ended it already; return False if it has.

        A stream that ``is_lost``, or never began, has told the carrier nothing, whatever the carrier does at the end of
        one.
        """
        if self.carrier.ends_with_stream and not is_lost:
            return False
        self.nursery.start_soon(self._end, call_id)
        return True

    def once(self, call_id: str, is_lost: Callable[[], bool]) -> Callable[[], None]:
        """Return a function that ends a call, however often it is called."""
        asked = False

        def end() -> None:
            nonlocal asked
            # Also again: the call may have lost its stream since.
            if not asked:
                asked = self.end(call_id, is_lost=is_lost())

        return end

    async def _end(self, call_id: str) -> None:
        # Shielded, because a server that is being cancelled must not leave its callers in silence.
        with trio.move_on_after(HANG_UP_TIMEOUT_S, shield=True) as scope:
            while True:
                try:
                    with carrier_border(self.carrier, call_id):
                        await self.carrier.hang_up(call_id)
                except CallEnded:
                    return
                except ConfigurationError as error:
                    # A carrier that ends no calls by request, such as that of this machine.
                    _log.info("call %s: no hang-up: %s", call_id, error)
                    return
                except PatterError as error:
                    _log.warning("call %s: hang-up failed: %s", call_id, error)
                    # Refused credentials stay refused.
                    if isinstance(error, AuthenticationError):
                        return
                else:
                    return
                await trio.sleep(RETRY_WAIT_S)
        if scope.cancelled_caught:
            _log.error(
                "call %s: the carrier did not take the hang-up within %g s; the call may go on without an agent",
                call_id,
                HANG_UP_TIMEOUT_S,
            )
