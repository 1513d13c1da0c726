"""Where requests to a URL that somebody else may have written can go: to the internet, and not into our own network.

A server of ours stands where others cannot go: beside databases and consoles that ask nobody for a password, and on
clouds beside 169.254.169.254, which gives credentials away to whoever asks. So a URL must not decide alone.

* **What is checked is what is connected to.** The name is looked up once, here, within the opening of the connection; each
  address that came is judged by ``net/addresses.py``, and the connection goes to one of them by its number. A check
  before the request would be followed by another lookup, which may give another answer (DNS rebinding).
* **One bad address spoils the name.** A name that has one inside and one outside is a trick more often than a mistake.
* **TLS knows the name.** The certificate has to be the name's, as if nobody had looked at the address.
* **Connections are not shared** between guards: each has a pool of its own, since a connection that is open is not
  checked again.
* **No proxies.** A proxy does the lookup itself, so that there is nothing to be checked here.

A host may be let through by name: all its addresses are then good.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs
import httpcore
import httpx
import trio

from patter_trio.errors import ConfigurationError, ProviderError
from patter_trio.net.addresses import refusal
from patter_trio.net.threads import clock_held

STAGGER: Final = 0.25
"""Seconds until the next address is tried beside one that does not answer (RFC 8305, section 5)."""
OPTION: Final = "allow_private_hosts"

Network = httpcore.AsyncNetworkBackend


class AddressRefused(ProviderError):
    """A URL leads to where requests must not go; the message says where, and what would allow it."""


def host_of(url: httpx.URL | str) -> str:
    """Return the host of a URL as connections know it: in ASCII and lower case, without the dot at its end."""
    return httpx.URL(url).raw_host.decode("ascii").lower().rstrip(".")


def hosts_of(given: object) -> frozenset[str]:
    """Return what ``allow_private_hosts=`` means: the names in it, as connections know them.

    Raises:
        ConfigurationError: it is no list of names, or one of them is a URL or has a port.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ConfigurationError(f'{OPTION} must be a list of names such as ["localhost"], not {given!r}')
    return frozenset(_host(name) for name in given)


def _host(name: object) -> str:
    if isinstance(name, str) and not any(character in "/@?#*%" or character.isspace() for character in name):
        try:
            url = httpx.URL(scheme="http", host=name.removeprefix("[").removesuffix("]"))
            if (host := host_of(url)) and url.port is None:
                return host
        except httpx.InvalidURL:
            pass
    raise ConfigurationError(f"{OPTION} must have names or addresses without scheme, port or *, not {name!r}")


@attrs.frozen
class Guard:
    """What requests may be sent to: addresses of the internet, and the hosts in ``allowed``, wherever they are."""

    allowed: frozenset[str] = attrs.field(default=frozenset(), converter=hosts_of)

    def check(self, url: str) -> None:
        """Look at a URL early, before anything is asked: at an address, or a name that means this machine.

        Raises:
            AddressRefused: nothing can be sent there; a name that has yet to be looked up is refused later.
        """
        host = host_of(url)
        if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
            self.judge(host, ["127.0.0.1"])
        elif host.replace(".", "").isdigit() or ":" in host:
            self.judge(host, [host])

    def judge(self, host: str, addresses: Sequence[str]) -> None:
        """Make sure that a host may be connected to at all of its addresses.

        Raises:
            AddressRefused: it may not.
        """
        if host.lower().rstrip(".") in self.allowed:
            return
        for address in addresses:
            if why := refusal(address):
                has = "is" if address == host else f"has the address {address}, which is"
                raise AddressRefused(f'{host} {has} {why}; if it is meant, allow it: Patter({OPTION}=["{host}"])')


class GuardedNetwork(Network):
    """Opens connections: looks names up, judges what comes, and connects to that."""

    def __init__(self, guard: Guard, network: Network | None = None) -> None:
        self._guard = guard
        self._network = httpcore.TrioBackend() if network is None else network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's)
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to one of the host's addresses, none of which may be refused.

        Raises:
            AddressRefused: one of them is.
            httpcore.ConnectError: the name is not known, or nobody answers.
            httpcore.ConnectTimeout: all of it took too long.
        """
        try:
            with trio.fail_after(math.inf if timeout is None else timeout):
                addresses = await _looked_up(host, port)
                self._guard.judge(host, addresses)
                return await self._first_of(addresses, port, local_address, socket_options)
        except trio.TooSlowError as error:
            raise httpcore.ConnectTimeout from error

    async def _first_of(
        self, addresses: Sequence[str], port: int, local_address: str | None, socket_options: Any
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers; each that does not is given a short while alone."""
        opened: list[httpcore.AsyncNetworkStream] = []
        errors: list[httpcore.ConnectError] = []

        async def attempt(address: str, failed: trio.Event) -> None:
            try:
                stream = await self._network.connect_tcp(
                    address, port, local_address=local_address, socket_options=socket_options
                )
            except httpcore.ConnectError as error:
                errors.append(error)
                failed.set()
            else:
                opened.append(stream)
                nursery.cancel_scope.cancel(reason="one address has answered")

        try:
            async with trio.open_nursery() as nursery:
                for address in addresses:
                    failed = trio.Event()
                    nursery.start_soon(attempt, address, failed)
                    with trio.move_on_after(STAGGER):
                        await failed.wait()
        except BaseException:
            await _close(opened)
            raise
        if not opened:
            raise errors[0]
        await _close(opened[1:])
        return opened[0]

    async def connect_unix_socket(self, path: str, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        """Connect nowhere: no URL leads to one."""
        raise AddressRefused(f"requests do not go to the socket {path}")

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await trio.sleep(seconds)


async def _looked_up(host: str, port: int) -> list[str]:
    try:
        with clock_held():  # trio looks up in a thread
            found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(str(error)) from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def _close(streams: Sequence[httpcore.AsyncNetworkStream]) -> None:
    for stream in streams:
        with trio.CancelScope(shield=True) as scope:
            scope.cancel(reason="closing a socket waits for nothing")
            await stream.aclose()


class GuardedTransport(httpx.AsyncBaseTransport):
    """What httpx sends requests by, over connections that a guard has let through; raises httpcore's errors."""

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
    """An answer's body; what iterates is httpcore's own, so that it ends when it is cancelled."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __aiter__(self) -> Any:
        return aiter(self._answer.stream)  # type: ignore[arg-type]

    async def aclose(self) -> None:
        await self._answer.aclose()
