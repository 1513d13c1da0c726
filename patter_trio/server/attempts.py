"""The wrong tokens of each peer, at the login and as ``Authorization: Bearer``. Pure: time is an argument."""

import math
from typing import Final

import attrs

# Judged: nobody mistypes a pasted token more often.
MAX_ATTEMPTS: Final = 5
"""Wrong tokens of one peer within :data:`ATTEMPTS_S` from which on each of its tokens waits."""
ATTEMPTS_S: Final = 60.0
"""Seconds for which wrong tokens count."""
# Judged, as for refusals: beyond it, all others count as one peer.
MAX_PEERS: Final = 256
"""Most peers whose wrong tokens are counted by themselves."""
# Judged: a person hardly notices it; together with the bound on unproven connections it keeps guessing slow.
DELAY_S: Final = 2.0
"""Seconds that a token waits before it is compared, the right one too: else its quick answer would tell."""


@attrs.define
class _Wrong:
    began: float = -math.inf
    number: int = 0


class LoginAttempts:
    """The wrong tokens of each peer. Time is an argument."""

    def __init__(self) -> None:
        self._wrong: dict[str, _Wrong] = {}

    def __repr__(self) -> str:
        return f"<LoginAttempts of {len(self._wrong)} peers>"

    def delay(self, peer: str, now: float) -> float:
        """Return the seconds that a token of a peer must wait before it is compared.

        No peer is refused: behind a proxy, all have one address.
        """
        return DELAY_S if self.is_over(peer, now) else 0.0

    def is_over(self, peer: str, now: float) -> bool:
        """Return True if a peer has shown too many wrong tokens."""
        wrong = self._wrong.get(self._key(peer, now))
        return wrong is not None and wrong.number >= MAX_ATTEMPTS and now - wrong.began < ATTEMPTS_S

    def was_wrong(self, peer: str, now: float) -> None:
        """Count a wrong token."""
        wrong = self._wrong.setdefault(self._key(peer, now), _Wrong())
        if now - wrong.began >= ATTEMPTS_S:
            wrong.began, wrong.number = now, 0
        wrong.number += 1

    def _key(self, peer: str, now: float) -> str:
        if peer not in self._wrong and len(self._wrong) >= MAX_PEERS:
            for old in [key for key, wrong in self._wrong.items() if now - wrong.began >= ATTEMPTS_S]:
                del self._wrong[old]
        return peer if peer in self._wrong or len(self._wrong) < MAX_PEERS else ""
