"""The delivery of events to the handlers of the event bus, by tasks for which no call waits.

A handler has one task for each server, in the nursery of that server's observers, and a queue of at most
:data:`MAX_QUEUED_EVENTS` events; when it is full, the oldest is dropped. The task runs for as long as the handler is
subscribed and the server is open. The handler runs in the context of the event's call, and within that call's time
limits (``events/grace.py``).
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context
from typing import Any, Final, Protocol

import attrs
import trio

from patter_trio.events.callbacks import copied
from patter_trio.events.grace import BACKLOG_GRACE_S, LAST_EVENTS_GRACE_S, DeliveryClass, GracePeriods
from patter_trio.events.kinds import LOSSY_TYPES, PatterEventType
from patter_trio.events.payloads import ConversationStateSnapshot, seen_state
from patter_trio.net.pulse import Pulse
from patter_trio.user_code import invoke
from patter_trio.user_code.signatures import name_of

# Judged: of TTS_CHUNK, the most frequent event beside text, that is less than a megabyte for
# each subscriber that stands still.
MAX_QUEUED_EVENTS: Final = 1024
"""Events that may wait for one subscriber: one second of twenty calls with 50 pieces of text a second each."""
# The margin is for a handler that begins at the very end of its limit: its own scope ends it, and says so in the log.
MAX_GRACE_S: Final = BACKLOG_GRACE_S + LAST_EVENTS_GRACE_S + 1.0
"""Seconds after the last call after which every time limit of an event is over; 1 s more than their sum."""

_log = logging.getLogger("patter_trio.events")


class PublishingCall(Protocol):
    """A call whose events are delivered."""

    @property
    def call_id(self) -> str:
        """The carrier's id of the call."""

    @property
    def grace(self) -> GracePeriods:
        """The time limits for handlers after the call."""

    @property
    def context(self) -> Context | None:
        """The context variables of the call's own tasks; None before the call has any."""

    @property
    def handler_tasks(self) -> "HandlerTasks":
        """The handler tasks of the call's server."""

    def enter(self) -> None:
        """Make this call the current one in the running task."""


@attrs.frozen
class Published:
    """An event of a call, with the public states at its instant."""

    kind: PatterEventType
    payload: Mapping[str, Any]
    state: ConversationStateSnapshot
    call: PublishingCall

    @property
    def delivery_class(self) -> DeliveryClass:
        """The class of the event, which decides its time limit after the call."""
        if self.kind in LOSSY_TYPES:
            return "edges"
        return "end" if self.kind is PatterEventType.CALL_ENDED else "kept"

    def copied(self) -> dict[str, Any]:
        """Return a copy of the payload for one handler."""
        payload: dict[str, Any] = copied(self.payload)
        return payload


class Subscription:
    """A handler's subscription to the event bus. Calling it ends it, and drops the events that still wait."""

    def __init__(
        self, kind: PatterEventType, handler: Callable[..., Any], forget: "Callable[[Subscription], None]"
    ) -> None:
        self.kind = kind
        self.handler = handler
        self.dropped: int = 0
        """The number of events dropped because the handler could not keep up."""
        self.tasks: dict[HandlerTasks, HandlerTask] = {}
        self._forget = forget
        self._failed_in: PublishingCall | None = None

    def __repr__(self) -> str:
        return f"<Subscription of {name_of(self.handler)} to {self.kind}, {self.dropped} dropped>"

    def __call__(self) -> None:
        """End the subscription; calling it again does nothing."""
        self._forget(self)
        for delivery in tuple(self.tasks.values()):
            delivery.drop_all()
        self.finish()

    def finish(self) -> None:
        """End the subscription after the events that still wait."""
        for delivery in tuple(self.tasks.values()):
            delivery.close()

    def take(self, event: Published) -> None:
        """Queue an event; never waits."""
        event.call.handler_tasks.task_for(self).put(event)

    def lose(self, event: Published) -> None:
        """Count a dropped event, and log the first one."""
        if not self.dropped:
            _log.warning(
                "call %s: %s cannot keep up with %s; events are being dropped",
                event.call.call_id,
                name_of(self.handler),
                self.kind,
            )
        self.dropped += 1

    def failed(self, event: Published, error: invoke.ApplicationError) -> None:
        """Log that the handler raised; for events that come many times a second, only once for each call."""
        if self.kind in LOSSY_TYPES and self._failed_in is event.call:
            return
        self._failed_in = event.call
        more = " (not reported again in this call)" if self.kind in LOSSY_TYPES else ""
        _log.warning("call %s: %s: %s%s", event.call.call_id, self.kind, error, more, exc_info=error.__cause__)


