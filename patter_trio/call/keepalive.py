"""Notices a carrier that is gone without a word: TCP alone notices it only when there is something to send to it."""

from collections.abc import Callable
from typing import Final

import trio

from patter_trio.net.websocket import WebSocket

PING_AFTER_S: Final = 10.0
"""Seconds without a frame of the carrier, which sends fifty a second, after which it is pinged; after as many again
without an answer it is gone."""


async def wait_until_dead(socket: WebSocket, wake: Callable[[], None]) -> None:
    """Ask a carrier that says nothing whether it is there, and return when it does not answer.

    Args:
        socket: the carrier's.
        wake: has the socket's writer look at it.
    """
    while True:
        heard = socket.heard_at
        await trio.sleep_until(heard + PING_AFTER_S)
        if socket.heard_at > heard:
            continue
        socket.ping()
        wake()
        await trio.sleep_until(heard + 2 * PING_AFTER_S)
        if socket.heard_at <= heard:
            return
