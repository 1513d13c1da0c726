"""Connections only to addresses that a :class:`~patter_trio.net.address_guard.Guard` has judged.

Besides ``httpx_client.py``, this is the only module that imports httpx or httpcore when it is loaded.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import httpcore
import httpx
import trio

from patter_trio.net.address_guard import AddressRefused, Guard
from patter_trio.net.threads import clock_held

ATTEMPT_INTERVAL_S: Final = 0.25
"""Seconds until the next address is tried in parallel with one that does not answer (RFC 8305, section 5)."""

Network = httpcore.AsyncNetworkBackend


class GuardedNetwork(Network):
    """A network backend that looks names up, judges the addresses, and connects to one of those."""

    def __init__(self, guard: Guard, network: Network | None = None) -> None:
        self._guard = guard
        self._network = httpcore.TrioBackend() if network is None else network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's signature)
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to one of the host's addresses, if none of them is refused.

        Raises:
            AddressRefused: one of the addresses is refused.
            httpcore.ConnectError: the name is unknown, or no address answers.
            httpcore.ConnectTimeout: the lookup and the connection took too long.
        """
        try:
            # One limit for the lookup and all attempts together; httpcore gives the one for connecting.
            with trio.fail_after(math.inf if timeout is None else timeout):
                addresses = await _looked_up(host, port)
                # Judged between lookup and connection, without another lookup that could give another answer.
                self._guard.judge(host, addresses)
                return await self._first_of(addresses, port, local_address, socket_options)
        # The type of a backend's time-out: the connection pool expects it, and ``net/http.py`` translates it.
        except trio.TooSlowError as error:
            raise httpcore.ConnectTimeout from error

    async def _first_of(
        self, addresses: Sequence[str], port: int, local_address: str | None, socket_options: Any
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers; each one gets a head start over the next."""
        opened: list[httpcore.AsyncNetworkStream] = []
        errors: list[httpcore.ConnectError] = []

        async def attempt(address: str, failed: trio.Event) -> None:
            try:
                stream = await self._network.connect_tcp(
                    address, port, local_address=local_address, socket_options=socket_options
                )
            except httpcore.ConnectError as error:
                errors.append(error)
                # ``failed`` only wakes the loop below; whether anything was opened is read from ``opened``.
                failed.set()
            else:
                # Recorded before the cancellation, so that no open stream is forgotten.
                opened.append(stream)
                nursery.cancel_scope.cancel(reason="one address has answered")

        try:
            async with trio.open_nursery() as nursery:
                for address in addresses:
                    failed = trio.Event()
                    # A failure wakes the loop at once; a slow address keeps trying beside the next one.
                    nursery.start_soon(attempt, address, failed)
                    with trio.move_on_after(ATTEMPT_INTERVAL_S):
                        await failed.wait()
        except BaseException:
            # A later address may have answered before the cancellation arrived: leave no connection open.
            await _close(opened)
            raise
        if not opened:
            # The first error: that of the address which the resolver prefers.
            raise errors[0]
        # Two addresses may have answered in the same moment; the first one wins.
        await _close(opened[1:])
        return opened[0]

    async def connect_unix_socket(self, path: str, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        """Refuse to connect: URLs never lead to a Unix socket."""
        raise AddressRefused(f"requests must not go to a Unix socket, got {path}")

    async def sleep(self, seconds: float) -> None:
        """Sleep for ``seconds``."""
        await trio.sleep(seconds)


async def _looked_up(host: str, port: int) -> list[str]:
    try:
        with clock_held():  # trio looks names up in a thread: virtual time must not jump
            found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    # ``UnicodeError``: a name that IDNA cannot encode.
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(str(error)) from error
    # Each address once, in the resolver's order, which is the order of preference (RFC 6724).
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def _close(streams: Sequence[httpcore.AsyncNetworkStream]) -> None:
    for stream in streams:
        # Shielded, so that a cancelled call cannot leave it open, and cancelled inside, so that it does not wait.
        with trio.CancelScope(shield=True) as scope:
            scope.cancel(reason="closing a socket waits for nothing")
            await stream.aclose()


class GuardedTransport(httpx.AsyncBaseTransport):
    """The transport through which httpx sends requests over guarded connections; raises httpcore's errors."""

    def __init__(self, guard: Guard, **options: Any) -> None:
        self._pool = httpcore.AsyncConnectionPool(network_backend=GuardedNetwork(guard), **options)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, and return the head of its answer."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                request.method, url, headers=request.headers.raw, content=request.stream, extensions=request.extensions
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    """An answer's body. It iterates with httpcore's own iterator, which ends properly when it is cancelled."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __aiter__(self) -> Any:
        return aiter(self._answer.stream)  # type: ignore[arg-type]

    async def aclose(self) -> None:
        await self._answer.aclose()