class HandlerTask:
    """The task of one subscription in one server."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._queue: deque[Published] = deque()
        self._wake = Pulse()
        self._closed = False
        # ``run`` enters it, so that a cancelled server delivers its last events; ``HandlerTasks.close`` sets the
        # deadline.
        self.shield: trio.CancelScope = trio.CancelScope(shield=True)
        self._context: Context | None = None

    def __repr__(self) -> str:
        return f"<HandlerTask of {self._subscription!r}, {len(self._queue)} waiting>"

    def put(self, event: Published) -> None:
        """Queue an event; drop the oldest if the queue is full."""
        # A deque and not a memory channel: ending a subscription empties it from outside (docs/design.md, "Queues").
        if len(self._queue) == MAX_QUEUED_EVENTS:
            self._subscription.lose(self._queue.popleft())
        self._queue.append(event)
        self._wake.fire()

    def drop_all(self) -> None:
        """Drop the events that still wait."""
        self._queue.clear()

    def close(self) -> None:
        """End the task after the events that still wait."""
        self._closed = True
        self._wake.fire()

    async def run(self) -> None:
        """Call the handler for each queued event until closed."""
        with self.shield:  # a cancelled server still delivers its calls' last events
            while self._queue or not self._closed:
                if self._queue:
                    await self._call_handler(self._queue.popleft())
                    continue
                # No await between the check of the queue and this wait, as Pulse requires.
                await self._wake.wait()

    async def _call_handler(self, event: Published) -> None:
        subscription, grace = self._subscription, event.call.grace
        # Checked before the call: a scope whose deadline has passed would still run the handler up to its first await.
        if grace.is_over(event.delivery_class):
            subscription.lose(event)
            return
        self._enter(event.call)
        # As they were: by the time a slow handler runs, the call may be in other states.
        token = seen_state.set(event.state)
        try:
            # Inside of the shield: this limit is the call's, the shield's deadline that of the server.
            with grace.limit(event.delivery_class) as scope:
                await invoke.call(subscription.handler, event.copied())
        except invoke.ApplicationError as error:
            # The next event is delivered all the same: one bad event must not cost the handler all others.
            subscription.failed(event, error)
        finally:
            seen_state.reset(token)
        if scope.cancelled_caught:
            name = name_of(subscription.handler)
            _log.warning("call %s: %s: %s was cancelled: its time limit was over", event.call.call_id, event.kind, name)

    def _enter(self, call: PublishingCall) -> None:
        """Give the handler the context variables of the call's own tasks, such as the call's id and its span."""
        # Only when the call changes, since the variables stay set in this task.
        if call.context is not None and call.context is not self._context:
            # Set one by one instead of run in the context: an async handler cannot run in
            # another context than its task's.
            for variable, value in call.context.items():
                variable.set(value)
        self._context = call.context
        call.enter()


class HandlerTasks:
    """The handler tasks of one server, in the nursery of its observers."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._running: set[HandlerTask] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<HandlerTasks, {len(self._running)} running>"

    def task_for(self, subscription: Subscription) -> HandlerTask:
        """Return the task of a subscription's handler; its first event starts it."""
        delivery = subscription.tasks.get(self)
        if delivery is None:
            delivery = subscription.tasks[self] = HandlerTask(subscription)
            self._running.add(delivery)
            # Events may still come after close(), from calls that end while the server closes: they
            # are delivered, and the task ends.
            if self._closed:
                delivery.close()
            self._nursery.start_soon(self._run, delivery, subscription, name=f"events to {subscription!r}")
        return delivery

    async def _run(self, delivery: HandlerTask, subscription: Subscription) -> None:
        try:
            await delivery.run()
        finally:
            self._running.discard(delivery)
            with suppress(KeyError):
                del subscription.tasks[self]

    def close(self) -> None:
        """End every task after the events that still wait, because all calls are over."""
        self._closed = True
        # A copy, because a task that ends removes itself.
        for delivery in tuple(self._running):
            # From here on the shield is bounded: a handler that never returns must not keep the server from closing.
            delivery.shield.deadline = trio.current_time() + MAX_GRACE_S
            delivery.close()
