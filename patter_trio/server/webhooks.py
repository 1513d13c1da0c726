"""The webhooks and the health check as an ASGI application: a table of routes, each a plain function of the request."""

import json
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, parse_qsl

import attrs
import trio

from patter_trio.abc import Carrier, Form
from patter_trio.conversation.prompts import cleaned
from patter_trio.errors import WireError
from patter_trio.phone_numbers import mask_number, shown_id
from patter_trio.server.context import ServerContext
from patter_trio.server.pending import TooManyPending

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

# Judged: sixty times as much, which is refused while it arrives.
MAX_BODY_BYTES: Final = 64 * 1024
"""Largest accepted body, in bytes; a carrier's webhook has about 1 kB."""
# Judged: 64 KiB in segments of 256 bytes. A carrier sends its 1 kB in one piece, or a few.
MAX_BODY_PIECES: Final = 256
"""Largest accepted number of chunks, or reads, of a body: each costs the event loop the same, whatever its size."""
# Judged: Twilio sends about thirty. Parsing comes before the check of the signature, which covers the parsed fields.
MAX_FORM_FIELDS: Final = 500
"""Largest accepted number of fields in a form; it bounds the work of parsing an unsigned request."""
_FORM: Final = "application/x-www-form-urlencoded"

logger: Final = logging.getLogger("patter_trio.server")


@attrs.frozen
class WebhookRequest:
    """A whole request. ``target`` is the path and query as received; the names in ``headers`` are in lower case."""

    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def query(self) -> str:
        """The part of the target after the question mark."""
        return self.target.partition("?")[2]


@attrs.frozen
class WebhookResponse:
    """A whole response."""

    status: int
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler = Callable[[ServerContext, WebhookRequest], WebhookResponse]


def health(_: ServerContext, __: WebhookRequest) -> WebhookResponse:
    """Report that the server is running, and nothing more, because the route is open to everyone."""
    return WebhookResponse(200, json.dumps({"status": "ok"}), "application/json")


def ready(context: ServerContext, _: WebhookRequest) -> WebhookResponse:
    """Report whether the server would accept a new call: 200, or 503 while it drains or is full.

    A load balancer asks here where to send calls; an orchestrator asks ``/health`` whether to restart the process.
    """
    why = context.refusal("")
    return WebhookResponse(
        503 if why else 200,
        json.dumps({"status": why or "ready"}),
        "application/json",
        ((b"retry-after", b"5"),) if why else (),
    )


def voice_webhook(context: ServerContext, request: WebhookRequest) -> WebhookResponse:
    """Accept or refuse an announced call; answer with the URL for its media stream, or with busy."""
    form = _signed_form(context, request)
    if isinstance(form, WebhookResponse):
        return form
    try:
        info = context.carrier.offer(form)
    except WireError as error:
        return _refused(400, str(error))
    # The query is ours: the application wrote it into the webhook's URL at the carrier, and the signature covers it.
    # The values may stem from the caller all the same, and end in prompts.
    custom = {cleaned(name): cleaned(value) for name, value in parse_qsl(request.query, keep_blank_values=True)}
    info = attrs.evolve(info, custom_params=custom, provider=context.carrier.name)
    # Carriers repeat a webhook whose answer was lost. The call has been accepted, so it must not be judged again, and
    # ``on_call_start`` must not run twice.
    again = info.call_id in context.pending
    # Status 200 in both cases: any other would make the carrier try again, or say an error message to the caller.
    busy = WebhookResponse(200, context.carrier.reject(), context.carrier.content_type)
    refusal = "" if again else context.refusal(info.call_id)
    if refusal:
        logger.warning("call %s: hears busy, from %s: %s", shown_id(info.call_id), mask_number(info.caller), refusal)
        context.on_refused(info, refusal)
        return busy
    try:
        call = context.pending.announce(info, trio.current_time())
    # A second bound, of memory, for servers without ``max_calls``.
    except TooManyPending as error:
        logger.warning("call %s: hears busy, from %s: %s", shown_id(info.call_id), mask_number(info.caller), error)
        context.on_refused(info, str(error))
        return busy
    if not again:
        logger.info("call %s: announced, from %s", shown_id(info.call_id), mask_number(info.caller))
        # Before the answer: the carrier may open the stream as soon as it has it.
        context.on_announced(call)
    answer = context.carrier.connect(context.stream_url(info.call_id), {"token": call.token})
    return WebhookResponse(200, answer, context.carrier.content_type)


def status_webhook(context: ServerContext, request: WebhookRequest) -> WebhookResponse:
    """Acknowledge a change of a call's status, and give up an announced call that is over."""
    form = _signed_form(context, request)
    if isinstance(form, WebhookResponse):
        return form
    ended = context.carrier.ended(form)
    if ended is not None:
        context.on_status(ended)
    return WebhookResponse(204)


