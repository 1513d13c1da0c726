"""Detects a carrier that vanished without closing its socket; TCP alone notices that only when something is sent."""

from collections.abc import Callable
from typing import Final

import trio

from patter_trio.net.media_socket import MediaSocket

# Judged: five hundred missing frames are not a jitter of the network, and a vanished carrier is noticed within
# about 20 s (docs/robustness.md).
PING_AFTER_S: Final = 10.0
"""Seconds without a frame after which the carrier is pinged; it normally sends fifty frames a second.

After the same time again without any frame, the carrier counts as gone.
"""


async def wait_until_dead(socket: MediaSocket, wake: Callable[[], None]) -> None:
    """Send pings to a silent carrier, and return when an answer is overdue.

    Args:
        socket: the carrier's socket.
        wake: wakes the task that writes to the socket.
    """
    while True:
        heard = socket.heard_at
        # One wake-up per period, not one per frame: the reader only notes the time of each frame.
        await trio.sleep_until(heard + PING_AFTER_S)
        if socket.heard_at > heard:
            continue
        # Queued, not sent: only the writer writes to the carrier's socket.
        socket.ping()
        wake()
        # Any frame counts as the answer, not only a pong.
        await trio.sleep_until(heard + 2 * PING_AFTER_S)
        if socket.heard_at <= heard:
            return
