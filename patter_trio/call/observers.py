"""The application's callbacks of one call: told in order, one at a time, by a task that the audio never waits for.

Two classes of event share one queue. Speech edges are lossy: they are worth little later, so that at most
:data:`EDGES_KEPT` of them wait and the oldest goes. All else (transcripts, the end) is kept.

After the call there is a bound for everything: :data:`BACKLOG` seconds for edges, :data:`LAST` more seconds
(:data:`LAST_CANCELLED` when the server itself is being cancelled) for what is kept, the second half of them for
``on_call_end`` alone, so that no other callback can take its turn away. The task is shielded so that a cancelled server
still tells its calls' ends; the shield's deadline is set when the call is over, which :func:`observing` makes sure of.
"""

import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import trio

from patter_trio.call import usercode
from patter_trio.events import EDGES, ConversationStateSnapshot, seen_state

EDGES_KEPT: Final = 256
KEPT: Final = 4096
"""Most events of the kept class in the queue: more than an hour of talk behind one callback that never returns."""
BACKLOG: Final = 2.0
LAST: Final = 30.0
LAST_CANCELLED: Final = 5.0

Find = Callable[[str], Callable[..., Any] | None]
"""Returns the application's callback of a name such as ``on_transcript``, as it is at this moment."""

_log = logging.getLogger("patter_trio.events")
_SPAN_EVENTS: Final = {"llm_token": "llm_first_token", "audio_out": "tts_first_audio"}


@attrs.frozen
class _Told:
    name: str
    payload: Mapping[str, Any]
    state: ConversationStateSnapshot
    lossy: bool

    @property
    def patience(self) -> str:
        """Which bound holds for it after the call."""
        return "edges" if self.lossy else "end" if self.name == "call_end" else "kept"


class Observers:
    """The callbacks of one call."""

    def __init__(self, call_id: str, find: Find) -> None:
        self._call_id = call_id
        self._find = find
        self._queue: deque[_Told] = deque()
        self._lossy = 0
        self._wake = trio.Event()
        self._over = False
        self._last = LAST
        self._until = {"edges": math.inf, "kept": math.inf, "end": math.inf}
        self._shield = trio.CancelScope(shield=True)
        self._running: tuple[str, trio.CancelScope] | None = None
        self.dropped: int = 0
        self.lost: int = 0
        """Events of the kept class for which there was no room."""

    def __repr__(self) -> str:
        return f"<Observers of {self._call_id}, {len(self._queue)} waiting, {self.dropped} dropped>"

    def tell(self, name: str, payload: Mapping[str, Any], state: ConversationStateSnapshot) -> None:
        """Queue an event for the callback ``on_<name>``; does nothing where there is none."""
        if self._over or self._find("on_" + name) is None:
            return
        lossy = name in EDGES
        if lossy and self._lossy == EDGES_KEPT:
            self._drop()
        if len(self._queue) - self._lossy == KEPT and not lossy:
            if not self.lost:
                _log.warning("call %s: a callback does not return; %s is lost", self._call_id, name)
            self.lost += 1
            return
        self._lossy += lossy
        self._queue.append(_Told(name, payload, state, lossy))
        self._wake.set()

    def _drop(self) -> None:
        oldest = next(index for index, told in enumerate(self._queue) if told.lossy)
        del self._queue[oldest]
        self._lossy -= 1
        if not self.dropped:
            _log.warning("call %s: callbacks cannot keep up; speech edges are being dropped", self._call_id)
        self.dropped += 1

    def end(self, payload: Mapping[str, Any], state: ConversationStateSnapshot, *, cancelled: bool) -> None:
        """Queue ``on_call_end``, the last event, and start the bounds."""
        self.tell("call_end", payload, state)
        self._over = True
        if cancelled:
            self._last = LAST_CANCELLED
        self._bound(trio.current_time() + BACKLOG)
        self._wake.set()

    def hurry(self) -> None:
        """The server is being cancelled: what is kept has only :data:`LAST_CANCELLED` seconds from here."""
        self._last = LAST_CANCELLED
        if self._over and self._shield.deadline > trio.current_time() + LAST_CANCELLED:
            self._bound(trio.current_time())

    def _bound(self, edges: float) -> None:
        end = edges + self._last
        self._until = {"edges": edges, "kept": end - self._last / 2, "end": end}
        self._shield.deadline = end
        if self._running is not None:
            patience, scope = self._running
            scope.deadline = self._until[patience]

    async def deliver(self) -> None:
        """Tell what is queued until the call's end was told, or the bounds are over."""
        with self._shield:
            while self._queue or not self._over:
                if not self._queue:
                    self._wake = trio.Event()
                    await self._wake.wait()
                    continue
                told = self._queue.popleft()
                self._lossy -= told.lossy
                if told.lossy and trio.current_time() >= self._until["edges"]:
                    self.dropped += 1
                    continue
                with trio.CancelScope(deadline=self._until[told.patience]) as scope:
                    self._running = (told.patience, scope)
                    await self._call(told)
                self._running = None
                if scope.cancelled_caught:
                    _log.warning("call %s: on_%s was cancelled: its time was over", self._call_id, told.name)
        if self._shield.cancelled_caught:
            _log.warning("call %s: callbacks were still running when their time was over", self._call_id)

    async def _call(self, told: _Told) -> None:
        callback = self._find("on_" + told.name)
        if callback is None:
            return
        token = seen_state.set(told.state)
        try:
            await usercode.call(callback, _copied(told.payload))
        except usercode.ApplicationError as error:
            span = f"patter.event.{_SPAN_EVENTS.get(told.name, told.name)}"
            _log.warning("call %s: %s: %s", self._call_id, span, error, exc_info=error.__cause__)
        finally:
            seen_state.reset(token)


def _copied(value: Any) -> Any:
    """Return a payload's copy, so that no callback changes what another one sees."""
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


@asynccontextmanager
async def observing(nursery: trio.Nursery, observers: Observers) -> AsyncIterator[Observers]:
    """Deliver a call's events in ``nursery``, which outlives the call, for as long as :meth:`Observers.end` allows."""
    nursery.start_soon(observers.deliver)
    try:
        yield observers
    finally:
        if not observers._over:  # noqa: SLF001 (same module): the call ended without its end being told
            observers.end({}, ConversationStateSnapshot(user="listening", agent="idle"), cancelled=True)
