"""One call on the event bus: publishes its events, and keeps the subscribers to this call alone."""

from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Protocol

import trio

from patter_trio.abc import CallInfo
from patter_trio.audio.media_clock import MediaClock
from patter_trio.events.delivery import HandlerTasks, Published
from patter_trio.events.grace import GracePeriods
from patter_trio.events.kinds import FREQUENT_EVENTS, PUBLISHED, PatterEventType, PublishedEvent
from patter_trio.events.payloads import INITIAL_STATE, ConversationStateSnapshot, Tap
from patter_trio.events.records import EventRecorder
from patter_trio.events.rendering import bus_payload
from patter_trio.events.turns import Turns
from patter_trio.metrics.internal_events import CallEvent, LlmChunk
from patter_trio.metrics.public_events import CallConnected, CallOver
from patter_trio.user_code.context import current_call, exit_call, new_thread_limiter, no_exit, threads_of_call


class Subscriber(Protocol):
    """A receiver of events: a handler's subscription, or a channel."""

    def take(self, event: Published) -> None:
        """Receive an event; neither waits nor raises."""

    def finish(self) -> None:
        """End the subscription after the events that still wait."""


Subscribers = dict[PatterEventType, list[Subscriber]]
"""The subscribers to each type of event; a type without subscribers has no entry."""

# Beside current_call, which has only the id: the bus needs the object, and ids may come again on another phone.
current_events: ContextVar["CallEvents | None"] = ContextVar("here", default=None)
"""The call of the running callback, to which a subscription made there belongs."""


