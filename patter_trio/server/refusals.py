"""The log of refused requests and connections: the first of a kind from a peer at once, the others by their number.

Anybody can send what is refused, as often as the line carries. A line for each would fill the disk and hide the lines
about calls.
"""

import logging
import math
from contextvars import ContextVar
from typing import Final

import attrs
import trio

from patter_trio.phone_numbers import shown_id

# Judged: an operator who has just changed a setting sees within a minute whether it helped.
LOG_INTERVAL_S: Final = 60.0
"""Seconds between two lines about the same kind of refusal from the same peer."""
# Judged: more than a carrier and its proxies cause, and 40 kB. Beyond it, all others count as one.
MAX_REFUSED_KINDS: Final = 256
"""Largest number of pairs of peer and kind that are counted by themselves within an interval."""
# Judged: each names another call, and a carrier's network that is misconfigured shows in a few of them.
MAX_LINES_OF_CALLS: Final = 10
"""Lines within an interval about one kind of refused connection for calls, which may be those of strangers."""
OTHERS: Final = ("other peers", "")
"""The pair for all further ones."""

current_peer: ContextVar[str] = ContextVar("current_peer", default="this peer")
"""The address of the peer whose connection a task serves."""

_log = logging.getLogger("patter_trio.server")


def peer_of(stream: trio.abc.Stream) -> str:
    """Return the address of a connection's peer, without the port; streams in memory have none."""
    socket = getattr(stream, "socket", None)
    if socket is None:
        return "this peer"
    try:
        name = socket.getpeername()
    # The peer has left already.
    except OSError:
        return "this peer"
    return str(name[0]) if isinstance(name, tuple) else "this peer"


@attrs.define
class _Count:
    """The refusals of one kind from one peer in the interval that ``began``: how many were logged, and how many not."""

    began: float = -math.inf
    logged: int = 0
    more: int = 0

    def is_over(self, now: float) -> bool:
        return now - self.began >= LOG_INTERVAL_S


class Refusals:
    """The refusals of one server. Time is an argument of :meth:`line`, which decides."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], _Count] = {}

    def __repr__(self) -> str:
        return f"<Refusals {sum(count.more for count in self._counts.values())} not logged>"

    def warn(self, kind: str, text: str = "", *, lines: int = 1) -> None:
        """Log a refusal of the current connection's peer.

        Args:
            kind: what was refused and why, without the id of a call.
            text: the line, if it says more than that.
            lines: number of lines within an interval.
        """
        line = self.line(current_peer.get(), kind, text or kind, trio.current_time(), lines=lines)
        if line is not None:
            _log.warning("%s", line)

    def warn_of_call(self, call_id: str, kind: str, *, is_awaited: bool) -> None:
        """Log the refusal of a connection for a call; of a call that waits for a stream, each one.

        Args:
            call_id: the id in the path, which anybody may have chosen; empty: it is not known.
            kind: as for :meth:`warn`.
            is_awaited: True if the call's media stream is awaited; strangers do not know its id.
        """
        # Cut and cleaned before it reaches the log.
        text = f"call {shown_id(call_id)}: {kind}" if call_id else kind
        if is_awaited:
            _log.warning("%s", text)
        else:
            self.warn(kind, text, lines=MAX_LINES_OF_CALLS)

    def line(self, peer: str, kind: str, text: str, now: float, *, lines: int = 1) -> str | None:
        """Return the line for a refusal; None after ``lines`` of them from this peer in :data:`LOG_INTERVAL_S`."""
        key = (peer, kind)
        if key not in self._counts and len(self._counts) >= MAX_REFUSED_KINDS:
            self._forget(now)
            if len(self._counts) >= MAX_REFUSED_KINDS:
                key, lines = OTHERS, 1
        count = self._counts.setdefault(key, _Count())
        if not count.is_over(now):
            if count.logged >= lines:
                count.more += 1
                return None
            count.logged += 1
            return text
        more = count.more
        self._counts[key] = _Count(now, logged=1)
        return f"{text} ({more} more like it from {key[0]} since the last such line)" if more else text

    def _forget(self, now: float) -> None:
        """Forget the counts whose interval is over, and log what they have left out."""
        for key, count in tuple(self._counts.items()):
            if count.is_over(now):
                del self._counts[key]
                if count.more:
                    peer, kind = key
                    what = kind or "refused"
                    _log.warning("%s (%d more like it from %s since the last such line)", what, count.more, peer)
