"""The rules of a circuit breaker, without a clock. Time is an argument, in seconds.

=========  =========================================  ==================================================================
state      a request                                  next state
=========  =========================================  ==================================================================
closed     is let through                             open, after :data:`MAX_FAILURES` failures in a row
open       is refused                                 half open, after :data:`OPEN_CIRCUIT_S`
half open  one is let through, the others refused     closed, if that one succeeds; open, if it fails; half open, if it
                                                      was cancelled: the next one may try
=========  =========================================  ==================================================================

A request that was let through before the circuit opened may end afterwards. Its success closes the circuit, because the
server has just answered. Its failure is not news, and does not prolong the pause.
"""

import math
from typing import Final

import attrs

# Judged: with three, a single failing call of a tool would already count as an outage.
MAX_FAILURES: Final = 5
"""Failures in a row that open the circuit: with a tool that tries three times, its second failing call in a row."""
OPEN_CIRCUIT_S: Final = 30.0
"""Seconds that the circuit stays open: a restart or a deployment takes about that long, and a conversation has moved on
by then."""
# Judged: far more than the servers of one application, and some hundred kilobytes. A URL in which a model writes the
# host must not fill memory.
MAX_REMEMBERED_SERVERS: Final = 1024
"""Most servers whose failures are remembered; beyond that, the server with the oldest last request is forgotten."""


@attrs.define(eq=False)
class Permit:
    """Permission for one request. Report the request's end with one of the methods; only the first report counts."""

    _circuit: "_Circuit"
    _is_trial: bool
    _over: bool = False

    def succeeded(self) -> None:
        """Report that the server answered."""
        if self._ends():
            self._circuit.failures, self._circuit.until = 0, -math.inf

    def failed(self, now: float) -> None:
        """Report that the server was unreachable or too slow, broke off, or reported a failure of its own."""
        # A late failure of a request from before the opening is not news; a trial's failure opens the circuit again.
        if not self._ends() or (self._circuit.failures >= MAX_FAILURES and not self._is_trial):
            return
        self._circuit.failures += 1
        if self._circuit.failures >= MAX_FAILURES:
            self._circuit.until = now + OPEN_CIRCUIT_S

    def given_up(self) -> None:
        """Report that the request revealed nothing about the server, for example because it was cancelled."""
        self._ends()

    def _ends(self) -> bool:
        over, self._over = self._over, True
        if not over:
            self._circuit.pending -= 1
            # A trial's end gives the place free, however it ended: a cancelled one must not block the circuit for ever.
            self._circuit.trying &= not self._is_trial
        return not over


@attrs.define(eq=False)
class _Circuit:
    failures: int = 0
    until: float = -math.inf
    """Time at which the pause ends."""
    trying: bool = False
    pending: int = 0


class Circuits:
    """The circuits of all servers, each under a name."""

    def __init__(self) -> None:
        self._circuits: dict[str, _Circuit] = {}

    def __repr__(self) -> str:
        return f"<Circuits of {len(self._circuits)} servers>"

    def admit(self, server: str, now: float) -> Permit | None:
        """Return a permit for one request; None if the request must fail at once."""
        # Newest last. Healthy circuits without pending requests are dropped, so that only failing servers use space.
        circuit = self._circuits.pop(server, None) or _Circuit()
        for name in [name for name, known in self._circuits.items() if not known.failures and not known.pending]:
            del self._circuits[name]
        while len(self._circuits) >= MAX_REMEMBERED_SERVERS:
            del self._circuits[next(iter(self._circuits))]
        self._circuits[server] = circuit
        is_trial = circuit.failures >= MAX_FAILURES
        # One trial at a time: a server that has just come back must not get all calls at once.
        if is_trial and (circuit.trying or now < circuit.until):
            return None
        circuit.trying |= is_trial
        circuit.pending += 1
        return Permit(circuit, is_trial)
