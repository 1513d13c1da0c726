"""One call on the event bus: what is published of it, and who has subscribed to this call alone."""

from contextvars import Context, ContextVar, copy_context
from typing import Protocol

import trio

from patter_trio.abc import CallInfo
from patter_trio.audio.media_clock import MediaClock
from patter_trio.events.delivery import HandlerTasks, Published
from patter_trio.events.grace import GracePeriods
from patter_trio.events.kinds import FREQUENT_EVENTS, PUBLISHED, PatterEventType, PublishedEvent
from patter_trio.events.payloads import INITIAL_STATE, ConversationStateSnapshot, Tap
from patter_trio.events.rendering import bus_payload
from patter_trio.events.turns import Turns
from patter_trio.metrics.internal_events import CallEvent, LlmChunk
from patter_trio.metrics.public_events import CallConnected, CallOver
from patter_trio.user_code.context import current_call


class Subscriber(Protocol):
    """Whoever gets events."""

    def take(self, event: Published) -> None:
        """Take an event; neither waits nor raises."""

    def finish(self) -> None:
        """Nothing more will come."""


Subscribers = dict[PatterEventType, list[Subscriber]]
"""Who has subscribed to what; a type that nobody wants has no entry."""

current_events: ContextVar["CallEvents | None"] = ContextVar("here", default=None)
"""The call to which what is subscribed now belongs: that of the callback that is running."""


class CallEvents:
    """A call as the bus sees it, from its announcement to its end.

    Args:
        call_id: whose events they are.
        everywhere: who has subscribed to those of all calls.
        deliveries: the server's.
        epoch: Unix time of the clock's zero.
        tap: sees every event at once, under its bus name; for the test kit.
    """

    def __init__(
        self,
        call_id: str,
        everywhere: Subscribers,
        handler_tasks: HandlerTasks,
        *,
        epoch: float,
        tap: Tap | None = None,
    ) -> None:
        self.call_id = call_id
        self.everywhere = everywhere
        self.handler_tasks = handler_tasks
        self.grace: GracePeriods = GracePeriods()
        self.context: Context | None = None
        """What is current in the call's own tasks, once there are any."""
        self.own: Subscribers = {}
        """Who has subscribed to this call alone."""
        self.over: bool = False
        self._epoch = epoch
        self._tap = tap
        self._media: MediaClock | None = None
        self._turns = Turns()

    def __repr__(self) -> str:
        return f"<CallEvents of {self.call_id}{', over' if self.over else ''}>"

    def enter(self) -> None:
        """From here on the current task is one of this call's callbacks or of its own tasks."""
        current_call.set(self.call_id)
        current_events.set(self)

    def connected(self, media: MediaClock, info: CallInfo) -> None:
        """Publish CALL_STARTED: the call's media has begun. Must be called by the task that is the call."""
        self._media = media
        self.context = copy_context()
        self.on_event(CallConnected(info), trio.current_time(), _initial())

    def wants(self, kind: type[CallEvent]) -> bool:
        """Return True if events of this class are of interest; frequent ones are only if somebody listens."""
        return kind not in FREQUENT_EVENTS or self._listened(FREQUENT_EVENTS[kind]) or self._tap is not None

    def _listened(self, kind: PatterEventType) -> bool:
        return kind in self.everywhere or kind in self.own

    def on_event(self, event: CallEvent, at: float, state: ConversationStateSnapshot) -> None:
        """Take an event of the call, at its instant, and publish what it means on the bus."""
        turns = list(self._turns.step(event))
        itself: list[PublishedEvent] = []
        # A fixed text has no LLM_CHUNK: only what an LLM or the application thinks is published.
        if isinstance(event, PublishedEvent) and not (
            isinstance(event, LlmChunk) and not self._turns.thought(event.reply)
        ):
            itself = [event]
        # The end of a call is its last event.
        for published in [*turns, *itself] if isinstance(event, CallOver) else [*itself, *turns]:
            self._publish(published, at, state)

    def _publish(self, published: PublishedEvent, at: float, state: ConversationStateSnapshot) -> None:
        kind = PUBLISHED[type(published)]
        if self._tap is None and not self._listened(kind):
            return
        payload = bus_payload(published, self.call_id, round((self._epoch + at) * 1000))
        if self._tap is not None:
            start = None if self._media is None else self._media.start
            self._tap(0.0 if start is None else at - start, kind.value, dict(payload))
        event = Published(kind, payload, state, self)
        for subscribers in (self.everywhere, self.own):
            for subscriber in tuple(subscribers.get(kind, ())):
                subscriber.take(event)

    def never_connected(self, outcome: str, error: str, info: CallInfo, *, cancelled: bool = False) -> None:
        """Publish CALL_ENDED of a call that never was one, and end its subscriptions."""
        now = trio.current_time()
        over = CallOver(info=info, ended_at=self._epoch + now, outcome=outcome, error=error)
        self.on_event(over, now, _initial())
        self.grace.begin(cancelled=cancelled)
        self.close()

    def close(self) -> None:
        """The call is over: its own subscriptions end with what was published."""
        self.over = True
        own, self.own = self.own, {}
        for subscribers in own.values():
            for subscriber in subscribers:
                subscriber.finish()


def _initial() -> ConversationStateSnapshot:
    return ConversationStateSnapshot(user=INITIAL_STATE["user"], agent=INITIAL_STATE["agent"])


def subscribe(subscribers: Subscribers, kind: PatterEventType, subscriber: Subscriber) -> None:
    """Enter a subscriber."""
    subscribers.setdefault(kind, []).append(subscriber)


def unsubscribe(subscribers: Subscribers, kind: PatterEventType, subscriber: Subscriber) -> None:
    """Strike a subscriber out, if it is there."""
    entries = subscribers.get(kind, [])
    if subscriber in entries:
        entries.remove(subscriber)
    if not entries:
        subscribers.pop(kind, None)
