"""When to leave a server alone: the rule of a circuit breaker, without a clock. Time is an argument, in seconds.

=========  =========================================  ==================================================================
state      a request                                  it becomes
=========  =========================================  ==================================================================
closed     is let through                             open, after :data:`MAX_FAILURES` failures with no success between them
open       is refused                                 half open, when :data:`PAUSE` is over
half open  one is let through, the others refused     closed when that one succeeds; open again when it fails; when it
                                                      was given up, half open still: the next one may try
=========  =========================================  ==================================================================

A request that was let through before the circuit opened may end afterwards. Its success closes the circuit, for the
server has just answered; its failure is no news, and does not prolong the pause.
"""

import math
from typing import Final

import attrs

MAX_FAILURES: Final = 5
"""Failures in a row: of a tool that is asked three times, the second call in a row that has failed altogether."""
OPEN_CIRCUIT_S: Final = 30.0
"""Seconds: a restart or a deployment takes about so long, and a conversation has moved on by then."""
MAX_REMEMBERED_SERVERS: Final = 1024
"""Servers of which failures are remembered; with more, the one whose last request is the oldest is forgotten."""


@attrs.define(eq=False)
class Permit:
    """A request that was let through. Its end is to be told by one of the methods; only the first one counts."""

    _circuit: "_Circuit"
    _is_trial: bool
    _over: bool = False

    def succeeded(self) -> None:
        """The server has answered."""
        if self._ends():
            self._circuit.failures, self._circuit.until = 0, -math.inf

    def failed(self, now: float) -> None:
        """The server could not be reached, broke off, was too slow, or said that it is broken."""
        if not self._ends() or (self._circuit.failures >= MAX_FAILURES and not self._is_trial):
            return
        self._circuit.failures += 1
        if self._circuit.failures >= MAX_FAILURES:
            self._circuit.until = now + OPEN_CIRCUIT_S

    def given_up(self) -> None:
        """Nothing is known about the server: the request was cancelled, say."""
        self._ends()

    def _ends(self) -> bool:
        over, self._over = self._over, True
        if not over:
            self._circuit.pending -= 1
            self._circuit.trying &= not self._is_trial
        return not over


@attrs.define(eq=False)
class _Circuit:
    failures: int = 0
    until: float = -math.inf
    """When the pause is over."""
    trying: bool = False
    pending: int = 0


class Circuits:
    """The circuit of each server, by whatever names it."""

    def __init__(self) -> None:
        self._circuits: dict[str, _Circuit] = {}

    def __repr__(self) -> str:
        return f"<Circuits of {len(self._circuits)} servers>"

    def admit(self, server: str, now: float) -> Permit | None:
        """Return a permit for one request; None: it is to fail at once."""
        # The newest last; those that are well are forgotten, so that only trouble takes up space.
        circuit = self._circuits.pop(server, None) or _Circuit()
        for name in [name for name, known in self._circuits.items() if not known.failures and not known.pending]:
            del self._circuits[name]
        while len(self._circuits) >= MAX_REMEMBERED_SERVERS:
            del self._circuits[next(iter(self._circuits))]
        self._circuits[server] = circuit
        is_trial = circuit.failures >= MAX_FAILURES
        if is_trial and (circuit.trying or now < circuit.until):
            return None
        circuit.trying |= is_trial
        circuit.pending += 1
        return Permit(circuit, is_trial)
