"""The application's callbacks of one call: called in order, one at a time, by a task for which the audio never waits.

Two classes of events share one queue. Speech edges are lossy: they are worth little later, so at most
:data:`MAX_QUEUED_EDGES` of them wait, and the oldest is dropped. All other events (transcripts, the end) are kept.

After the call, each class has a time limit (``events/grace.py``). The task is shielded, so that a cancelled server
still reports the ends of its calls. The shield's deadline is set when the call is over, which :func:`open_callbacks`
ensures.
"""

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import trio

from patter_trio.events.grace import DeliveryClass, GracePeriods
from patter_trio.events.payloads import EDGES, ConversationStateSnapshot, seen_state
from patter_trio.net.pulse import Pulse
from patter_trio.user_code import invoke
from patter_trio.user_code.signatures import takes_call_control

# Judged: an application that is 36 turns behind has no use for the edges of the first one.
MAX_QUEUED_EDGES: Final = 256
"""Most speech edges in the queue: those of about 36 turns, at seven a turn; the oldest is dropped."""
# Judged: memory must be bounded, but no application that works at all should ever lose one.
MAX_QUEUED_EVENTS: Final = 4096
"""Most events of the kept class in the queue: more than an hour of talk while one callback never returns.

Further ones are lost, except for the call's end, which always has a place.
"""

FindCallback = Callable[[str], Callable[..., Any] | None]
"""Returns the application's callback of a name such as ``on_transcript``, as it is at this moment."""

_log = logging.getLogger("patter_trio.events")
# Judged: the copy takes some milliseconds, beside the audio of all calls.
MAX_COPIED_ITEMS: Final = 20_000
"""Items of lists and dicts, at all levels together, that are copied of one payload."""
_SPAN_EVENTS: Final = {"llm_token": "llm_first_token", "audio_out": "tts_first_audio"}


@attrs.frozen
class _QueuedEvent:
    name: str
    payload: Mapping[str, Any]
    state: ConversationStateSnapshot
    lossy: bool

    @property
    def delivery_class(self) -> DeliveryClass:
        """The class of the event, which decides its time limit after the call."""
        return "edges" if self.lossy else "end" if self.name == "call_end" else "kept"


