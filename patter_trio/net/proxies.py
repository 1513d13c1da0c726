"""Connections through the proxy in ``HTTPS_PROXY``, ``HTTP_PROXY`` or ``ALL_PROXY``, except for ``NO_PROXY``.

The rule is httpx's, so that a vendor's WebSocket takes the same route as its HTTP: ``wss`` follows ``HTTPS_PROXY`` and
``ws`` follows ``HTTP_PROXY``, either falls back to ``ALL_PROXY``, and ``NO_PROXY`` lists the hosts that are reached
directly. A test compares every answer with httpx's own. Only the method differs: a WebSocket needs a tunnel (RFC 6455,
section 4.1), so ``ws`` uses ``CONNECT``, too.

Errors and logs name a proxy by its origin: its URL may hold a password.
"""

# ruff: noqa: PLC0415 (importing httpx takes 0.1 s)

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from ssl import SSLContext
from typing import TYPE_CHECKING, Final
from urllib.request import getproxies

import trio

from patter_trio.errors import ProviderError, WireError
from patter_trio.net.http import origin_of, reason_of
from patter_trio.net.response_head import receive_head
from patter_trio.net.streams import closed_on_failure, start_tls

if TYPE_CHECKING:
    import httpx

DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
"""Default ports of proxies by scheme."""
# Any 2xx opens the tunnel (RFC 9110, section 9.3.6).
OK_STATUSES: Final = range(200, 300)
MAX_CREDENTIAL_BYTES: Final = 255
"""Longest user name or password that SOCKS can carry: one byte holds the length (RFC 1929)."""

_HTTP_SCHEMES: Final[Mapping[str, str]] = {"ws": "http", "wss": "https"}


def environment_proxy(url: str) -> str | None:
    """Return the proxy that the environment names for a URL; None: connect directly.

    Raises:
        ProviderError: a setting is not valid.
    """
    return choose_proxy(url, getproxies())


def choose_proxy(url: str, settings: Mapping[str, str]) -> str | None:
    """Return the proxy for a URL; None: connect directly.

    Args:
        url: the address of the server.
        settings: the environment's settings as :func:`urllib.request.getproxies` reads them.

    Raises:
        ProviderError: ``NO_PROXY`` has an entry that is not a host.
    """
    import httpx

    # The settings are named after HTTP's schemes: there is no WSS_PROXY.
    scheme, _, rest = url.partition("://")
    target = httpx.URL(f"{_HTTP_SCHEMES.get(scheme, scheme)}://{rest}")
    # Both are read before the list: an entry may switch off one of them and leave the other.
    proxies = {name: settings.get(name, "") for name in (target.scheme, "all")}
    for entry in filter(None, (entry.strip() for entry in settings.get("no", "").split(","))):
        if entry == "*":
            return None
        pattern = _pattern(entry)
        if pattern.host in ("", "*") and pattern.port is None:  # "https://" or "all://" switches the setting off
            if pattern.scheme == target.scheme:
                return None
            proxies[pattern.scheme] = ""
        elif _covers(pattern, target):
            return None
    # The scheme's own setting first, as in httpx and in curl.
    proxy = proxies[target.scheme] or proxies["all"]
    if not proxy:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _pattern(entry: str) -> "httpx.URL":
    """Return an entry of ``NO_PROXY`` as a URL: ``all`` stands for any scheme, a leading ``*`` for any subdomain."""
    import httpx

    if "://" in entry:
        text = entry
    # As in httpx, a network such as 10.0.0.0/8 covers only its first address: the mask becomes the path of the URL.
    elif (version := _ip_version(entry.partition("/")[0])) is not None:
        text = f"all://[{entry}]" if version == 6 else f"all://{entry}"  # noqa: PLR2004 (IPv6)
    else:
        # ``*`` in front: "example.com" covers its subdomains, too.
        text = f"all://{entry}" if entry.lower() == "localhost" else f"all://*{entry}"
    try:
        return httpx.URL(text)
    # A setting of the user, so the error names the entry.
    except httpx.InvalidURL as error:
        raise ProviderError(f"NO_PROXY must be a list of hosts, got the entry {entry!r}: {error}") from error


