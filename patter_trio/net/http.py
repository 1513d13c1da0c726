"""HTTP to vendors and webhooks: one client for all calls.

httpx is loaded by ``httpx_client.py`` and ``guarded.py``, and those when the client opens, so that importing this module is
cheap.

* **One client per run of trio**, held open by whoever serves (:func:`shared_client` counts its users): a warm connection
  answers some milliseconds, over the internet some hundred, sooner than one that has yet to be opened.
* **HTTP/1.1.** Leaving :meth:`Client.stream` before the answer's end closes its connection, which the server sees at
  once. HTTP/2 as httpcore has it would leave the server generating: it sends no RST_STREAM for a stream that is given up.
* **Deadlines are here**: for the head of an answer, and for each next piece of its body. So are the size caps, which
  count what came over the wire: a compressed answer, which could hide any size, is not asked for, and not taken.
* **Redirects are not followed**: what is sent here is what people said on the telephone, and signed; it goes where the
  program says and nowhere else. Nor are cookies kept: calls share the client and nothing else.
* **No URL is logged or named in an error**, only the origin: paths, queries and user names hold secrets.
* **A URL of others'** is asked by a client with a :class:`~patter_trio.net.address_guard.Guard`, one for each guard.
* **Proxies** of the environment are for vendors. A guarded client never uses one, for the proxy would look names up where
  the guard cannot see it; nor does a ``direct`` client, which is for URLs of the application itself.
"""

# ruff: noqa: PLC0415 (importing httpx takes 0.1 s: see above)

import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from ssl import SSLContext
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs
import trio

from patter_trio.errors import (
    AuthenticationError,
    ConfigurationError,
    PatterConnectionError,
    ProviderError,
    ProviderTimeout,
    RateLimitError,
)
from patter_trio.logs import mask_logs
from patter_trio.net.address_guard import Guard
from patter_trio.net.run_local import run_local

if TYPE_CHECKING:
    import httpx

CONNECT_TIMEOUT_S: Final = 5.0
"""Seconds that opening a connection may take, TLS included: two of TCP's retransmissions."""
CLOSE_TIMEOUT_S: Final = 0.2
"""Seconds that closing the client may take."""
REDIRECT_STATUSES: Final = range(300, 400)
FAILURE_STATUSES: Final = range(400, 600)

MAX_EXPLANATION_BYTES: Final = 16384
"""Most bytes of an error's body that are read for its explanation."""
EXPLANATION_TIMEOUT_S: Final = 1.0
"""Seconds that they may take."""

_STATUS_ERRORS: Final[Mapping[int, type[ProviderError]]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    429: RateLimitError,
}


Explain = Callable[[bytes], str]
"""Returns what a vendor says of an error in its body, as far as it may be shown; empty: nothing."""


class Unreachable(ProviderError, PatterConnectionError):
    """There was no connection: nothing was sent."""


class ConnectionBroke(ProviderError, PatterConnectionError):
    """The connection ended before its answer did."""


def status_error(status: int) -> type[ProviderError]:
    """Return the error that an answer of such a status is."""
    return _STATUS_ERRORS.get(status, ProviderError)


