"""The HTTP side of a server as a Starlette application: its own routes, those of windows, and the application's.

Routing, requests and responses are Starlette's. This module adds what belongs to a server of calls:

* **Bounds of a body**, counted while it arrives, because a chunked body announces no length.
* **The raw target** of a webhook, as it was received: it is part of what was signed.
* **The access rule** (``access.py``) before each route of a window.
* **Answers to mistakes** that an operator can understand: a number's webhook with a wrong path or method.

Imported when a server starts, because Starlette takes 0.1 s to import.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

import trio
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from patter_trio.abc import CarrierRequest, WebhookKind
from patter_trio.phone_numbers import shown_id
from patter_trio.server.access import bearer_of, refusal, session_in
from patter_trio.server.context import ServerContext
from patter_trio.server.logins import Login
from patter_trio.server.refusals import current_peer
from patter_trio.server.webhooks import RESERVED_PREFIXES, WEBHOOK_KINDS, Handler, WebhookResponse, joined, routes_of

# Judged: sixty times as much, which is refused while it arrives.
MAX_BODY_BYTES: Final = 64 * 1024
"""Largest accepted body, in bytes; a carrier's webhook has about 1 kB."""
# Judged: 64 KiB in segments of 256 bytes. A carrier sends its 1 kB in one piece, or a few.
MAX_BODY_PIECES: Final = 256
"""Largest accepted number of chunks, or reads, of a body: each costs the event loop the same, whatever its size."""
# The standard library's words (asyncio.events.get_running_loop).
NO_ASYNCIO_LOOP: Final = "no running event loop"
"""What code for asyncio raises on trio."""
_ON_TRIO: Final = "app= runs on trio: its code must use trio or anyio in place of asyncio"
STREAMS_KEY: Final = "patter_trio.streams"
"""The key of a request's scope with the places for streams of events."""

