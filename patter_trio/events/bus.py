"""The event bus: everything that happens in a phone's calls, for those who ask for it.

::

    phone.events.on(PatterEventType.LLM_CHUNK, show)                       # a handler: sync or async

    async with phone.events.subscribe(PatterEventType.LLM_CHUNK) as channel:   # or a channel, in a task of one's own
        async for event in channel:
            ...

Who subscribes never holds up a call: handlers run in tasks of the server's, channels are bounded, and what cannot be
taken in time is dropped, oldest first, and counted.
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
    """The events of one phone's calls, on whichever servers. Every payload has ``call_id`` and is the receiver's own.

    A subscription that is made inside a callback of a call is that call's alone, and ends with it; ``scope="all"``
    makes it one to all calls, which is what one that is made anywhere else is.
    """

    def __init__(self) -> None:
        self._everywhere: Subscribers = {}
        """Who has subscribed to the events of all calls."""

    def __repr__(self) -> str:
        return f"<EventBus, {sum(len(entries) for entries in self._everywhere.values())} subscriptions to all calls>"

    def on(self, kind: PatterEventType | str, handler: Handler, *, scope: Scope | None = None) -> Subscription:
        """Have ``handler`` called with each event of a type, in order and one at a time; return what ends that.

        Args:
            kind: which events.
            handler: sync or async; what it raises is logged. It is safe as callbacks are: a slow one delays nothing but
                its own next events, of which 1024 may wait.
            scope: ``"call"``, ``"all"``, or what applies here.

        Raises:
            ConfigurationError: there is no such type or scope, ``handler`` is no function, or ``"call"`` was asked for
                outside of any call.
        """
        kind = event_type(kind)
        if not callable(handler):
            raise ConfigurationError(f"a handler must be a function, not {type(handler).__name__}: {handler!r}")
        call = self._call(kind, scope)
        subscribers = self._everywhere if call is None else call.own
        subscription = Subscription(kind, handler, partial(call_events.unsubscribe, subscribers, kind))
        if call is None or not call.over:
            call_events.subscribe(subscribers, kind, subscription)
        return subscription

    def subscribe(
        self, kind: PatterEventType | str, *, scope: Scope | None = None, size: int = MAX_QUEUED_EVENTS
    ) -> "EventChannel":
        """Open a bounded channel of the events of a type: ``async with bus.subscribe(kind) as channel``.

        That of a call ends with the call's last event; that of all calls with the block.

        Args:
            kind: which events.
            scope: as for :meth:`on`.
            size: how many may wait; of more the oldest go.

        Raises:
            ConfigurationError: as for :meth:`on`, or ``size`` is not at least 1.
        """
        kind = event_type(kind)
        if not (isinstance(size, int) and size >= 1):
            raise ConfigurationError(f"size must be a whole number of at least 1, not {size!r}")
        return EventChannel(self._everywhere, self._call(kind, scope), kind, size)

    def _call(self, kind: PatterEventType, scope: Scope | None) -> CallEvents | None:
        """Return the call to which a subscription that is made now belongs; None: it is to all calls."""
        if scope not in (None, "call", "all"):
            raise ConfigurationError(f'scope must be "call" or "all", not {scope!r}')
        call = current_events.get()
        if call is not None and call.everywhere is not self._everywhere:  # another phone's
            call = None
        if scope == "call" and call is None:
            raise ConfigurationError('scope="call" is for callbacks of a call; outside of any there is only "all"')
        if call is None or scope == "all":
            return None
        if call.over:
            _log.warning(
                'call %s: a subscription to %s comes after its end, and gets nothing; scope="all" hears other calls',
                call.call_id,
                kind,
            )
        return call


class EventChannel:
    """A subscription by channel; ``async with`` opens it, once, and gives its receiving end."""

    def __init__(self, everywhere: Subscribers, call: CallEvents | None, kind: PatterEventType, size: int) -> None:
        self.kind = kind
        self.dropped: int = 0
        """Events that there was no room for."""
        self._call = call
        self._subscribers = everywhere if call is None else call.own
        self._send, self._receive = trio.open_memory_channel[dict[str, Any]](size)
        self._oldest = self._receive.clone()

    def __repr__(self) -> str:
        return f"<EventChannel of {self.kind}, {self.dropped} dropped>"

    async def __aenter__(self) -> trio.MemoryReceiveChannel[dict[str, Any]]:
        if self._call is not None and self._call.over:
            self.finish()
        else:
            call_events.subscribe(self._subscribers, self.kind, self)
        return self._receive

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        call_events.unsubscribe(self._subscribers, self.kind, self)
        for end in (self._send, self._receive, self._oldest):
            end.close()

    def take(self, event: Published) -> None:
        """Put an event into the channel; the oldest goes when it is full."""
        payload = event.copied()
        try:
            self._send.send_nowait(payload)
        except trio.WouldBlock:
            if not self.dropped:
                _log.warning(
                    "call %s: a channel of %s is not read in time; events are being dropped",
                    event.call.call_id,
                    self.kind,
                )
            self.dropped += 1
            self._oldest.receive_nowait()
            self._send.send_nowait(payload)

    def finish(self) -> None:
        """Nothing more will come: iterating ends when what is there was taken."""
        self._send.close()


def subscribers_of(bus: EventBus) -> Subscribers:
    """Return who has subscribed to the events of all calls, by type; the bus keeps it up to date."""
    return bus._everywhere  # noqa: SLF001 (same module: applications must not see this)
