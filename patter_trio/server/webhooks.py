"""The webhooks and the health check as an ASGI application: a table of routes, each a plain function of the request."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from patter_trio.abc import CallInfo, CallOffered, CallReturned, Carrier, CarrierRequest, DocumentWanted, WebhookKind
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
WEBHOOK_KINDS: Final[tuple[WebhookKind, ...]] = ("voice", "status", "recording", "amd", "transfer", "return")
"""What webhooks are about. A carrier may send all of them to one route: what it reports decides."""

logger: Final = logging.getLogger("patter_trio.server")


@attrs.frozen
class WebhookResponse:
    """A whole response."""

    status: int
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler = Callable[[ServerContext, CarrierRequest], WebhookResponse]


def health(_: ServerContext, __: CarrierRequest) -> WebhookResponse:
    """Report that the server is running, and nothing more, because the route is open to everyone."""
    return WebhookResponse(200, json.dumps({"status": "ok"}), "application/json")


def ready(context: ServerContext, _: CarrierRequest) -> WebhookResponse:
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


def carrier_webhook(context: ServerContext, request: CarrierRequest) -> WebhookResponse:
    """Handle a webhook of the carrier: check that it is the carrier's, and act on what it reports."""
    carrier = context.carrier
    try:
        # Before the body is parsed, which is most of the work: strangers without a signature cost next to nothing.
        if not carrier.is_signed(request):
            return _refused(context, 403, "the request must have a signature")
        if not carrier.is_authentic(request):
            why = f"the signature must match (check that the public URL is {context.shown_public_url})"
            return _refused(context, 403, why)
        report = carrier.read(request)
    except WireError as error:
        return _refused(context, 400, str(error))
    if isinstance(report, CallOffered):
        return _offered(context, request, report)
    if isinstance(report, DocumentWanted):
        return _document(context, report)
    if isinstance(report, CallReturned):
        document = context.on_returned(report) or carrier.hang_up_document()
        return WebhookResponse(200, document, carrier.content_type)
    if report is not None:
        context.on_report(report)
    return WebhookResponse(204)


def _offered(context: ServerContext, request: CarrierRequest, offered: CallOffered) -> WebhookResponse:
    """Accept or refuse an announced call; answer with the URL for its media stream, or with busy."""
    carrier, call_id = context.carrier, offered.info.call_id
    if carrier.acts_on_request and (call_id in context.pending or context.knows(call_id)):
        # The first webhook's commands are on their way, with a token that must stay valid; and a command that refuses
        # the call would end it.
        logger.debug("call %s: announced again", shown_id(call_id))
        # One of ours that was given up, and whose hang-up may have failed: somebody has answered and hears nothing.
        if offered.dial:
            context.end_stray(call_id)
        return WebhookResponse(200, "", carrier.content_type)
    if offered.dial:
        own = context.on_answered(offered)
        return _stray(context, offered.info) if own is None else _accepted_or_busy(context, own)
    # The query is ours: the application wrote it into the webhook's URL at the carrier, and the signature covers it.
    # The values may stem from the caller all the same, and end in prompts.
    given = {**offered.info.custom_params, **request.query}
    custom = {cleaned(name): cleaned(value) for name, value in given.items()}
    return _accepted_or_busy(context, attrs.evolve(offered.info, custom_params=custom, provider=carrier.name))


def _accepted_or_busy(context: ServerContext, info: CallInfo) -> WebhookResponse:
    carrier = context.carrier
    # Carriers repeat a webhook whose answer was lost. The call has been accepted, so it must not be judged again, and
    # ``on_call_start`` must not run twice.
    again = info.call_id in context.pending
    refusal = "" if again else context.refusal(info.call_id)
    if refusal:
        return _busy(context, info, refusal)
    try:
        call = context.pending.announce(info, trio.current_time())
    # A second bound, of memory, for servers without ``max_calls``.
    except TooManyPending as error:
        return _busy(context, info, str(error))
    if not again:
        logger.info("call %s: announced, from %s", shown_id(info.call_id), mask_number(info.caller))
        # Before the answer: the carrier may open the stream as soon as it has it.
        context.on_announced(call)
    url, parameters = context.stream_url(info.call_id), {"token": call.token}
    if carrier.acts_on_request:
        context.command(info, partial(carrier.pick_up, info, url, parameters))
    answer = carrier.connect(url, parameters)
    return WebhookResponse(200, answer, carrier.content_type)


def _document(context: ServerContext, wanted: DocumentWanted) -> WebhookResponse:
    """Answer with the document that a live call was redirected to."""
    document = context.documents.find(wanted.call_id, wanted.reference, trio.current_time())
    if document is None:
        what = "webhook refused with 404: it has no such document"
        context.refusals.warn(what, f"call {shown_id(wanted.call_id)}: {what}")
        return _plain(404)
    return WebhookResponse(200, document, context.carrier.content_type)