def origin_of(url: str) -> str:
    """Return what of a URL may be shown: scheme, host and port."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{f':{parts.port}' if parts.port is not None else ''}"


def reason_of(error: BaseException) -> str:
    """Return what an error says, or else what it came from: a TLS failure is told by none of those it is wrapped in."""
    cause: BaseException | None = error
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return str(cause or type(error).__name__)


def check_url(url: str) -> None:
    """Make sure that a URL can be asked.

    Raises:
        ConfigurationError: it cannot; the message says why, and names no more than the origin.
    """
    import httpx

    try:
        httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"{origin_of(url)}... is no URL: {error}") from error


@cache
def tls_context() -> SSLContext:
    """Return the context of every TLS connection to the outside; making it takes some 20 ms, so whoever serves asks early."""
    import httpx

    return httpx.create_ssl_context()


_asking: ContextVar[bool] = ContextVar("patter_trio_http_asking", default=False)


def _is_not_ours(_: logging.LogRecord) -> bool:
    return not _asking.get()


@cache
def _hide_urls() -> None:
    # httpx logs the whole URL of each request. Others' requests in the same process are none of our business.
    logging.getLogger("httpx").addFilter(_is_not_ours)


class HttpAnswer:
    """An answer of which the head is there; its body comes in pieces, or whole."""

    def __init__(self, response: "httpx.Response", who: str, *, max_bytes: int, piece_timeout: float) -> None:
        self._who = who
        self._pieces = _Pieces(response, who, max_bytes=max_bytes, piece_timeout=piece_timeout)
        self.status: int = response.status_code
        self.content_type: str = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        """Without its parameters, in lower case; empty where there is none."""
        self.headers: Mapping[str, str] = response.headers
        """All of them; names in any case."""

    def __repr__(self) -> str:
        return f"<Answer {self.status} of {self._who}>"

    def pieces(self) -> "_Pieces":
        """Return an iterator over the body as it comes; it need not be closed.

        Raises:
            ProviderTimeout: (while iterating) the next piece did not come in time.
            ProviderError: (while iterating) it is too long, or compressed, or the connection broke.
        """
        return self._pieces

    async def read(self) -> bytes:
        """Return the whole body.

        Raises:
            ProviderTimeout: as for :meth:`pieces`.
            ProviderError: as for :meth:`pieces`.
        """
        return b"".join([piece async for piece in self.pieces()])


class _Pieces:
    """The body of an answer."""

    def __init__(self, response: "httpx.Response", who: str, *, max_bytes: int, piece_timeout: float) -> None:
        self._raw = response.aiter_raw()
        self._encoding = response.headers.get("content-encoding", "identity").lower()
        self._who = who
        self._max_bytes = max_bytes
        self._piece_timeout = piece_timeout
        self._size = 0

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> bytes:
        if self._encoding != "identity":
            raise ProviderError(f"{self._who} sent a compressed answer, which was not asked for")
        # By hand what ``_translated`` does: each token of a model comes by here.
        with trio.CancelScope(deadline=trio.current_time() + self._piece_timeout) as patience:
            try:
                piece = await anext(self._raw)
            except _foreign() as error:
                raise _ours(self._who, error) from error
        if patience.cancelled_caught:
            raise _late(self._who, self._piece_timeout)
        self._size += len(piece)
        if self._size > self._max_bytes:
            raise ProviderError(f"the answer of {self._who} is longer than {self._max_bytes} bytes")
        return piece

    async def abandon(self) -> None:
        """End what was not read to its end.

        httpx iterates by generators within generators and closes none of the inner ones. Cancelling the innermost's
        read ends them all, and their connection.
        """
        from patter_trio.net.httpx_client import BROKEN, StreamError

        with trio.CancelScope() as scope, suppress(*BROKEN, StreamError):
            scope.cancel(reason="the rest of the answer is not wanted")
            async for _ in self._raw:
                pass


@attrs.define
class _Shared:
    """The one client of a run of trio for a guard, while anybody uses it."""

    guard: Guard | None
    direct: bool
    users: int = 0
    client: "httpx.AsyncClient | None" = None

    def open(self) -> "httpx.AsyncClient":
        if self.client is None:
            from patter_trio.net.httpx_client import new_client

            _hide_urls()
            self.client = new_client(
                self.guard, direct=self.direct, tls=tls_context(), connect_timeout=CONNECT_TIMEOUT_S
            )
        return self.client


_shared: Final = trio.lowlevel.RunVar[dict[tuple[Guard | None, bool], _Shared]]("patter_trio_http")


@attrs.frozen
class Client:
    """The client that all calls share."""

    _shared: _Shared = attrs.field(repr=False)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        head_timeout: float,
        piece_timeout: float = math.inf,
        max_bytes: int,
        explain: Explain | None = None,
        any_status: bool = False,
    ) -> AsyncIterator[HttpAnswer]:
        """Ask, and give the answer to the block as soon as its head is there; leaving the block ends it.

        Args:
            method: such as ``POST``.
            url: where to.
            content: the request's body.
            headers: in addition to those that every request has.
            head_timeout: seconds until the head of the answer is there, connecting included.
            piece_timeout: seconds for each next piece of its body.
            max_bytes: most bytes of its body.
            explain: reads the reason of a refusal out of its body; default: the status has to say all.
            any_status: give the block whatever answer there is, of which the status may say anything.

        Raises:
            AuthenticationError: status 401 or 403.
            RateLimitError: status 429.
            ProviderTimeout: the answer did not come in time.
            Unreachable: nobody could be reached.
            AddressRefused: this client's guard does not let requests go there.
            ConnectionBroke: the connection ended before the answer did.
            ProviderError: any other status but 2xx.
        """
        who = origin_of(url)
        from patter_trio.net.httpx_client import Body

        client = self._shared.open()
        token = _asking.set(True)
        try:
            with _translated(who, head_timeout):
                request = client.build_request(method, url, content=content, headers=dict(headers or {}))
                request.stream = Body(content)
                response = await client.send(request, stream=True)
        finally:
            _asking.reset(token)
        try:
            if not any_status:
                await _check_status(who, response, explain)
            answer = HttpAnswer(response, who, max_bytes=max_bytes, piece_timeout=piece_timeout)
            try:
                yield answer
            finally:
                await answer.pieces().abandon()
        finally:
            await response.aclose()

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        head_timeout: float,
        max_bytes: int,
    ) -> bytes:
        """Return the body of an answer, all of it within ``within`` seconds; arguments and errors as for :meth:`stream`."""
        with _translated(origin_of(url), head_timeout):
            async with self.stream(
                method, url, content=content, headers=headers, head_timeout=math.inf, max_bytes=max_bytes
            ) as answer:
                return await answer.read()

    async def warm(self, url: str, *, head_timeout: float) -> bool:
        """Have a connection to a URL's server open and idle, so that the next request need not open one.

        It asks for the head of an answer, without credentials; whatever the answer is, its connection stays. It raises
        nothing: what is wrong is said by the request that matters. Return whether there was an answer.

        Args:
            url: of the server.
            head_timeout: seconds that it may take.
        """
        client = self._shared.open()
        token = _asking.set(True)
        try:
            with _translated(origin_of(url), head_timeout):
                response = await client.send(client.build_request("HEAD", url))
                await response.aclose()
        except ProviderError:
            return False
        finally:
            _asking.reset(token)
        return True


@asynccontextmanager
async def shared_client(guard: Guard | None = None, *, direct: bool = False) -> AsyncIterator[Client]:
    """Use the one client that this run of trio has for a guard; it is closed when nobody does any more.

    Args:
        guard: judges the addresses, for URLs of others; its client never uses a proxy.
        direct: use no proxy of the environment.
    """
    # Now rather than for the first request, which may be sent while calls are live: they would be held up for 0.1 s.
    from patter_trio.net import httpx_client  # noqa: F401

    mask_logs()
    clients: dict[tuple[Guard | None, bool], _Shared] = run_local(_shared, dict)
    shared = clients.setdefault((guard, direct), _Shared(guard, direct))
    shared.users += 1
    try:
        yield Client(shared)
    finally:
        shared.users -= 1
        if not shared.users:
            del clients[guard, direct]
            if shared.client is not None:
                with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
                    await shared.client.aclose()


async def _check_status(who: str, response: "httpx.Response", explain: Explain | None) -> None:
    status = response.status_code
    if status in REDIRECT_STATUSES:
        raise ProviderError(f"{who} answered {status}: redirects are not followed; give the address that it leads to")
    if status in FAILURE_STATUSES:
        said = f"{who} answered {status} {response.reason_phrase}".rstrip()
        kind = status_error(status)
        # Of refused credentials nothing is repeated: vendors quote them.
        if explain is not None and kind is not AuthenticationError:
            why = explain(await _explanation(who, response))
            said = f"{said}: {why}" if why else said
        raise kind(said)


async def _explanation(who: str, response: "httpx.Response") -> bytes:
    """Return the beginning of a refusal's body; nothing where it does not come in time, or not whole."""
    pieces = _Pieces(response, who, max_bytes=MAX_EXPLANATION_BYTES, piece_timeout=EXPLANATION_TIMEOUT_S)
    body = b""
    try:
        with trio.move_on_after(EXPLANATION_TIMEOUT_S):
            async for piece in pieces:
                body += piece
            return body
    except ProviderError:
        pass
    await pieces.abandon()
    return b""


def _foreign() -> tuple[type[Exception], ...]:
    """Return what httpx and httpcore raise. An ``except`` clause asks only when there is an exception."""
    from patter_trio.net.httpx_client import FOREIGN

    return FOREIGN


@contextmanager
def _translated(who: str, seconds: float) -> Iterator[None]:
    """Allow so many seconds, and let nothing of httpx's out."""
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError as error:
        raise _late(who, seconds) from error
    except _foreign() as error:
        raise _ours(who, error) from error


def _late(who: str, seconds: float) -> ProviderTimeout:
    return ProviderTimeout(f"{who} did not answer within {seconds:g} s")


def _ours(who: str, error: Exception) -> ProviderError:
    """Return an error of httpx's, or of what is below it, as one of this package's."""
    from patter_trio.net.httpx_client import NO_CONNECTION, TOO_LATE

    if isinstance(error, TOO_LATE):
        return ProviderTimeout(f"{who} could not be reached within {CONNECT_TIMEOUT_S:g} s")
    if isinstance(error, NO_CONNECTION):
        return Unreachable(f"{who} could not be reached: {reason_of(error)}")
    return ConnectionBroke(f"the connection to {who} broke: {type(error).__name__}: {reason_of(error)}")
