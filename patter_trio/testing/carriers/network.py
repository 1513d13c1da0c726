"""The network of a simulated line, between carrier and agent's server: delays, stalls and altered messages.

It is two queues, each message with the instant at which it arrives: one task empties the way up, in order, and is the
only one that writes to the socket; the reader takes what comes down.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

import trio

from patter_trio.net.websocket import SocketClosed, WebSocket
from patter_trio.testing.flat_nursery import open_flat_nursery

Alter = Callable[[str], Sequence[str | bytes]]
"""A function that returns what is sent instead of a message: one message, several, or none."""

# 50 frames a second: a server that lets more wait does not read at all, and the call is dropped with a fault.
MAX_MESSAGES_IN_FLIGHT: Final = 8192
"""Maximum number of messages in flight in each direction: more than two minutes of the caller's audio."""


class Network:
    """Both ways of one call's media streams, one stream after another.

    Args:
        up_delay: returns the seconds that it takes towards the server.
        down_delay: returns the seconds that it takes from the server.
    """

    # Functions, because a test may change the delays in the middle of a call.
    def __init__(self, up_delay: Callable[[], float], down_delay: Callable[[], float]) -> None:
        self._up_delay = up_delay
        self._down_delay = down_delay
        self._alter: Alter = _unaltered
        self._sends_again = self._reads_again = -math.inf
        self.open_stream()

    def __repr__(self) -> str:
        return f"<Network, {self.waiting} messages on their way up>"

    @property
    def waiting(self) -> int:
        """The number of messages that have not been sent."""
        return self._outbox.statistics().current_buffer_used

    def open_stream(self) -> None:
        """Begin another stream: nothing of the one before is on its way."""
        self._outbox, self._outgoing = trio.open_memory_channel[tuple[float, str | None]](MAX_MESSAGES_IN_FLIGHT)

    def queue(self, message: str | None) -> None:
        """Take a message for the server; "" sends what the socket itself has pending, None ends the connection.

        Raises:
            trio.WouldBlock: too many wait, so the server has stopped reading.
        """
        self._outbox.send_nowait((trio.current_time() + self._up_delay(), message))

    def stall(self, seconds: float, *, sending: bool, receiving: bool) -> None:
        """Carry nothing for ``seconds``; messages sent meanwhile arrive afterwards, all at once."""
        if sending:
            self._sends_again = trio.current_time() + seconds
        if receiving:
            self._reads_again = trio.current_time() + seconds

    def alter_messages(self, alter: Alter) -> None:
        """Pass every message to the server through a function from now on."""
        self._alter = alter

    async def send_all(self, socket: WebSocket, sent: Callable[[int], None], ended: Callable[[], None]) -> None:
        """Send the queued messages, each when it has been carried; the only task that writes to the socket.

        Args:
            socket: the media socket.
            sent: called behind each message, with the number of those that have been sent.
            ended: called at the end of the connection, behind all that was sent before.
        """
        count = 0
        try:
            async for due, message in self._outgoing:
                # Only if there is something to wait for: a checkpoint for each message would let
                # tasks at the same instant swap places.
                if max(due, self._sends_again) > trio.current_time():
                    await trio.sleep_until(max(due, self._sends_again))
                if message is None:
                    ended()
                elif message:
                    for one in self._alter(message):
                        await socket.send(one)
                    count += 1
                    sent(count)
                else:
                    await socket.flush()
        except SocketClosed:
            pass  # the reader gets the same error, with the reason

    async def receive_all(
        self, socket: WebSocket, take: Callable[[str | bytes | None], None], closed: Callable[[int], None]
    ) -> None:
        """Hand over each message of the server when it has been carried, and None for the end of the connection.

        Args:
            socket: the media socket.
            take: called with each message.
            closed: called with the code with which the server has closed the socket, as soon as it does.
        """
        arriving, arrived = trio.open_memory_channel[tuple[float, str | bytes | None]](MAX_MESSAGES_IN_FLIGHT)
        # Leaving closes the channel: the task takes what is on its way and ends.
        async with open_flat_nursery() as nursery, arriving:
            nursery.start_soon(_arrive, arrived, take)
            message: str | bytes | None = ""
            while message is not None:
                try:
                    message = await socket.receive()
                # The end of the connection travels like a message, and takes as long.
                except SocketClosed as error:
                    closed(error.code)
                    message = None
                # After the receive: a stall may have begun while this task was waiting for the message.
                if self._reads_again > trio.current_time():
                    await trio.sleep_until(self._reads_again)
                if (delay := self._down_delay()) == 0:
                    # Directly, not through the channel, so that events at equal instants keep their order.
                    take(message)
                else:
                    await arriving.send((trio.current_time() + delay, message))


async def _arrive(
    arrived: trio.MemoryReceiveChannel[tuple[float, str | bytes | None]], take: Callable[[str | bytes | None], None]
) -> None:
    async for due, message in arrived:
        await trio.sleep_until(due)
        take(message)


def _unaltered(message: str) -> Sequence[str | bytes]:
    return (message,)