def _stray(context: ServerContext, info: CallInfo) -> WebhookResponse:
    """End a call that was placed by us and that nobody here knows: by a server that is gone, or one that gave it up."""
    logger.warning("call %s: ended: this server has not placed it, or has given it up", shown_id(info.call_id))
    # By request, too: a carrier need not follow a refusal of a call that is answered.
    context.end_stray(info.call_id)
    return WebhookResponse(200, context.carrier.reject(), context.carrier.content_type)


def _busy(context: ServerContext, info: CallInfo, why: str) -> WebhookResponse:
    # Carriers repeat webhooks, which is usual: only a caller who is turned away needs attention.
    level = logging.INFO if context.knows(info.call_id) else logging.WARNING
    logger.log(level, "call %s: hears busy, from %s: %s", shown_id(info.call_id), mask_number(info.caller), why)
    context.on_refused(info, why)
    if context.carrier.acts_on_request:
        context.command(info, partial(context.carrier.decline, info))
    # Status 200: any other would make the carrier try again, or say an error message to the caller.
    return WebhookResponse(200, context.carrier.reject(), context.carrier.content_type)


def _refused(context: ServerContext, code: int, why: str) -> WebhookResponse:
    context.refusals.warn(f"webhook refused with {code}: {why}")
    return _plain(code)


def _plain(code: int, *headers: tuple[bytes, bytes]) -> WebhookResponse:
    return WebhookResponse(code, f"{HTTPStatus(code).phrase}\n", headers=headers)


def routes_of(carrier: Carrier) -> dict[str, dict[str, Handler]]:
    """Return the handler for each path and method, for a server of calls from ``carrier``."""
    return {
        "/health": {"GET": health},
        "/ready": {"GET": ready},
        **{carrier.path_of(kind): {"POST": carrier_webhook} for kind in WEBHOOK_KINDS},
    }


def joined(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers by their names in lower case.

    One that occurs twice has its values joined (RFC 9110, section 5.3).
    """
    found: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found


class Application:
    """The ASGI application of a server. It receives only HTTP; ``connection`` handles media streams before it."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._routes = routes_of(context.carrier)
        self._kinds = {context.carrier.path_of(kind): kind for kind in WEBHOOK_KINDS}

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
            what = (
                "media stream refused with 426: it must be a WebSocket upgrade, got a plain request "
                "(check that the proxy in front passes the headers Upgrade and Connection)"
            )
            call_id = path.removeprefix(carrier.media_prefix)
            self._context.refusals.warn_of_call(call_id, what, is_awaited=self._context.awaits_stream(call_id))
            return _plain(426, (b"upgrade", b"websocket"))
        # Others are scanners of the internet, whose requests would fill the log.
        if path.startswith(("/webhooks/", "/ws/")):
            self._context.refusals.warn(
                "webhook refused with 404",
                f"webhook refused with 404: no route {shown_id(path)} "
                f"(the webhook of a number must be {self._context.shown_public_url}{carrier.voice_path})",
            )
        return _plain(404)

    async def _respond(
        self, path: str, scope: Mapping[str, Any], receive: "ASGIReceiveCallable"
    ) -> WebhookResponse | None:
        # A slash at the end is easily typed into a carrier's console; what was signed still has it.
        route = path if path in self._routes else path.rstrip("/")
        methods = self._routes.get(route)
        if methods is None:
            return self._no_route(path)
        handler = methods.get(scope["method"])
        if handler is None:
            allowed = ", ".join((*methods, "HEAD") if "GET" in methods else methods)
            if path.startswith("/webhooks/"):
                self._context.refusals.warn(
                    "webhook refused with 405",
                    f"webhook refused with 405: the method of {shown_id(path)} at the carrier must be {allowed}, "
                    f"got {scope['method']}",
                )
            return _plain(405, (b"allow", allowed.encode()))
        # The HTTP server takes any number for a version.
        if scope["http_version"] not in ("1.0", "1.1"):
            return _plain(505)
        # Latin-1 maps each byte to one character, so nothing in a header can fail to decode.
        headers = joined((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
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
                return _refused(self._context, 413, f"the body must have at most {MAX_BODY_BYTES} bytes")
            pieces += 1
            if pieces > MAX_BODY_PIECES:
                return _refused(self._context, 413, f"the body must come in at most {MAX_BODY_PIECES} pieces")
        query = scope["query_string"].decode("ascii")
        # The target as it was received, not rebuilt from its parts: it is part of what was signed.
        target = f"{path}?{query}" if query else path
        request = CarrierRequest(
            self._kinds.get(route, "voice"),
            self._context.public_url + target,
            headers,
            bytes(body),
            method=scope["method"],
            received_at=self._context.unix_time(),
        )
        return handler(self._context, request)
