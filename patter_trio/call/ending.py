"""The end of one call, as every ring of it must know it: the outcome, and the first failure."""

import logging

from patter_trio.metrics.internal_events import CallFailed, EmitFact

_log = logging.getLogger("patter_trio.call")


class Ending:
    """The outcome of one call and its first failure, both empty while it lives and nothing has failed.

    Args:
        call_id: the id of the call, for the log.
        emit_fact: reports an internal event.
    """

    def __init__(self, call_id: str, emit_fact: EmitFact) -> None:
        self._call_id = call_id
        self._emit_fact = emit_fact
        self.outcome: str = ""
        """The outcome of the call, from the end of the conversation on; empty before."""
        self.error: str = ""
        """The first failure, for ``on_call_end``; empty without one."""

    def __repr__(self) -> str:
        return f"<Ending of {self._call_id}: {self.outcome or 'not yet'}{', failed' if self.error else ''}>"

    @property
    def is_open(self) -> bool:
        """True while the call is neither over nor about to end with a failure."""
        return not self.error and not self.outcome

    def fail(self, why: str, kind: str) -> None:
        """Record and log the first failure; ``kind`` is its public name, without the details in ``why``."""
        # Only the first: those that follow, such as the sockets that it tears down, are its consequences.
        if self.is_open:
            self.error = why
            self._emit_fact(CallFailed(kind))  # without ``why``, which may quote words of the call
            _log.warning("call %s: %s", self._call_id, why)

    def end(self, outcome: str) -> None:
        """Set the outcome."""
        self.outcome = outcome

    def settle(self) -> str:
        """Return the outcome; of a call that ended without one, by a failure or by cancellation, set it first."""
        if not self.outcome:
            self.outcome = "failed" if self.error else "cancelled"
        return self.outcome
