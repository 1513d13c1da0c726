"""Stop signals: SIGTERM and SIGHUP, received once for all phones that a process serves.

The first signal drains every phone, the second one ends what is left of the calls at once. The handler belongs to the
process: it is installed when the first phone is served, and removed when the last one has reported the ends of its
calls. A signal is therefore always taken, and never ends the process in the middle of a drain.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

import attrs
import trio

from patter_trio.net.run_local import run_local

# SIGHUP as well: a terminal or an ssh session that closes must not lose the ends of the calls. Windows has none.
STOP_SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that stop a server."""


@attrs.define(eq=False)
class StopRequest:
    """A request to one server to stop, made by stop signals."""

    drain: trio.Event = attrs.field(factory=trio.Event)
    """Set by the first signal: accept no more calls, and let the live ones end."""
    now: trio.Event = attrs.field(factory=trio.Event)
    """Set by the second signal: end the calls that are left."""
    name: str = ""
    """The name of the newest signal, for the log."""


class _StopSignals:
    """The receiver of the stop signals of one trio run, in the main thread."""

    def __init__(self) -> None:
        self._requests: set[StopRequest] = set()
        self._previous: dict[int, Any] = {}
        self._newest = ""
        self._token = trio.lowlevel.current_trio_token()

    def add(self) -> StopRequest:
        """Return the request for one more server; the first one installs the handlers."""
        if not self._requests:
            self._newest = ""
            for number in STOP_SIGNALS:
                previous = signal.getsignal(number)
                # nohup, and shells, ignore a signal on purpose. None: a handler that Python did not install.
                if previous not in (signal.SIG_IGN, None):
                    self._previous[number] = previous
                    signal.signal(number, self._handle)
        request = StopRequest(name=self._newest)
        self._requests.add(request)
        # A phone that is served while the process stops is part of what stops.
        if self._newest:
            request.drain.set()
        return request

    def discard(self, request: StopRequest) -> None:
        """Forget a server that is closed; the last one restores the handlers of before."""
        self._requests.discard(request)
        if self._requests:
            return
        for number, previous in self._previous.items():
            # Only our own: the application may have installed another one meanwhile.
            if signal.getsignal(number) == self._handle:
                signal.signal(number, previous)
        self._previous.clear()

    def _handle(self, number: int, _: FrameType | None) -> None:
        """Receive a signal, between any two instructions of the main thread."""
        # Restored by the application although nothing is served any more: the signal means what it meant before us.
        if not self._requests:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            return
        # Not here: the instruction may be one that changes what the tasks that are woken look at.
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._take, signal.Signals(number).name)

    def _take(self, name: str) -> None:
        self._newest = name
        for request in self._requests:
            request.name = name
            (request.now if request.drain.is_set() else request.drain).set()


_signals: trio.lowlevel.RunVar[_StopSignals] = trio.lowlevel.RunVar("patter_trio_stop_signals")


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Receive the stop signals for one server while the block runs. For the main thread: others receive no signals."""
    signals = run_local(_signals, _StopSignals)
    request = signals.add()
    try:
        yield request
    finally:
        signals.discard(request)
