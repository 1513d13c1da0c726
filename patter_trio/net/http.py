"""HTTP to vendors and webhooks: one client for all calls.

``httpx_client.py`` and ``guarded.py`` import httpx, and they are loaded when the client opens. So importing this module
is cheap.

* **One client per trio run**, held open by its users (:func:`shared_client` counts them): a warm connection answers
  some milliseconds sooner than a new one, and over the internet some hundred.
* **HTTP/1.1.** Leaving :meth:`Client.stream` before the answer's end closes its connection, which the server notices at
  once. With HTTP/2 as httpcore implements it, the server would go on generating: httpcore sends no RST_STREAM for an
  abandoned stream.
* **Deadlines are here**: for the head of an answer, and for each next piece of its body. So are the size limits, which
  count the bytes on the wire: a compressed answer, which could hide any size, is neither requested nor accepted.
* **Redirects are not followed**: requests carry what people said on the telephone, and signatures; they go only where
  the program says. Cookies are not kept, either: calls share nothing but the client.
* **Logs and errors show only a URL's origin**: paths, queries and user names hold secrets.
* **URLs of others** are requested by a client with a :class:`~patter_trio.net.address_guard.Guard`, one for each guard.
* **Proxies** of the environment are for vendors. A guarded client never uses one, because the proxy would look names up
  where the guard cannot see it. A ``direct`` client does not, either; it is for URLs of the application itself.
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
from urllib.parse import unquote, urlsplit

import attrs
import trio

from patter_trio.errors import (
    AuthenticationError,
    PatterConnectionError,
    ProviderError,
    ProviderTimeout,
    RateLimitError,
    reported,
)
from patter_trio.logs import mask_logs
from patter_trio.net.address_guard import Guard
from patter_trio.net.retry_after import seconds_of
from patter_trio.net.run_local import run_local

if TYPE_CHECKING:
    import httpx

    from patter_trio.net.httpx_client import Answerer

CONNECT_TIMEOUT_S: Final = 5.0
"""Seconds that opening a connection may take, TLS included: two of TCP's retransmissions."""
# Judged: httpcore waits for no peer when it closes a connection, so this is time for closing a hundred sockets. It adds
# to the end of a cancelled server.
CLOSE_TIMEOUT_S: Final = 0.2
"""Seconds that closing the client may take."""
REDIRECT_STATUSES: Final = range(300, 400)
FAILURE_STATUSES: Final = range(400, 600)

# Judged: vendors explain an error in a few hundred bytes of JSON. The bound is for a proxy's HTML page.
MAX_EXPLANATION_BYTES: Final = 16384
"""Most bytes of an error's body that are read for its explanation."""
# Judged: the caller waits in silence meanwhile, and the reason only makes a log line better.
EXPLANATION_TIMEOUT_S: Final = 1.0
"""Seconds that reading the explanation may take."""

_STATUS_ERRORS: Final[Mapping[int, type[ProviderError]]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    429: RateLimitError,
}


Explain = Callable[[int, bytes], str]
"""Function that extracts a vendor's reason from the status and body of an error, as far as it may be shown; empty: no
reason."""


class Unreachable(ProviderError, PatterConnectionError):
    """A connection that could not be made: nothing was sent."""


class ConnectionBroke(ProviderError, PatterConnectionError):
    """A connection that ended before its answer did."""


def status_error(status: int) -> type[ProviderError]:
    """Return the error type for an answer with this status."""
    return _STATUS_ERRORS.get(status, ProviderError)


def origin_of(url: str) -> str:
    """Return the part of a URL that may be shown: scheme, host and port."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{f':{parts.port}' if parts.port is not None else ''}"


def reason_of(error: BaseException) -> str:
    """Return an error's text, or that of its cause: exceptions that wrap a TLS failure have an empty text."""
    # The context, too: not every layer raises ``from`` the failure that it wraps.
    cause: BaseException | None = error
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return str(cause or type(error).__name__)


@cache
def tls_context() -> SSLContext:
    """Return the context of every outgoing TLS connection.

    Creating it takes about 20 ms, so a server calls this before it accepts calls.
    """
    import httpx

    return httpx.create_ssl_context()