class CallEvents:
    """One call on the event bus, from its announcement to its end.

    Args:
        call_id: the carrier's id of the call.
        everywhere: the subscribers to the events of all calls.
        handler_tasks: the server's tasks that call the handlers.
        epoch: Unix time of the clock's zero, in seconds.
        tap: gets every event at once, under its bus name; for the test kit.
        recorder: records the events, for windows and the call log; None: nobody does.
    """

    def __init__(
        self,
        call_id: str,
        everywhere: Subscribers,
        handler_tasks: HandlerTasks,
        *,
        epoch: float,
        tap: Tap | None = None,
        recorder: EventRecorder | None = None,
    ) -> None:
        self.call_id = call_id
        self.everywhere = everywhere
        self.handler_tasks = handler_tasks
        # Shared with the call's callbacks, so that both have the same limits.
        self.grace: GracePeriods = GracePeriods()
        self.context: Context | None = None
        """The context variables of the call's own tasks; None before the call has any."""
        self.own: Subscribers = {}
        """The subscribers to this call alone."""
        self.over: bool = False
        self._exit: Callable[[str], None] = no_exit
        self._threads = new_thread_limiter()
        self.epoch: float = epoch
        """Unix time of the clock's zero, in seconds."""
        self._tap = tap
        self._recorder = EventRecorder() if recorder is None else recorder
        self._media: MediaClock | None = None
        self._turns = Turns()

    def __repr__(self) -> str:
        return f"<CallEvents of {self.call_id}{', over' if self.over else ''}>"

    def enter(self) -> None:
        """Make this call the current one in the running task: a callback of the call, or one of its own tasks."""
        current_call.set(self.call_id)
        current_events.set(self)
        exit_call.set(self.exit)
        threads_of_call.set(self._threads)

    def exit_by(self, end: Callable[[str], None]) -> None:
        """Set the function that :meth:`exit` calls; it ends the call as it is from now on, announced or connected."""
        self._exit = end

    def exit(self, why: str) -> None:
        """End the call, because code of the application raised SystemExit for it."""
        self._exit(why)

    def connected(self, media: MediaClock, info: CallInfo) -> None:
        """Publish CALL_STARTED, because the call's media has begun. The call's own task must call this."""
        self._media = media
        # Copied here, in the call's task, so that handlers get its context variables: the call's id, the open span.
        self.context = copy_context()
        self.on_event(CallConnected(info), trio.current_time(), _initial())

    def wants(self, kind: type[CallEvent]) -> bool:
        """Return True if events of this class are needed; frequent ones are only if they have a subscriber."""
        if kind not in FREQUENT_EVENTS:
            return True
        return self._listened(FREQUENT_EVENTS[kind]) or self._tap is not None or self._recorder.wants(kind)

    def _listened(self, kind: PatterEventType) -> bool:
        return kind in self.everywhere or kind in self.own

    def on_event(self, event: CallEvent, at: float, state: ConversationStateSnapshot) -> None:
        """Publish an event of the call, and the turns that begin or end with it; ``at`` is its instant."""
        # First, because thought() below must know the reply that this event may start.
        turns = list(self._turns.step(event))
        itself: list[PublishedEvent] = []
        # A fixed text has no LLM_CHUNK: only what an LLM or the application thinks is published.
        if isinstance(event, PublishedEvent) and not (
            isinstance(event, LlmChunk) and not self._turns.thought(event.reply)
        ):
            itself = [event]
        # The edges are not on the bus, and have a record all the same, as have some internal events.
        if not isinstance(event, PublishedEvent):
            self._record(event, at)
        # The end of a call is its last event.
        for published in [*turns, *itself] if isinstance(event, CallOver) else [*itself, *turns]:
            self._record(published, at)
            self._publish(published, at, state)

    def _record(self, event: CallEvent | PublishedEvent, at: float) -> None:
        if self._recorder.wants(type(event)):
            self._recorder.record(event, self.call_id, at=at, call_time=self._call_time(at), unix=self.epoch)

    def _call_time(self, at: float) -> float:
        start = None if self._media is None else self._media.start
        return 0.0 if start is None else at - start

    def _publish(self, published: PublishedEvent, at: float, state: ConversationStateSnapshot) -> None:
        kind = PUBLISHED[type(published)]
        # Before the payload is made: for most events of most calls, nobody has subscribed.
        if self._tap is None and not self._listened(kind):
            return
        payload = bus_payload(published, self.call_id, round((self.epoch + at) * 1000))
        if self._tap is not None:
            self._tap(self._call_time(at), kind.value, dict(payload))
        event = Published(kind, payload, state, self)
        for subscribers in (self.everywhere, self.own):
            # A copy, because a subscriber may end its subscription.
            for subscriber in tuple(subscribers.get(kind, ())):
                subscriber.take(event)

    def never_connected(self, outcome: str, error: str, info: CallInfo, *, cancelled: bool = False) -> CallOver:
        """Publish CALL_ENDED of a call that never connected, end its subscriptions, and return the event."""
        now = trio.current_time()
        over = CallOver(info=info, ended_at=self.epoch + now, outcome=outcome, error=error)
        self.on_event(over, now, _initial())
        self.grace.begin(cancelled=cancelled)
        self.close()
        return over

    def publish_afterwards(self, event: CallEvent) -> None:
        """Publish an event that comes after the call's end, within the time limits of such events."""
        self.on_event(event, trio.current_time(), _initial())
        self.grace.begin(cancelled=False)
        self.close()

    def close(self) -> None:
        """End the subscriptions to this call alone, after the events that were published, because the call is over."""
        self.over = True
        # Emptied first: a channel that has been finished takes no event any more.
        own, self.own = self.own, {}
        for subscribers in own.values():
            for subscriber in subscribers:
                subscriber.finish()


def _initial() -> ConversationStateSnapshot:
    return ConversationStateSnapshot(user=INITIAL_STATE["user"], agent=INITIAL_STATE["agent"])


def subscribe(subscribers: Subscribers, kind: PatterEventType, subscriber: Subscriber) -> None:
    """Add a subscriber."""
    subscribers.setdefault(kind, []).append(subscriber)


def unsubscribe(subscribers: Subscribers, kind: PatterEventType, subscriber: Subscriber) -> None:
    """Remove a subscriber, if it is there."""
    entries = subscribers.get(kind, [])
    if subscriber in entries:
        entries.remove(subscriber)
    # Removed with the last one, because wants() asks whether the type has an entry.
    if not entries:
        subscribers.pop(kind, None)
