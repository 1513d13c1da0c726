"""Makes the events of each call of a server, and shortens their grace when the server is cancelled."""

import time
from weakref import WeakSet

import trio

from patter_trio.events.call_events import CallEvents
from patter_trio.events.delivery import HandlerTasks
from patter_trio.events.grace import GracePeriods
from patter_trio.server.options import Seams, ServeOptions


class CallEventsSource:
    """The source of a server's :class:`CallEvents`.

    Args:
        options: the subscriptions of the phone.
        seams: the epoch and the tap, for tests.
        nursery: runs the handlers; it outlives the calls.
    """

    def __init__(self, options: ServeOptions, seams: Seams, nursery: trio.Nursery) -> None:
        self._subscribers = options.subscribers
        self._fixed_epoch = seams.epoch
        self._tap = seams.bus_tap
        self._recorder = options.recorder
        self._deliveries = HandlerTasks(nursery)
        # Weak, because each lives until the last event of its call has been delivered, which is after the call's end.
        self._grace: WeakSet[GracePeriods] = WeakSet()
        self._is_shortened = False

    def __repr__(self) -> str:
        return f"<CallEventsSource of {len(self._grace)} calls>"

    @property
    def grace_is_shortened(self) -> bool:
        """True if the server is being cancelled."""
        return self._is_shortened

    def of_call(self, call_id: str) -> CallEvents:
        """Return new events for a call."""
        # One epoch for a call, so that its timestamps agree although the machine's clock is set meanwhile; and a new
        # one for the next call, which has the right time again.
        events = CallEvents(
            call_id,
            self._subscribers,
            self._deliveries,
            epoch=self._epoch(),
            tap=self._tap,
            recorder=self._recorder,
        )
        # Held here too, because a cancelled server shortens the time of all calls, live or over.
        self._grace.add(events.grace)
        return events

    def _epoch(self) -> float:
        """Return the Unix time, in seconds, of zero on trio's clock, by the machine's clock as it is set now."""
        return time.time() - trio.current_time() if self._fixed_epoch is None else self._fixed_epoch

    def unix_time(self) -> float:
        """Return the time in seconds, as the events of a call that begins now have it."""
        return self._epoch() + trio.current_time()

    def shorten_grace(self) -> None:
        """Shorten the callbacks' time, because the server is being cancelled."""
        self._is_shortened = True
        for grace in tuple(self._grace):
            grace.shorten()

    def close(self) -> None:
        """End the tasks of handlers once each queued event has been delivered."""
        self._deliveries.close()