def _ip_version(host: str) -> int | None:
    try:
        return ip_address(host).version
    # Not an address, and so a name.
    except ValueError:
        return None


def _covers(pattern: "httpx.URL", asked: "httpx.URL") -> bool:
    if pattern.scheme not in ("all", asked.scheme) or pattern.port not in (None, asked.port):
        return False
    host = pattern.host
    if host == "*":
        return True
    if host.startswith("*."):
        # This is how an entry ".example.com" arrives: it covers the subdomains, but not example.com itself.
        return re.fullmatch(f".+\\.{re.escape(host[2:])}", asked.host) is not None
    if host.startswith("*"):
        return asked.host == host[1:] or asked.host.endswith(f".{host[1:]}")
    return asked.host == host


async def open_tunnel(proxy: str, host: str, port: int, context: SSLContext) -> trio.abc.Stream:
    """Connect to a proxy, and return the stream to ``host`` that goes through it.

    Args:
        proxy: its URL, with credentials if it needs any: http, https, socks5 or socks5h.
        host: the server's host; the proxy looks the name up.
        port: the server's port.
        context: for TLS to the proxy itself, if its URL is https.

    Raises:
        ProviderError: the proxy is not valid, cannot be reached, or refuses the connection.
    """
    import httpx

    try:
        url = httpx.URL(proxy)
    except httpx.InvalidURL:  # not quoted: it may hold the end of a password that contains a slash
        raise ProviderError("the proxy that the environment names must have a valid URL") from None
    who = f"the proxy {origin_of(str(url))}"
    with _named(who):
        if url.scheme not in DEFAULT_PORTS:
            raise ProviderError(f"{who} must have the scheme http, https, socks5 or socks5h")
        speak = _request_tunnel if url.scheme in ("http", "https") else _request_socks
        # Errors of this stream are the proxy's; the caller does TLS to the server on top of it.
        stream: trio.abc.Stream = await trio.open_tcp_stream(url.host, url.port or DEFAULT_PORTS[url.scheme])
        if url.scheme == "https":
            stream = await start_tls(stream, context, url.host)
        async with closed_on_failure(stream):
            await speak(stream, url, host, port, who)
    return stream


@contextmanager
def _named(who: str) -> Iterator[None]:
    """Attribute failures of the block to the proxy, so that nobody looks for them at the vendor."""
    try:
        yield
    # ``BrokenResourceError`` is not an ``OSError``: it comes from TLS to the proxy, and from a connection that ended
    # early.
    except (OSError, trio.BrokenResourceError) as error:
        raise ProviderError(f"{who} could not be reached: {reason_of(error)}") from error
    # A proxy that does not speak HTTP is the proxy's fault, not the vendor's.
    except WireError as error:
        raise ProviderError(f"{who}: {error}") from error