class CallbackQueue:
    """The callbacks of one call.

    Args:
        call_id: the carrier's id of the call.
        find: returns the application's callback of a name.
        grace: the time limits for callbacks after the call.
        control: the control of the call, for the callbacks that take it.
    """

    def __init__(
        self, call_id: str, find: FindCallback, grace: GracePeriods | None = None, control: object = None
    ) -> None:
        self._call_id = call_id
        self._find = find
        self._queue: deque[_QueuedEvent] = deque()
        self._lossy = 0
        self._wake = Pulse()
        self._over = False
        self._grace = GracePeriods() if grace is None else grace
        self._control = control
        self._takes_control: dict[str, tuple[Callable[..., Any], bool]] = {}
        """Each callback and True if it takes the control, by name: reads a signature once, until it is replaced."""
        self.dropped: int = 0
        """The number of speech edges that were dropped."""
        self.lost: int = 0
        """The number of events of the kept class that were lost because the queue was full."""

    def __repr__(self) -> str:
        return f"<CallbackQueue of {self._call_id}, {len(self._queue)} waiting, {self.dropped} dropped>"

    def put(self, name: str, payload: Mapping[str, Any], state: ConversationStateSnapshot) -> None:
        """Queue an event for the callback ``on_<name>``; do nothing if that is not set."""
        # Not even queued without a callback: most calls have callbacks for two or three of the names.
        if self._over or self._find("on_" + name) is None:
            return
        lossy = name in EDGES
        if lossy and self._lossy == MAX_QUEUED_EDGES:
            self._drop()
        # The newest is lost, not the oldest: the beginning of a transcript without gaps
        # is worth more than pieces of it.
        if len(self._queue) - self._lossy >= MAX_QUEUED_EVENTS and not lossy and name != "call_end":
            if not self.lost:
                _log.warning("call %s: a callback does not return; the event %s is lost", self._call_id, name)
            self.lost += 1
            return
        self._lossy += lossy
        self._queue.append(_QueuedEvent(name, payload, state, lossy))
        self._wake.fire()

    def _drop(self) -> None:
        # A search from the left, but only in a queue that is already losing edges.
        oldest = next(index for index, queued in enumerate(self._queue) if queued.lossy)
        del self._queue[oldest]
        self._lossy -= 1
        if not self.dropped:
            _log.warning("call %s: callbacks cannot keep up; speech edges are being dropped", self._call_id)
        self.dropped += 1

    def end(self, payload: Mapping[str, Any], state: ConversationStateSnapshot, *, cancelled: bool) -> None:
        """Queue ``on_call_end``, the last event, and start the time limits."""
        # Before _over, which would refuse it.
        self.put("call_end", payload, state)
        self._over = True
        self._grace.begin(cancelled=cancelled)
        self._wake.fire()

    async def deliver(self) -> None:
        """Call the callbacks for queued events until ``on_call_end`` has returned or its time limit is over."""
        # Shielded, so that a cancelled server still reports the end; end() sets the deadline.
        with self._grace.limit("end", shield=True) as shield:
            while self._queue or not self._over:
                if not self._queue:
                    # No await between the check of the queue and this wait, as Pulse requires.
                    await self._wake.wait()
                    continue
                queued = self._queue.popleft()
                self._lossy -= queued.lossy
                # Dropped without a call, so that the backlog of edges takes no time from the kept events behind it.
                if queued.lossy and self._grace.is_over("edges"):
                    self.dropped += 1
                    continue
                # One at a time, so that callbacks see events in order.
                with self._grace.limit(queued.delivery_class) as scope:
                    await self._call(queued)
                if scope.cancelled_caught:
                    _log.warning("call %s: on_%s was cancelled: its time limit was over", self._call_id, queued.name)
        if shield.cancelled_caught:
            _log.warning("call %s: callbacks were still running when their time limit was over", self._call_id)

    async def _call(self, queued: _QueuedEvent) -> None:
        # Looked up now, not when the event was queued: an application may replace a callback at any time.
        callback = self._find("on_" + queued.name)
        if callback is None:
            return
        token = seen_state.set(queued.state)
        try:
            await invoke.call(callback, copied(queued.payload), *self._control_for(queued.name, callback))
        except invoke.ApplicationError as error:
            # A callback only observes: what it raises is logged, and the call and its next events go on.
            _log.warning("call %s: %s: %s", self._call_id, span_event(queued.name), error, exc_info=error.__cause__)
        finally:
            seen_state.reset(token)

    def _control_for(self, name: str, callback: Callable[..., Any]) -> tuple[object, ...]:
        known, takes = self._takes_control.get(name, (None, False))
        # By identity: an application that replaces a callback may give one with another signature.
        if known is not callback:
            takes = takes_call_control(callback)
            self._takes_control[name] = (callback, takes)
        return (self._control,) if takes and self._control is not None else ()


def span_event(name: str) -> str:
    """Return the name of a speech edge on a span and in the log."""
    return f"patter.event.{_SPAN_EVENTS.get(name, name)}"


def copied(value: Any) -> Any:
    """Return a deep copy of a payload, so that no callback changes what another one sees.

    Lists and dicts behind the first :data:`MAX_COPIED_ITEMS` are shared: only the result of a tool can be as long.
    """
    return _copied(value, [MAX_COPIED_ITEMS])


def _copied(value: Any, room: list[int]) -> Any:
    if not isinstance(value, Mapping | list):
        return value
    room[0] -= len(value)
    if room[0] < 0:
        return value
    if isinstance(value, Mapping):
        return {key: _copied(item, room) for key, item in value.items()}
    return [_copied(item, room) for item in value]


@asynccontextmanager
async def open_callbacks(nursery: trio.Nursery, callback_queue: CallbackQueue) -> AsyncIterator[CallbackQueue]:
    """Deliver a call's events in ``nursery``, which outlives the call, as long as :meth:`CallbackQueue.end` allows."""
    # In the server's nursery: callbacks may last longer than the call, which must end within a second.
    nursery.start_soon(callback_queue.deliver)
    try:
        yield callback_queue
    finally:
        if not callback_queue._over:  # noqa: SLF001 (same module): a bug prevented on_call_end; the shield needs its end
            callback_queue.end({}, ConversationStateSnapshot(user="listening", agent="idle"), cancelled=True)