# A context variable, because the filter below runs in the task that logs: the application may use httpx in other tasks
# at the same moment.
_asking: ContextVar[bool] = ContextVar("patter_trio_http_asking", default=False)


def _is_not_ours(_: logging.LogRecord) -> bool:
    return not _asking.get()


@cache
def _hide_urls() -> None:
    # httpx logs the whole URL of each request, and httpcore the headers of each answer, cookies included. Requests of
    # other code in the same process keep their log lines. Each by its name: a filter does not see a child's records.
    for name in ("httpx", *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks"))):
        logging.getLogger(name).addFilter(_is_not_ours)


class HttpAnswer:
    """An answer whose head has arrived; its body can be read in pieces, or whole."""

    def __init__(self, response: "httpx.Response", who: str, *, max_bytes: int, piece_timeout: float) -> None:
        self._who = who
        self._pieces = _Pieces(response, who, max_bytes=max_bytes, piece_timeout=piece_timeout)
        self.status: int = response.status_code
        self.content_type: str = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        """Content type in lower case, without its parameters; empty if the answer has none."""
        self.headers: Mapping[str, str] = response.headers
        """All headers; their names may be in any case."""

    def __repr__(self) -> str:
        return f"<Answer {self.status} of {self._who}>"

    def pieces(self) -> "_Pieces":
        """Return an iterator over the body as it arrives; it need not be closed.

        Raises:
            ProviderTimeout: (while iterating) the next piece did not come in time.
            ProviderError: (while iterating) the body is too long or compressed, or the connection broke.
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
    """Iterator over the body of an answer."""

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
        # Refused rather than decoded: the limit below counts bytes on the wire, and a few of those can inflate to any
        # size. Checked here, not at the head: an error's body goes the same way.
        if self._encoding != "identity":
            raise ProviderError(f"{self._who} must not compress its answer, got {self._encoding[:40]}")
        # The same as ``_translated``, inlined: each token of an LLM passes here.
        with trio.CancelScope(deadline=trio.current_time() + self._piece_timeout) as scope:
            try:
                piece = await anext(self._raw)
            except _foreign() as error:
                raise _ours(self._who, error) from error
        # The scope's own flag, not an exception: a cancellation from outside, such as a barge-in, passes through as it
        # is.
        if scope.cancelled_caught:
            raise _late(self._who, self._piece_timeout)
        # Checked after each piece: the length that an answer announces is a claim, and chunked answers announce none.
        self._size += len(piece)
        if self._size > self._max_bytes:
            raise ProviderError(f"the answer of {self._who} must have at most {self._max_bytes} bytes")
        return piece

    async def abandon(self) -> None:
        """End a body that was not read to its end.

        httpx iterates with nested generators and closes none of the inner ones. Cancelling the read of the innermost
        one ends them all, and their connection.
        """
        from patter_trio.net.httpx_client import BROKEN_CONNECTION_ERRORS, StreamError

        # Cancelled from the start: the read ends at its first checkpoint and never waits for the peer.
        with trio.CancelScope() as scope, suppress(*BROKEN_CONNECTION_ERRORS, StreamError):
            # No shield is needed: nothing here waits.
            scope.cancel(reason="the rest of the answer is not wanted")
            async for _ in self._raw:
                pass


@attrs.define
class _Shared:
    """The client of a trio run for one guard, open as long as it has users."""

    guard: Guard | None
    direct: bool
    users: int = 0
    client: "httpx.AsyncClient | None" = None

    def open(self) -> "httpx.AsyncClient":
        # On first use: building the TLS context takes 20 ms, and many phones have no vendor over HTTP.
        if self.client is None:
            from patter_trio.net.httpx_client import new_client

            _hide_urls()
            self.client = new_client(
                self.guard, direct=self.direct, tls=tls_context(), connect_timeout=CONNECT_TIMEOUT_S
            )
        return self.client


# Per trio run, not per process: connections belong to the run that opened them, and tests start one run each. Keyed by
# guard: pools are not shared between guards, because an open connection is not judged again.
_shared: Final = trio.lowlevel.RunVar[dict[tuple[Guard | None, bool], _Shared]]("patter_trio_http")


_answerers: Final = trio.lowlevel.RunVar[list[tuple[str, "httpx.AsyncClient"]]]("patter_trio_http_answerers")


# For simulated calls: in virtual time, a carrier's requests must reach it without a socket, a name or a proxy.
@contextmanager
def answered_here(prefix: str, answer: "Answerer") -> Iterator[None]:
    """Answer this run's requests to URLs that begin with ``prefix`` by a function, while the block runs.

    Of several prefixes of a URL, the longest counts; of equal ones, that of the oldest block.
    """
    from patter_trio.net.httpx_client import local_client

    answerers = run_local(_answerers, list)
    answerer = (prefix, local_client(answer))
    answerers.append(answerer)
    try:
        yield
    finally:
        answerers.remove(answerer)


def _answerer_of(url: str) -> "httpx.AsyncClient | None":
    answerers = [one for one in run_local(_answerers, list) if unquote(url).startswith(one[0])]
    return max(answerers, key=lambda one: len(one[0]))[1] if answerers else None


def is_answered_here(url: str) -> bool:
    """Return True if a block of :func:`answered_here` answers requests to a URL."""
    return _answerer_of(url) is not None


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
        """Send a request, and yield the answer as soon as its head has arrived; leaving the block ends the answer.

        Args:
            method: such as ``POST``.
            url: the URL.
            content: the request's body.
            headers: in addition to the headers of every request.
            head_timeout: seconds until the head of the answer must have arrived, connecting included.
            piece_timeout: seconds for each next piece of the body.
            max_bytes: most bytes of the body.
            explain: extracts the reason of a refusal from its body; default: only the status is reported.
            any_status: yield any answer, whatever its status.

        Raises:
            AuthenticationError: status 401 or 403.
            RateLimitError: status 429, with the seconds that ``Retry-After`` asks to wait.
            ProviderTimeout: the answer did not come in time.
            Unreachable: the server could not be reached.
            AddressRefused: the client's guard does not let requests go there.
            ConnectionBroke: the connection ended before the answer did.
            ProviderError: any other status but 2xx.
        """
        who = origin_of(url)
        from patter_trio.net.httpx_client import new_request

        client = _answerer_of(url) or self._shared.open()
        # Marks the log records of this task, so that the filter hides only our own URLs.
        token = _asking.set(True)
        try:
            # One deadline for connecting, sending and the head: a caller notices the sum. httpx's own timeouts are for
            # each phase apart, and a server that sends its head byte by byte would never exceed one.
            with _translated(who, head_timeout):
                request = new_request(client, method, url, content, dict(headers or {}))
                response = await client.send(request, stream=True)
        finally:
            # Before the yield: the variable must not stay set while the block's own code runs.
            _asking.reset(token)
        try:
            if not any_status:
                await _check_status(who, response, explain)
            answer = HttpAnswer(response, who, max_bytes=max_bytes, piece_timeout=piece_timeout)
            # Ended before it is closed: httpx would otherwise leave its inner generators suspended.
            try:
                yield answer
            finally:
                await answer.pieces().abandon()
        finally:
            # httpcore shields this itself, and a connection whose answer was not read to its end is closed, not kept.
            await response.aclose()

    async def warm(self, url: str, *, head_timeout: float) -> bool:
        """Open a connection to a URL's server and keep it idle, so that the next request need not open one.

        The client sends a HEAD request without credentials; whatever the answer is, its connection stays. Errors are
        left for the request that matters to report. Return True if there was an answer.

        Args:
            url: a URL of the server.
            head_timeout: seconds that the request may take.
        """
        client = self._shared.open()
        token = _asking.set(True)
        try:
            with _translated(origin_of(url), head_timeout):
                # HEAD has no body to read: closing the answer leaves its connection idle and reusable.
                response = await client.send(client.build_request("HEAD", url))
                await response.aclose()
        except ProviderError:
            # Swallowed: the request that matters follows, meets the same failure, and reports it where somebody is
            # affected.
            return False
        finally:
            _asking.reset(token)
        return True


@asynccontextmanager
async def shared_client(guard: Guard | None = None, *, direct: bool = False) -> AsyncIterator[Client]:
    """Use the shared client of this trio run for a guard; it is closed when its last user leaves.

    Args:
        guard: judges the addresses, for URLs of others; its client never uses a proxy.
        direct: use no proxy of the environment.
    """
    # Import now rather than for the first request, which may come while calls are live: it would block them for 0.1 s.
    from patter_trio.net import httpx_client  # noqa: F401 (for the import alone)

    mask_logs()
    clients: dict[tuple[Guard | None, bool], _Shared] = run_local(_shared, dict)
    # No await between look-up and count: the last user that leaves at this moment cannot close the client in between.
    shared = clients.setdefault((guard, direct), _Shared(guard, direct))
    shared.users += 1
    try:
        yield Client(shared)
    finally:
        shared.users -= 1
        if not shared.users:
            # Before the await below: a user that comes while it closes gets a new client, not one that is half closed.
            del clients[guard, direct]
            if shared.client is not None:
                # Shielded, so that a cancelled server still closes its connections; bounded, so that it ends soon.
                with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
                    await shared.client.aclose()


async def _check_status(who: str, response: "httpx.Response", explain: Explain | None) -> None:
    status = response.status_code
    if status in REDIRECT_STATUSES:
        raise ProviderError(f"{who} answered {status}: redirects are not followed; use the address that it leads to")
    if status in FAILURE_STATUSES:
        said = f"{who} answered {status} {reported(response.reason_phrase)}".rstrip()
        kind = status_error(status)
        # Nothing is quoted about refused credentials: vendors repeat them.
        if explain is not None and kind is not AuthenticationError:
            why = explain(status, await _explanation(who, response))
            said = f"{said}: {why}" if why else said
        if kind is RateLimitError:
            headers = response.headers
            raise RateLimitError(said, retry_after=seconds_of(headers.get("retry-after", ""), headers.get("date", "")))
        raise kind(said)


async def _explanation(who: str, response: "httpx.Response") -> bytes:
    """Return the beginning of a refusal's body; empty if it does not come in time, or breaks off."""
    # A reader of its own, with a limit of its own: ``stream``'s limits are for the answer that was asked for.
    pieces = _Pieces(response, who, max_bytes=MAX_EXPLANATION_BYTES, piece_timeout=EXPLANATION_TIMEOUT_S)
    body = b""
    try:
        # Around all pieces: the deadline for each piece alone would admit a server that sends one byte a second.
        with trio.move_on_after(EXPLANATION_TIMEOUT_S):
            async for piece in pieces:
                body += piece
            return body
    # The status is known, and the caller reports it. A refusal that breaks off must not be reported as a broken
    # connection.
    except ProviderError:
        pass
    # Late, broken or too long: end the body like any other that is not read to its end.
    await pieces.abandon()
    return b""


# A function, because naming httpx's types at the top would import httpx.
def _foreign() -> tuple[type[Exception], ...]:
    """Return the exception types of httpx and httpcore. An ``except`` clause evaluates this only for an exception."""
    from patter_trio.net.httpx_client import REQUEST_ERRORS

    return REQUEST_ERRORS


@contextmanager
def _translated(who: str, seconds: float) -> Iterator[None]:
    """Limit the block to ``seconds``, and translate httpx's errors."""
    try:
        with trio.fail_after(seconds):
            yield
    # Only the deadline above raises this type; httpx has types of its own for time-outs.
    except trio.TooSlowError as error:
        raise _late(who, seconds) from error
    # By a call, because the types are httpx's, which need not be loaded.
    except _foreign() as error:
        raise _ours(who, error) from error


def _late(who: str, seconds: float) -> ProviderTimeout:
    return ProviderTimeout(f"{who} did not answer within {seconds:g} s")


def _ours(who: str, error: Exception) -> ProviderError:
    """Return an error of httpx, or of a layer below it, as one of this package's errors."""
    from patter_trio.net.httpx_client import CONNECT_ERRORS, TIMEOUT_ERRORS

    # The only time-out that httpx has is that of connecting: ``new_client`` sets the others to None.
    if isinstance(error, TIMEOUT_ERRORS):
        return ProviderTimeout(f"{who} could not be reached within {CONNECT_TIMEOUT_S:g} s")
    if isinstance(error, CONNECT_ERRORS):
        return Unreachable(f"{who} could not be reached: {reason_of(error)}")
    # All others: the request was sent, or a part of it, so that the server may have acted on it.
    return ConnectionBroke(f"the connection to {who} broke: {type(error).__name__}: {reason_of(error)}")