def basic_credentials(user: str, password: str) -> str:
    """Return the value of an ``Authorization`` or ``Proxy-Authorization`` header (RFC 7617)."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


async def _request_tunnel(stream: trio.abc.Stream, proxy: "httpx.URL", host: str, port: int, who: str) -> None:
    # IDNA, because CONNECT and the ``Host`` header are ASCII. A host in ASCII passes as it is: an address has no IDNA
    # form.
    name = host.encode("idna").decode() if not host.isascii() else host
    authority = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", "User-Agent: patter-trio"]
    if proxy.username or proxy.password:
        lines.append(f"Proxy-Authorization: {basic_credentials(proxy.username, proxy.password)}")
    await stream.send_all("\r\n".join([*lines, "", ""]).encode("ascii"))
    # WARNING: not one byte more than the head may be taken: what follows belongs to the server.
    head = await receive_head(stream)
    if head.status not in OK_STATUSES:
        raise ProviderError(f"{who} refused the tunnel to {authority}: status {head.status}")
    if head.rest:  # with TLS and WebSockets the client always speaks first
        raise ProviderError(f"{who} must not send data before the client does, through the tunnel to {authority}")


async def _request_socks(stream: trio.abc.Stream, proxy: "httpx.URL", host: str, port: int, who: str) -> None:
    """Negotiate SOCKS5 (RFC 1928), with a user name and password (RFC 1929) if the URL has them."""
    try:
        from socksio import ProtocolError, socks5  # optional dependency
    except ModuleNotFoundError as error:
        raise ProviderError(f"{who} needs the package socksio: pip install 'patter-trio[socks]'") from error
    user, password = proxy.username.encode(), proxy.password.encode()
    # Checked here: socksio would write a wrong length byte, and the proxy would answer with an error that misleads.
    if max(len(user), len(password)) > MAX_CREDENTIAL_BYTES:
        raise ProviderError(f"{who} must have a user name and password of {MAX_CREDENTIAL_BYTES} bytes at most")
    wanted = socks5.SOCKS5AuthMethod.USERNAME_PASSWORD if user else socks5.SOCKS5AuthMethod.NO_AUTH_REQUIRED
    # Each answer is read completely before it is decoded: socksio accepts only whole answers.
    try:
        await stream.send_all(socks5.SOCKS5AuthMethodsRequest([wanted]).dumps())
        offer = socks5.SOCKS5AuthReply.loads(await _receive_exactly(stream, 2))
        # One method was offered, so an answer with another means that the proxy accepts none.
        if offer.method != wanted:
            raise ProviderError(f"{who} does not accept {'this user name' if user else 'clients without a user name'}")
        if user:
            await stream.send_all(socks5.SOCKS5UsernamePasswordRequest(user, password).dumps())
            if not socks5.SOCKS5UsernamePasswordReply.loads(await _receive_exactly(stream, 2)).success:
                raise ProviderError(f"{who} refused the user name or password")
        # The name, not an address: the proxy may see a network that this machine does not.
        target = (host.encode("idna"), port)
        await stream.send_all(socks5.SOCKS5CommandRequest.from_address(socks5.SOCKS5Command.CONNECT, target).dumps())
        answer = socks5.SOCKS5Reply.loads(await _receive_socks_reply(stream))
    # The proxy does not speak SOCKS5; a ProviderError from above passes.
    except ProtocolError as error:
        raise ProviderError(f"{who} must speak SOCKS5: {error}") from error
    if answer.reply_code != socks5.SOCKS5ReplyCode.SUCCEEDED:
        reason = answer.reply_code.name.lower().replace("_", " ")
        raise ProviderError(f"{who} refused the connection to {host}:{port}: {reason}")


async def _receive_socks_reply(stream: trio.abc.Stream) -> bytes:
    """Read the reply to a command: its length depends on the type of the address in it (RFC 1928, section 6)."""
    # Five bytes: four of the fixed part, and the first of the address, which gives the length of a name.
    start = await _receive_exactly(stream, 5)
    address_bytes = {1: 4, 3: start[4] + 1, 4: 16}.get(start[3])
    if address_bytes is None:
        raise WireError(f"the address type of SOCKS5 must be 1, 3 or 4, got {start[3]}")
    # The first byte has been read; the port has two.
    return start + await _receive_exactly(stream, address_bytes - 1 + 2)


async def _receive_exactly(stream: trio.abc.Stream, count: int) -> bytes:
    """Read exactly ``count`` bytes: what follows belongs to the server behind the proxy."""
    data = b""
    while len(data) < count:
        # At most what is missing: the stream belongs to the server after the last byte.
        piece = await stream.receive_some(count - len(data))
        if not piece:
            raise trio.BrokenResourceError("the connection ended before the answer did")
        data += piece
    return data
