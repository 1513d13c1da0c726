"""The socket of a media stream, as a call uses it: a carrier's WebSocket, or one within this process."""

from collections.abc import Callable
from typing import Protocol


class MediaSocket(Protocol):
    """A socket that carries the messages of one media stream.

    One task receives and another one sends. The errors are those of :class:`~patter_trio.net.websocket.WebSocket`.
    """

    @property
    def heard_at(self) -> float:
        """The instant of the peer's newest frame."""

    @property
    def pending(self) -> object:
        """True in a condition if frames of the socket's own wait to be sent."""

    def share_sending(self, wake: Callable[[], None]) -> None:
        """Let the sending task send the socket's own frames, too; ``wake`` wakes it."""

    async def receive(self) -> str | bytes:
        """Return the next message.

        Raises:
            SocketClosed: no more come.
        """

    async def send(self, message: str) -> None:
        """Send a message.

        Raises:
            SocketClosed: nothing can be sent any more.
        """

    async def flush(self) -> None:
        """Send what is ``pending``.

        Raises:
            SocketClosed: nothing can be sent any more.
        """

    def ping(self) -> None:
        """Ask the peer for a frame, because it is silent; never waits."""

    async def say_close(self) -> None:
        """End the stream from the sending task; the receiving task sees the end when the peer answers.

        Raises:
            SocketClosed: nothing can be sent any more.
        """

    async def aclose(self, code: int = 1000, reason: str = "", *, close_timeout: float = ...) -> None:
        """Close within ``close_timeout`` seconds, even if cancelled."""
