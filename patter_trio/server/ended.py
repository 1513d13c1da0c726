"""The ids of ended calls, which are not accepted again. Time is an argument everywhere.

A carrier never uses an id twice. A voice webhook for a call that is over is therefore a repetition: a late one of the
carrier, or one that somebody captured, since its signature has no date and stays right for ever.
"""

from typing import Final

# Judged: Twilio's calls last a day at most, and a webhook that was captured should not work on the next morning.
REMEMBERED_S: Final = 24 * 3600.0
"""Seconds for which an ended call's id is remembered."""
# Judged: more than one call a second, all day; about 15 MB. Beyond it the oldest ids are forgotten first.
MAX_REMEMBERED_IDS: Final = 100_000
"""Largest number of ids that are remembered."""


class EndedCalls:
    """The ids of the calls of one server that are over.

    Args:
        limit: the largest number of ids; beyond it, the oldest is forgotten.
    """

    def __init__(self, *, limit: int = MAX_REMEMBERED_IDS) -> None:
        # Oldest first, since a dict keeps the order of insertion.
        self._ended: dict[str, float] = {}
        self._limit = limit

    def __repr__(self) -> str:
        return f"<EndedCalls {len(self._ended)} of {self._limit}>"

    def __len__(self) -> int:
        return len(self._ended)

    def add(self, call_id: str, now: float) -> None:
        """Remember that a call is over, and forget what is too old; an id that is known keeps its instant."""
        # Only from the front: the cost of one call is the ids that fall due with it.
        for oldest in self._due(now):
            del self._ended[oldest]
        if call_id not in self._ended:
            self._ended[call_id] = now

    def _due(self, now: float) -> list[str]:
        due: list[str] = []
        for call_id, at in self._ended.items():
            if now - at < REMEMBERED_S and len(self._ended) - len(due) < self._limit:
                break
            due.append(call_id)
        return due

    def remembers(self, call_id: str, now: float) -> bool:
        """Return True if the call has ended within the last :data:`REMEMBERED_S` seconds."""
        at = self._ended.get(call_id)
        return at is not None and now - at < REMEMBERED_S
