"""The limits on the duration of a call and on the silence in it."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Never

import trio

from patter_trio.conversation.inputs import HangUp


class Limits:
    """A watchdog of one call: hangs up when the call has lasted, or been silent, for too long."""

    def __init__(self) -> None:
        self._silent_since: float | None = None
        """When both sides fell silent; None while the caller or the agent speaks, or the agent thinks."""
        self._on_hold = False
        self._ends_at = math.inf

    def __repr__(self) -> str:
        return f"<Limits, silent since {self._silent_since}>"

    @property
    def ends_at(self) -> float:
        """The instant at which the call has lasted for too long; infinite before it has begun, and without a limit."""
        return self._ends_at

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Count no silence within a block, in which the caller is on hold."""
        self._on_hold = True
        try:
            yield
        finally:
            self._on_hold = False
            if self._silent_since is not None:
                self._silent_since = trio.current_time()

    @property
    def silent_since(self) -> float | None:
        """The instant at which both sides fell silent; None while either speaks, the agent thinks, or on hold."""
        return None if self._on_hold else self._silent_since

    def state_is(self, user: str, agent: str) -> None:
        """Follow the public states of caller and agent."""
        # "thinking" of the caller is an utterance that a turn detector holds open: the caller may be about to go on.
        if user not in ("listening", "away") or agent != "idle":
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = trio.current_time()

    def key_pressed(self) -> None:
        """Count the silence anew, because the caller has pressed a key."""
        if self._silent_since is not None:
            self._silent_since = trio.current_time()

    async def keep(self, silence: float | None, duration: float | None, post: Callable[[HangUp], None]) -> Never:
        """Post a hang-up after ``silence`` seconds of silence, or ``duration`` seconds from now; None means never."""
        silence_limit = silence or math.inf
        over = self._ends_at = trio.current_time() + (duration or math.inf)
        while True:
            # Silence that begins while this task sleeps needs the whole time from then on, so waking up after that time
            # is early enough: state_is does not have to wake this task.
            silent = silence_limit + (trio.current_time() if self.silent_since is None else self.silent_since)
            if trio.current_time() >= min(silent, over):
                post(HangUp("completed" if over <= silent else "silence"))
                # One hang-up is enough. The task stays, because its return would close the backend.
                await trio.sleep_forever()
            await trio.sleep_until(min(silent, over))
