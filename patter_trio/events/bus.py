"""The event bus: subscriptions to everything that happens in a phone's calls.

::

    phone.events.on(PatterEventType.LLM_CHUNK, show)                       # a handler: sync or async

    async with phone.events.subscribe(PatterEventType.LLM_CHUNK) as channel:   # or a channel, in a task of one's own
        async for event in channel:
            ...

A subscriber never holds up a call: handlers run in tasks of the server, channels are bounded, and events that are not
taken in time are dropped, oldest first, and counted.
"""

import logging
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Literal

import trio

from patter_trio.errors import ConfigurationError
from patter_trio.events import call_events
from patter_trio.events.call_events import CallEvents, Subscribers, current_events
from patter_trio.events.delivery import MAX_QUEUED_EVENTS, Published, Subscription
from patter_trio.events.kinds import PatterEventType, event_type

Handler = Callable[[Any], Any]
"""A handler, sync or async. Its parameter may be typed as the TypedDict of the event type (``events/payloads.py``)."""
Scope = Literal["call", "all"]

_log = logging.getLogger("patter_trio.events")


class EventBus:
    """The events of a phone's calls, on all its servers. Each payload has ``call_id``; each receiver gets a copy.

    A subscription made inside a callback of a call is for that call alone, and ends with it, unless ``scope="all"``. A
    subscription made anywhere else is for all calls.
    """

    def __init__(self) -> None:
        # A dict of lists that publishers read directly: an event without subscribers costs one look-up.
        self._everywhere: Subscribers = {}
        """The subscribers to the events of all calls."""

    def __repr__(self) -> str:
        return f"<EventBus, {sum(len(entries) for entries in self._everywhere.values())} subscriptions to all calls>"

    def on(self, kind: PatterEventType | str, handler: Handler, *, scope: Scope | None = None) -> Subscription:
        """Call ``handler`` with each event of a type, in order and one at a time; return the subscription.

        Args:
            kind: the type of events.
            handler: sync or async; its exceptions are logged. A slow handler delays only its own next events; 1024 of
                them may wait.
            scope: ``"call"`` or ``"all"``; by default ``"call"`` inside a callback of a call, otherwise ``"all"``.

        Raises:
            ConfigurationError: there is no such type or scope, ``handler`` is not callable, or the scope is ``"call"``
                outside of any call.
        """
        kind = event_type(kind)
        if not callable(handler):
            raise ConfigurationError(f"a handler must be callable, got {type(handler).__name__}: {handler!r}")
        call = self._call(kind, scope)
        subscribers = self._everywhere if call is None else call.own
        subscription = Subscription(kind, handler, partial(call_events.unsubscribe, subscribers, kind))
        # A subscription is returned all the same, so that programs need no special case; _call() has logged a warning.
        if call is None or not call.over:
            call_events.subscribe(subscribers, kind, subscription)
        return subscription

    def subscribe(
        self, kind: PatterEventType | str, *, scope: Scope | None = None, size: int = MAX_QUEUED_EVENTS
    ) -> "EventChannel":
        """Open a bounded channel of the events of a type: ``async with bus.subscribe(kind) as channel``.

        The channel of one call ends after the call's last event; a channel of all calls ends with the block.

        Args:
            kind: the type of events.
            scope: as for :meth:`on`.
            size: the number of events that may wait; if there are more, the oldest are dropped.

        Raises:
            ConfigurationError: as for :meth:`on`, or ``size`` is not at least 1.
        """
        kind = event_type(kind)
        # Not 0: without a buffer there would be no oldest event to drop.
        if not (isinstance(size, int) and size >= 1):
            raise ConfigurationError(f"size must be a whole number of at least 1, got {size!r}")
        return EventChannel(self._everywhere, self._call(kind, scope), kind, size)

    def _call(self, kind: PatterEventType, scope: Scope | None) -> CallEvents | None:
        """Return the call to which a subscription made here belongs; None if it is for all calls."""
        if scope not in (None, "call", "all"):
            raise ConfigurationError(f'scope must be "call" or "all", got {scope!r}')
        call = current_events.get()
        if call is not None and call.everywhere is not self._everywhere:  # a call of another phone
            call = None
        if scope == "call" and call is None:
            raise ConfigurationError('scope="call" must be used inside a callback of a call; elsewhere use "all"')
        if call is None or scope == "all":
            return None
        if call.over:
            _log.warning(
                'call %s: a subscription to %s after the end of the call gets nothing; scope="all" is for other calls',
                call.call_id,
                kind,
            )
        return call


class EventChannel:
    """A subscription by channel; ``async with`` opens it, once, and returns its receiving end."""

    def __init__(self, everywhere: Subscribers, call: CallEvents | None, kind: PatterEventType, size: int) -> None:
        self.kind = kind
        self.dropped: int = 0
        """The number of events dropped because the channel was full."""
        self._call = call
        self._subscribers = everywhere if call is None else call.own
        self._send, self._receive = trio.open_memory_channel[dict[str, Any]](size)
        # A second receiving end, to take the oldest event out when the channel is full.
        self._oldest = self._receive.clone()

    def __repr__(self) -> str:
        return f"<EventChannel of {self.kind}, {self.dropped} dropped>"

    async def __aenter__(self) -> trio.MemoryReceiveChannel[dict[str, Any]]:
        # The call may have ended between subscribe() and "async with".
        if self._call is not None and self._call.over:
            self.finish()
        else:
            call_events.subscribe(self._subscribers, self.kind, self)
        return self._receive

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # First, so that no event is put into a channel that is closed.
        call_events.unsubscribe(self._subscribers, self.kind, self)
        # All three: a receiver that is left open would keep the buffer, a sender would keep
        # another task waiting for events.
        for end in (self._send, self._receive, self._oldest):
            end.close()

    def take(self, event: Published) -> None:
        """Put an event into the channel; drop the oldest if it is full."""
        payload = event.copied()
        try:
            self._send.send_nowait(payload)
        except trio.WouldBlock:
            # Full: the reader is slow or has stopped. take() never waits, so it makes room instead.
            if not self.dropped:
                _log.warning(
                    "call %s: a channel of %s is not read fast enough; events are being dropped",
                    event.call.call_id,
                    self.kind,
                )
            self.dropped += 1
            # No await before the send below, so the place that this makes is still free.
            self._oldest.receive_nowait()
            self._send.send_nowait(payload)

    def finish(self) -> None:
        """Close the sending end: iteration ends after the events that still wait."""
        self._send.close()


def subscribers_of(bus: EventBus) -> Subscribers:
    """Return the subscribers to the events of all calls, by type; the bus keeps the dict up to date."""
    return bus._everywhere  # noqa: SLF001 (same module: applications must not see this)
