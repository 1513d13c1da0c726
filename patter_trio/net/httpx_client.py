"""httpx in the form that ``net/http.py`` uses.

This module is loaded when the shared client opens, because importing httpx takes 0.1 s.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ssl import SSLContext
from typing import Any, Final

import httpcore
import httpx

from patter_trio.net.address_guard import Guard
from patter_trio.net.guarded import GuardedTransport

# Judged. httpx's default of 5 s would close the connection while the caller speaks.
KEEP_ALIVE_S: Final = 60.0
"""Seconds that an idle connection is kept: longer than a turn of a conversation."""
# Judged. The size is not a bound for requests: it only says how many connections are kept warm.
MAX_IDLE_CONNECTIONS: Final = 100
"""Most idle connections that are kept: one for each call that is being answered at the same moment."""

Answerer = Callable[[str, str, Mapping[str, str], bytes], Awaitable[tuple[int, Mapping[str, str], bytes]]]
"""Answers a request within this process: from method, URL, headers (names in lower case) and body to status, headers
and JSON.

A ``ConnectionError`` stands for a connection that broke after the request was sent; a ``ConnectionRefusedError``, for a
connection that could not be made.
"""
StreamError = httpx.StreamError
BROKEN_CONNECTION_ERRORS: Final = (httpx.HTTPError, httpcore.NetworkError, httpcore.ProtocolError)
"""Errors of a broken connection; guarded connections raise httpcore's own."""
REQUEST_ERRORS: Final = (*BROKEN_CONNECTION_ERRORS, httpcore.TimeoutException)
"""All errors that a request can raise."""
# Both libraries' types, because guarded connections raise httpcore's own.
TIMEOUT_ERRORS: Final = (httpx.TimeoutException, httpcore.TimeoutException)
CONNECT_ERRORS: Final = (httpx.ConnectError, httpcore.ConnectError)


def new_client(guard: Guard | None, *, direct: bool, tls: SSLContext, connect_timeout: float) -> httpx.AsyncClient:
    """Return a client, guarded if a guard is given; ``direct``: without the environment's proxies."""
    # No limit on connections: the number of calls is limited, and a request that is cancelled while it connects can
    # leave a dead entry in httpcore's pool, which must not use up a place.
    pool: dict[str, Any] = {"max_keepalive_connections": MAX_IDLE_CONNECTIONS, "keepalive_expiry": KEEP_ALIVE_S}
    transport = None
    if guard is not None:
        transport = GuardedTransport(guard, ssl_context=tls, max_connections=None, **pool)
    return httpx.AsyncClient(
        verify=tls,
        http1=True,
        # httpcore's HTTP/2 does not tell the server that an answer is abandoned (``net/http.py``).
        http2=False,
        transport=transport,  # a custom transport makes httpx ignore the environment's proxies
        # ``trust_env`` would also read a password from ``.netrc``; a direct client is for the application's own
        # servers.
        trust_env=not direct,
        follow_redirects=False,
        # A policy without domains stores nothing: httpx has no switch for cookies.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        # Identity: the limits count bytes on the wire (``net/http.py``).
        headers={"Accept-Encoding": "identity", "User-Agent": "patter-trio"},
        timeout=httpx.Timeout(None, connect=connect_timeout),  # the shared client has its own deadlines for the rest
        limits=httpx.Limits(max_connections=None, **pool),
    )


def local_client(answer: Answerer) -> httpx.AsyncClient:
    """Return a client whose requests a function answers; see ``answered_here`` in ``net/http.py``."""
    return httpx.AsyncClient(transport=_LocalTransport(answer), trust_env=False, follow_redirects=False)


class _LocalTransport(httpx.AsyncBaseTransport):
    def __init__(self, answer: Answerer) -> None:
        self._answer = answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            status, more, content = await self._answer(request.method, str(request.url), headers, body)
        except ConnectionRefusedError as error:
            raise httpx.ConnectError(str(error)) from error
        except ConnectionError as error:
            raise httpx.ReadError(str(error)) from error
        # As a stream: httpx reads any other content at once, and there would be nothing left to read.
        return httpx.Response(status, headers={"Content-Type": "application/json", **more}, stream=_Body(content))


def new_request(
    client: httpx.AsyncClient, method: str, url: str, content: bytes, headers: dict[str, str]
) -> httpx.Request:
    """Return a request with a body that can be left anywhere."""
    request = client.build_request(method, url, content=content, headers=headers)
    request.stream = _Body(content)
    return request


class _Body(httpx.AsyncByteStream):
    """A request's body, in one piece.

    httpx's own body is an async generator. If the request is cancelled while sending, the generator stays suspended,
    and warns when it is garbage-collected.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _OnePiece(self._content)


class _OnePiece(AsyncIterator[bytes]):
    def __init__(self, content: bytes) -> None:
        self._left = [content] if content else []

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()