def _signed_form(context: ServerContext, request: WebhookRequest) -> Form | WebhookResponse:
    """Return the form of a request that the carrier has signed, or the response that refuses the request."""
    content_type = request.headers.get("content-type", _FORM).partition(";")[0].strip().lower()
    try:
        form = parse_qs(
            request.body.decode() if content_type == _FORM else "",
            keep_blank_values=True,
            # Strict: a replacement character would change the value, and with it what the signature covers.
            errors="strict",
            max_num_fields=MAX_FORM_FIELDS,
        )
    # ``ValueError`` is all that parsing raises: bad UTF-8, bad escapes, too many fields.
    except ValueError:
        return _refused(400, "the form must be valid")
    signature = request.headers.get(context.carrier.signature_header.lower(), "")
    if not signature:
        return _refused(403, "the request must have a signature")
    # WARNING: JSON is checked as it was sent. Twilio signs the hash of the body; a body that was parsed and written
    # again would have another.
    params = form if content_type == _FORM else request.body
    # The public URL, never the ``Host`` header, which the client chooses: the carrier has signed the URL that it
    # called.
    if not context.carrier.check(context.public_url + request.target, params, signature):
        return _refused(403, f"the signature must match (check that the public URL is {context.shown_public_url})")
    return form


def _refused(code: int, why: str) -> WebhookResponse:
    logger.warning("webhook refused with %d: %s", code, why)
    return _plain(code)


def _plain(code: int, *headers: tuple[bytes, bytes]) -> WebhookResponse:
    return WebhookResponse(code, f"{HTTPStatus(code).phrase}\n", headers=headers)


def routes_of(carrier: Carrier) -> dict[str, dict[str, Handler]]:
    """Return the handler for each path and method, for a server of calls from ``carrier``."""
    return {
        "/health": {"GET": health},
        "/ready": {"GET": ready},
        carrier.voice_path: {"POST": voice_webhook},
        carrier.status_path: {"POST": status_webhook},
    }


class Application:
    """The ASGI application of a server. It receives only HTTP; ``connection`` handles media streams before it."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._routes = routes_of(context.carrier)

    async def __call__(self, scope: "Scope", receive: "ASGIReceiveCallable", send: "ASGISendCallable") -> None:
        """Answer one request; send nothing if the client leaves before its request is complete."""
        if scope["type"] != "http":
            return
        method = scope["method"]
        # HEAD wherever GET: monitors ask with it, and RFC 9110 section 9.3.2 wants the head of GET's answer.
        asked = "GET" if method == "HEAD" else method
        response = await self._respond(scope["raw_path"].decode("ascii"), {**scope, "method": asked}, receive)
        if response is None:
            return
        body = response.body.encode()
        headers = [(b"content-type", response.content_type.encode()), (b"content-length", b"%d" % len(body))]
        # Not to be stored: the answer to a webhook has a token.
        headers += [(b"cache-control", b"no-store"), *response.headers]
        await send({"type": "http.response.start", "status": response.status, "headers": headers, "trailers": False})
        # The length above stays that of GET's body, as the RFC wants it.
        shown = b"" if method == "HEAD" else body
        await send({"type": "http.response.body", "body": shown, "more_body": False})

    def _no_route(self, path: str) -> WebhookResponse:
        """Refuse a path; one that a carrier or a proxy was set up with is logged with what to set instead."""
        carrier = self._context.carrier
        # A stream that arrives as plain HTTP has lost its upgrade on the way, and the call stays silent.
        if path.startswith(carrier.media_prefix):
            logger.warning(
                "call %s: media stream refused with 426: it must be a WebSocket upgrade, got a plain request "
                "(check that the proxy in front passes the headers Upgrade and Connection)",
                shown_id(path.removeprefix(carrier.media_prefix)),
            )
            return _plain(426, (b"upgrade", b"websocket"))
        # Others are scanners of the internet, whose requests would fill the log.
        if path.startswith(("/webhooks/", "/ws/")):
            logger.warning(
                "webhook refused with 404: no route %s (the webhook of a number must be %s%s)",
                shown_id(path),
                self._context.shown_public_url,
                carrier.voice_path,
            )
        return _plain(404)

    async def _respond(
        self, path: str, scope: Mapping[str, Any], receive: "ASGIReceiveCallable"
    ) -> WebhookResponse | None:
        # A slash at the end is easily typed into a carrier's console; what was signed still has it.
        methods = self._routes.get(path) or self._routes.get(path.rstrip("/"))
        if methods is None:
            return self._no_route(path)
        handler = methods.get(scope["method"])
        if handler is None:
            allowed = ", ".join((*methods, "HEAD") if "GET" in methods else methods)
            if path.startswith("/webhooks/"):
                logger.warning(
                    "webhook refused with 405: the method of %s at the carrier must be %s, got %s",
                    shown_id(path),
                    allowed,
                    scope["method"],
                )
            return _plain(405, (b"allow", allowed.encode()))
        # The HTTP server takes any number for a version.
        if scope["http_version"] not in ("1.0", "1.1"):
            return _plain(505)
        # Latin-1 maps each byte to one character, so nothing in a header can fail to decode.
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        body, pieces = bytearray(), 0
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return None
            body += message["body"]
            more = message["more_body"]
            # While it arrives, not by ``content-length``: a chunked body announces no length.
            if len(body) > MAX_BODY_BYTES:
                return _refused(413, f"the body must have at most {MAX_BODY_BYTES} bytes")
            pieces += 1
            if pieces > MAX_BODY_PIECES:
                return _refused(413, f"the body must come in at most {MAX_BODY_PIECES} pieces")
        query = scope["query_string"].decode("ascii")
        # The target as it was received, not rebuilt from its parts: it is part of what was signed.
        target = f"{path}?{query}" if query else path
        return handler(self._context, WebhookRequest(target, headers, bytes(body)))
