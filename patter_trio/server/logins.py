"""The logins of windows: each has an id in a cookie, lives in the server's memory, and ends with all that it has open.

A session ends at its logout, when it expires, and with the server. A copy of its cookie is worth nothing from then on,
and streams, exports and downloads that began with it break off in the same instant.
"""

import hashlib
import math
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

# Judged: a working day. A login then takes a second.
SESSION_S: Final = 12 * 3600
"""Seconds after which a session expires."""
# Judged: some dozens of people with several browsers each. Each session is some hundred bytes.
MAX_LOGINS: Final = 256
"""Most sessions at once; beyond, the oldest one ends."""
# As much as the token that it stands for (``secrets.token_urlsafe`` of its own).
_ID_BYTES: Final = 32


class Login:
    """A login.

    Args:
        ends_at: the instant at which it expires, on trio's clock.
    """

    def __init__(self, ends_at: float) -> None:
        self.ends_at: float = ends_at
        self._open: set[trio.CancelScope] = set()

    def __repr__(self) -> str:
        return f"<Login with {len(self._open)} open requests>"

    @contextmanager
    def lasting(self) -> Iterator[trio.CancelScope]:
        """Run a block until the session ends; the scope says whether it was cut off."""
        with trio.CancelScope(deadline=self.ends_at) as scope:
            self._open.add(scope)
            try:
                yield scope
            finally:
                self._open.discard(scope)

    def end(self) -> None:
        """End what is open; nothing more begins."""
        # For what was given before, such as a ticket: its time is over when it begins.
        self.ends_at = -math.inf
        for scope in tuple(self._open):
            scope.cancel(reason="the session is over")


class Logins:
    """The sessions of one server. Time is an argument, in seconds on trio's clock."""

    def __init__(self, limit: int = MAX_LOGINS) -> None:
        self._limit = limit
        # By a digest: how long the search for an id takes says nothing about the ids that exist.
        self._sessions: dict[bytes, Login] = {}

    def __repr__(self) -> str:
        return f"<Logins {len(self._sessions)}>"

    def begin(self, now: float) -> str:
        """Begin a session; return its id, the value of the cookie."""
        for key in [key for key, session in self._sessions.items() if session.ends_at <= now]:
            del self._sessions[key]
        while len(self._sessions) >= self._limit:
            # The oldest: a dict keeps the order in which sessions began.
            self._sessions.pop(next(iter(self._sessions))).end()
        value = secrets.token_urlsafe(_ID_BYTES)
        self._sessions[_key(value)] = Login(now + SESSION_S)
        return value

    def live(self, value: str, now: float) -> Login | None:
        """Return the session with an id; None: there is none, or it is over."""
        session = self._sessions.get(_key(value)) if value else None
        return session if session is not None and now < session.ends_at else None

    def end(self, value: str) -> None:
        """End the session with an id, if there is one."""
        session = self._sessions.pop(_key(value), None)
        if session is not None:
            session.end()


def _key(value: str) -> bytes:
    # Headers may have any character.
    return hashlib.sha256(value.encode(errors="replace")).digest()
