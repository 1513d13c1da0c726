"""The application's callbacks of one call: told in order, one at a time, by a task that the audio never waits for.

Two classes of event share one queue. Speech edges are lossy: they are worth little later, so that at most
:data:`EDGES_KEPT` of them wait and the oldest goes. All else (transcripts, the end) is kept.

After the call there is a bound for everything (``events/grace.py``). The task is shielded so that a cancelled server
still tells its calls' ends; the shield's deadline is set when the call is over, which :func:`observing` makes sure of.
"""

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import trio

from patter_trio.events.grace import Bounds, Patience
from patter_trio.events.payloads import EDGES, ConversationStateSnapshot, seen_state
from patter_trio.user_code import invoke
from patter_trio.user_code.signatures import steers

EDGES_KEPT: Final = 256
KEPT: Final = 4096
"""Most events of the kept class in the queue: more than an hour of talk behind one callback that never returns. The
call's end has a place beside them."""

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
    def patience(self) -> Patience:
        """Which bound holds for it after the call."""
        return "edges" if self.lossy else "end" if self.name == "call_end" else "kept"


class Observers:
    """The callbacks of one call; ``bounds`` is how long they may run on after it."""

    def __init__(self, call_id: str, find: Find, bounds: Bounds | None = None) -> None:
        self._call_id = call_id
        self._find = find
        self._queue: deque[_Told] = deque()
        self._lossy = 0
        self._wake = trio.Event()
        self._over = False
        self._bounds = Bounds() if bounds is None else bounds
        self.control: object = None
        """The call's, for the callbacks that take it."""
        self._steering: dict[str, tuple[Callable[..., Any], bool]] = {}
        """Whether a callback takes it, by name: a signature is read once, and a callback can be replaced."""
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
        if len(self._queue) - self._lossy >= KEPT and not lossy and name != "call_end":
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
        self._bounds.begin(cancelled=cancelled)
        self._wake.set()

    async def deliver(self) -> None:
        """Tell what is queued until the call's end was told, or the bounds are over."""
        with self._bounds.within("end", shield=True) as shield:
            while self._queue or not self._over:
                if not self._queue:
                    self._wake = trio.Event()
                    await self._wake.wait()
                    continue
                told = self._queue.popleft()
                self._lossy -= told.lossy
                if told.lossy and self._bounds.over("edges"):
                    self.dropped += 1
                    continue
                with self._bounds.within(told.patience) as scope:
                    await self._call(told)
                if scope.cancelled_caught:
                    _log.warning("call %s: on_%s was cancelled: its time was over", self._call_id, told.name)
        if shield.cancelled_caught:
            _log.warning("call %s: callbacks were still running when their time was over", self._call_id)

    async def _call(self, told: _Told) -> None:
        callback = self._find("on_" + told.name)
        if callback is None:
            return
        token = seen_state.set(told.state)
        try:
            await invoke.call(callback, copied(told.payload), *self._control_for(told.name, callback))
        except invoke.ApplicationError as error:
            _log.warning("call %s: %s: %s", self._call_id, span_event(told.name), error, exc_info=error.__cause__)
        finally:
            seen_state.reset(token)

    def _control_for(self, name: str, callback: Callable[..., Any]) -> tuple[object, ...]:
        known, takes = self._steering.get(name, (None, False))
        if known is not callback:
            takes = steers(callback)
            self._steering[name] = (callback, takes)
        return (self.control,) if takes and self.control is not None else ()


def span_event(name: str) -> str:
    """Return what a speech edge is called on a span, and in the log."""
    return f"patter.event.{_SPAN_EVENTS.get(name, name)}"


def copied(value: Any) -> Any:
    """Return a payload's copy, so that no callback changes what another one sees."""
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


@asynccontextmanager
async def observing(nursery: trio.Nursery, observers: Observers) -> AsyncIterator[Observers]:
    """Deliver a call's events in ``nursery``, which outlives the call, for as long as :meth:`Observers.end` allows."""
    nursery.start_soon(observers.deliver)
    try:
        yield observers
    finally:
        if not observers._over:  # noqa: SLF001 (same module): the call ended without its end being told
            observers.end({}, ConversationStateSnapshot(user="listening", agent="idle"), cancelled=True)
