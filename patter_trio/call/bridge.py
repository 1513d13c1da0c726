"""Two calls whose parties hear each other: the bridge between them, and the end of it in each call.

The audio passes from the reader of one leg to the writer of the other, as it comes. Neither call owns the other: each
ends when its own party leaves, and that ends the bridge, and with it the other call.
"""

from collections.abc import Callable
from typing import Protocol

import trio


class Bridge:
    """The connection of two parties, until one of them leaves."""

    def __init__(self) -> None:
        self.over: trio.Event = trio.Event()

    def __repr__(self) -> str:
        return f"<Bridge{', over' if self.over.is_set() else ''}>"


class Party(Protocol):
    """A call whose party can be connected with that of another call."""

    @property
    def can_join(self) -> bool:
        """True while the party is there and the conversation with the agent goes on."""

    def join(self, bridge: Bridge, pass_on: Callable[[bytes], None]) -> None:
        """End the conversation with the agent, and pass the party's audio on from here on."""

    def hear(self, audio: bytes) -> None:
        """Play audio of the other party, mu-law; never waits."""


def connect(first: Party, second: Party) -> bool:
    """Connect two parties; return False if one of them has just left."""
    if not (first.can_join and second.can_join):
        return False
    # Without an await, so that no party is connected with one that has left.
    bridge = Bridge()
    first.join(bridge, second.hear)
    second.join(bridge, first.hear)
    return True


class BridgeEnd:
    """The end of a bridge that belongs to one call; without a bridge it does nothing."""

    def __init__(self) -> None:
        self._bridge: Bridge | None = None
        self._pass_on: Callable[[bytes], None] | None = None

    def __repr__(self) -> str:
        return f"<BridgeEnd {self._bridge!r}>"

    @property
    def was_joined(self) -> bool:
        """True from the connection on."""
        return self._bridge is not None

    @property
    def is_up(self) -> bool:
        """True while both parties hear each other."""
        return self._bridge is not None and not self._bridge.over.is_set()

    def join(self, bridge: Bridge, pass_on: Callable[[bytes], None]) -> None:
        """Begin to pass audio on."""
        self._bridge, self._pass_on = bridge, pass_on

    def pass_on(self, audio: bytes) -> bool:
        """Pass audio of the party on; return False if there is nobody to hear it."""
        if self._pass_on is None or not self.is_up:
            return False
        self._pass_on(audio)
        return True

    def end(self) -> None:
        """End the bridge, and so both calls."""
        if self._bridge is not None:
            self._bridge.over.set()

    async def last(self, until: float) -> None:
        """Wait for the end of the bridge, and end it at ``until``."""
        if self._bridge is not None:
            # The limit of the call holds for the bridge as well: nobody here hears whether the two still talk.
            with trio.CancelScope(deadline=until):
                await self._bridge.over.wait()
            self.end()
