"""The failover of one call: if the agent fails, the caller is handed over to a person, if the agent names one."""

import logging
from typing import Final

from patter_trio.agent.agent import Agent
from patter_trio.call.transfer_request import transfer_request
from patter_trio.call.transfers import Transfers
from patter_trio.errors import ProviderError
from patter_trio.phone_numbers import mask_number

# Judged: once may be an accident of a vendor; a caller who hears it twice in a row will not try a third time.
MAX_FAILED_REPLIES: Final = 2
"""Failed replies in a row after which the caller is handed over to the agent's ``on_failure``."""

_log = logging.getLogger("patter_trio.call")


class Failover:
    """The count of failed replies, and the transfer to the agent's ``on_failure``."""

    def __init__(self, call_id: str, transfers: Transfers) -> None:
        self._call_id = call_id
        self._transfers = transfers
        self._failed_replies = 0
        """Failed replies in a row."""

    def __repr__(self) -> str:
        return f"<Failover of {self._call_id}, {self._failed_replies} failed replies in a row>"

    def hand_over(self, agent: Agent) -> bool:
        """Request the transfer to a person that the agent names for failures; return False without one.

        Raises:
            CallEnded: the call is over.
        """
        destination = agent.failure_destination
        if not destination:
            return False
        try:
            # Nothing is said if it fails: the caller has just heard that something went wrong.
            self._transfers.place(transfer_request(destination, None, ""))
        # The caller is being connected already.
        except ProviderError:
            return False
        _log.warning("call %s: handing the caller over to %s", self._call_id, mask_number(destination))
        return True

    def reply_finished(self) -> None:
        """Count from zero again, because an answer was played to its end."""
        self._failed_replies = 0

    def reply_failed(self, agent: Agent) -> None:
        """Count a failed reply, and hand the caller over after :data:`MAX_FAILED_REPLIES` in a row.

        Raises:
            CallEnded: the call is over.
        """
        self._failed_replies += 1
        # Once, at the number: if the transfer fails, the next failure is only one more.
        if self._failed_replies == MAX_FAILED_REPLIES:
            self.hand_over(agent)
