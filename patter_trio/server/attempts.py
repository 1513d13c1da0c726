"""The wrong tokens of each peer, at the login and as ``Authorization: Bearer``. Pure: time is an argument.

A token counts as wrong from the begin of its look-up on, and is taken back if it was right. Otherwise, many guesses at
once would all pass before the first of them counts.
"""

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


@attrs.frozen
class Attempt:
    """A token that is about to be compared.

    Attributes:
        delay_s: the seconds that it must wait before; 0: it is compared at once, without an await in between.
    """

    delay_s: float
    _all: dict[str, _Wrong] = attrs.field(repr=False)
    _peer: str = attrs.field(repr=False)
    _began: float = attrs.field(repr=False)

    @property
    def is_late(self) -> bool:
        """True if the peer had shown too many wrong tokens before."""
        return self.delay_s > 0

    def was_right(self) -> None:
        """Take it back."""
        wrong = self._all.get(self._peer)
        # Not from those of a later minute.
        if wrong is not None and wrong.began == self._began:
            wrong.number -= 1
            if wrong.number <= 0:
                del self._all[self._peer]


class LoginAttempts:
    """The wrong tokens of each peer. Time is an argument."""

    def __init__(self) -> None:
        self._wrong: dict[str, _Wrong] = {}

    def __repr__(self) -> str:
        return f"<LoginAttempts of {len(self._wrong)} peers>"

    def begin(self, peer: str, now: float) -> Attempt:
        """Count a token as wrong before it is compared.

        No peer is refused: behind a proxy, all have one address.
        """
        key = self._key(peer, now)
        wrong = self._wrong.setdefault(key, _Wrong())
        if now - wrong.began >= ATTEMPTS_S:
            wrong.began, wrong.number = now, 0
        delay_s = DELAY_S if wrong.number >= MAX_ATTEMPTS else 0.0
        wrong.number += 1
        return Attempt(delay_s, self._wrong, key, wrong.began)

    def _key(self, peer: str, now: float) -> str:
        if peer not in self._wrong and len(self._wrong) >= MAX_PEERS:
            for old in [key for key, wrong in self._wrong.items() if now - wrong.began >= ATTEMPTS_S]:
                del self._wrong[old]
        return peer if peer in self._wrong or len(self._wrong) < MAX_PEERS else ""