ATTEMPTS_KEY: Final = "patter_trio.attempts"
"""The key of a request's scope with the wrong tokens of each peer."""
LOGINS_KEY: Final = "patter_trio.logins"
"""The key of a request's scope with the logins of the server."""
LOGIN_KEY: Final = "patter_trio.login"
"""The key of the scope of a request to a window with its login, if its cookie opened it."""


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers of a request, joined."""
    # Latin-1 maps each byte to one character, so nothing in a header can fail to decode.
    return joined((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])


class Application:
    """The ASGI application of a server. It receives requests; ``connection`` handles media streams before it."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        kinds = {context.carrier.path_of(kind): kind for kind in WEBHOOK_KINDS}
        own = [
            Route(path, _endpoint(context, handler, kinds.get(path, "voice")), methods=[method])
            for path, methods in routes_of(context.carrier).items()
            for method, handler in methods.items()
        ]
        self._own_paths = {route.path for route in own}
        guarded = (_Guarded(context, route) for route in context.routes)
        self._routes: list[BaseRoute] = [*own, *context.open_routes, *guarded]
        # No redirects for slashes: they would be built from the ``Host`` of the request, which a proxy may have set.
        router = Router(self._routes, redirect_slashes=False, default=self._no_route)
        self._app: ASGIApp = ExceptionMiddleware(
            router, handlers={HTTPException: self._refuse, ClientDisconnect: _answer_nothing}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; send nothing if the client leaves before its request is complete."""
        app = self._context.app
        if app is not None and not self._is_ours(scope):
            # What it raises ends its own request: the HTTP server logs it and answers 500.
            try:
                await app({**scope, "state": dict(self._context.app_state)}, receive, send)
            except RuntimeError as error:
                if NO_ASYNCIO_LOOP in str(error):
                    error.add_note(_ON_TRIO)
                raise
            return
        if scope["type"] != "http":
            return
        # A slash at the end is easily typed into a carrier's console; what was signed still has it.
        path = scope["path"].rstrip("/")
        # ``app``: with it, Starlette raises a refusal of its own, such as 405, instead of answering it.
        path = path if path in self._own_paths else scope["path"]
        mine = {
            **scope,
            "app": self,
            "path": path,
            STREAMS_KEY: self._context.streams,
            ATTEMPTS_KEY: self._context.attempts,
            LOGINS_KEY: self._context.logins,
        }
        await self._app(mine, _bounded(receive), _not_stored(send))

    def _is_ours(self, scope: Scope) -> bool:
        """Return True if a request is not for the application's own ASGI application."""
        if scope["type"] not in ("http", "websocket"):
            return True
        path = scope["path"]
        if path.startswith(RESERVED_PREFIXES) or path.rstrip("/") in self._own_paths:
            return True
        # An upgrade on a path of a window is the window's, too, although it has none.
        asked = {**scope, "type": "http", "method": scope.get("method", "GET")}
        return any(route.matches(asked)[0] is not Match.NONE for route in self._routes)

    async def _no_route(self, scope: Scope, _: Receive, __: Send) -> None:
        """Refuse a path; one that a carrier or a proxy was set up with is logged with what to set instead."""
        context, path = self._context, _raw_path(scope)
        # A stream that arrives as plain HTTP has lost its upgrade on the way, and the call stays silent.
        if path.startswith(context.carrier.media_prefix):
            what = (
                "media stream refused with 426: it must be a WebSocket upgrade, got a plain request "
                "(check that the proxy in front passes the headers Upgrade and Connection)"
            )
            call_id = path.removeprefix(context.carrier.media_prefix)
            context.refusals.warn_of_call(call_id, what, is_awaited=context.awaits_stream(call_id))
            raise HTTPException(426, headers={"upgrade": "websocket"})
        # Others are scanners of the internet, whose requests would fill the log.
        if path.startswith(RESERVED_PREFIXES):
            context.refusals.warn(
                "webhook refused with 404",
                f"webhook refused with 404: no route {shown_id(path)} "
                f"(the webhook of a number must be {context.shown_public_url}{context.carrier.voice_path})",
            )
        raise HTTPException(404)

    async def _refuse(self, request: Request, error: Exception) -> Response:
        """Answer a refusal, Starlette's own included: JSON below /api/, else one line of text."""
        # Starlette passes the class that it was registered for; its type of handlers is wider.
        if not isinstance(error, HTTPException):
            raise error
        code, headers, path = error.status_code, dict(error.headers or {}), _raw_path(request.scope)
        if code == HTTPStatus.METHOD_NOT_ALLOWED and (methods := headers.pop("Allow", "")):
            # Starlette has them in a set, in another order each time.
            headers["allow"] = ", ".join(sorted(methods.split(", ")))
            if path.startswith("/webhooks/"):
                self._context.refusals.warn(
                    "webhook refused with 405",
                    f"webhook refused with 405: the method of {shown_id(path)} at the carrier must be "
                    f"{headers['allow']}, got {request.method}",
                )
        if code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            self._context.refusals.warn(f"webhook refused with {code}: {error.detail}")
        phrase = HTTPStatus(code).phrase
        if path.startswith("/api/"):
            return JSONResponse({"error": error.detail}, code, headers)
        # The detail of a refusal of windows says what to do; of webhooks, the peer learns nothing but the status.
        detail = error.detail if error.detail != phrase and not path.startswith(RESERVED_PREFIXES) else ""
        return Response(f"{phrase}: {detail}\n" if detail else f"{phrase}\n", code, headers, "text/plain")


class _Guarded(BaseRoute):
    """A route of a window behind the access rule."""

    def __init__(self, context: ServerContext, route: BaseRoute) -> None:
        self._context = context
        self._route = route

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return self._route.matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        context, headers = self._context, headers_of(scope)
        attempt = None
        if context.access.token and bearer_of(headers):
            # Counted before it is compared. Without a delay nothing is awaited in between, so that right tokens never
            # count.
            attempt = context.attempts.begin(current_peer.get(), trio.current_time())
            if attempt.is_late:
                await trio.sleep(attempt.delay_s)
        session = context.logins.live(session_in(headers), trio.current_time())
        refused = refusal(context.access, scope["method"], headers, has_session=session is not None)
        if attempt is not None and (refused is None or refused.status != HTTPStatus.UNAUTHORIZED):
            attempt.was_right()
        if refused is None:
            # Of a request with the token itself, no session decides.
            await self._answer(None if attempt is not None else session, scope, receive, send)
            return
        if refused.status == HTTPStatus.UNAUTHORIZED:
            if attempt is not None and attempt.is_late:
                context.refusals.warn("window refused with 429: too many wrong tokens")
                raise HTTPException(429, "too many wrong tokens", {"retry-after": "60"})
            if _is_page(scope):
                await RedirectResponse(_login_from(_raw_path(scope)), 303)(scope, receive, send)
                return
        context.refusals.warn(f"window refused with {refused.status}: {refused.why}")
        raise HTTPException(refused.status, refused.why, _challenge(refused.status))

    async def _answer(self, session: Login | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that is allowed, at most until its session ends."""
        if session is None:
            await self._route.handle(scope, receive, send)
            return
        has_begun = False

        async def noting(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        with session.lasting() as scope_of_session:
            await self._route.handle({**scope, LOGIN_KEY: session}, receive, noting)
        # An answer that has begun breaks off, as its peer sees by the missing end.
        if scope_of_session.cancelled_caught and not has_begun:
            raise HTTPException(401, "the login is over", _challenge(HTTPStatus.UNAUTHORIZED))


def _challenge(status: int) -> Mapping[str, str] | None:
    """Return the header that RFC 9110, section 15.5.2, wants with status 401."""
    return {"www-authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None


def _is_page(scope: Scope) -> bool:
    """Return True if a browser asks for a page, and not a script of one for data."""
    return scope["method"] == "GET" and "text/html" in headers_of(scope).get("accept", "")


def _login_from(path: str) -> str:
    """Return the address of the login, relative to ``path``, because a proxy may have put a prefix before it."""
    return "../" * (path.count("/") - 1) + f"dashboard/login?{urlencode({'next': path})}"


def _endpoint(context: ServerContext, handler: Handler, kind: WebhookKind) -> ASGIApp:
    async def endpoint(request: Request) -> Response:
        # The HTTP server takes any number for a version.
        if request.scope["http_version"] not in ("1.0", "1.1"):
            raise HTTPException(505)
        body = await request.body()
        return _response(handler(context, _carrier_request(context, request, kind, body)))

    # Starlette takes functions of a request; its type for them is ``Callable[..., Any]``.
    return endpoint  # type: ignore[return-value]


def _carrier_request(context: ServerContext, request: Request, kind: WebhookKind, body: bytes) -> CarrierRequest:
    query = request.scope["query_string"].decode("ascii")
    path = _raw_path(request.scope)
    # The target as it was received, not rebuilt from its parts: it is part of what was signed.
    url = context.public_url + (f"{path}?{query}" if query else path)
    # HEAD wherever GET: monitors ask with it, and RFC 9110 section 9.3.2 wants the head of GET's answer.
    method = "GET" if request.method == "HEAD" else request.method
    return CarrierRequest(kind, url, headers_of(request.scope), body, method=method, received_at=context.unix_time())


def _raw_path(scope: Scope) -> str:
    raw: bytes = scope["raw_path"]
    return raw.decode("ascii")


def _response(answer: WebhookResponse) -> Response:
    return Response(answer.body, answer.status, _decoded(answer.headers), answer.content_type)


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


class _Nothing(Response):
    """No response, to a client that has left."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send nothing."""


async def _answer_nothing(_: Request, __: Exception) -> Response:
    return _Nothing()


def _bounded(receive: Receive) -> Receive:
    """Return ``receive`` with bounds on the body, counted while it arrives."""
    size, pieces = 0, 0

    async def receive_bounded() -> Message:
        nonlocal size, pieces
        message = await receive()
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            pieces += 1
            if size > MAX_BODY_BYTES:
                raise HTTPException(413, f"the body must have at most {MAX_BODY_BYTES} bytes")
            if pieces > MAX_BODY_PIECES:
                raise HTTPException(413, f"the body must come in at most {MAX_BODY_PIECES} pieces")
        return message

    return receive_bounded


def _not_stored(send: Send) -> Send:
    """Return ``send`` with a header that forbids to store the response, unless the response says otherwise."""

    async def send_unstored(message: Message) -> None:
        if message["type"] == "http.response.start" and "cache-control" not in _decoded(message["headers"]):
            # The answer to a webhook has a token, and windows show what was said.
            message = {**message, "headers": [*message["headers"], (b"cache-control", b"no-store")]}
        await send(message)

    return send_unstored
