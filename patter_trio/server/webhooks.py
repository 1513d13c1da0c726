"""The webhooks and the health check: a table of routes, each a plain function of the request."""

import json
import logging
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from typing import Final

import attrs
import trio

from patter_trio.abc import CallInfo, CallOffered, CallReturned, Carrier, CarrierRequest, DocumentWanted, WebhookKind
from patter_trio.conversation.prompts import cleaned
from patter_trio.errors import WireError
from patter_trio.phone_numbers import mask_number, shown_id
from patter_trio.server.context import ServerContext
from patter_trio.server.pending import TooManyPending

WEBHOOK_KINDS: Final[tuple[WebhookKind, ...]] = ("voice", "status", "recording", "amd", "transfer", "return")
"""What webhooks are about. A carrier may send all of them to one route: what it reports decides."""
RESERVED_PREFIXES: Final = ("/webhooks/", "/ws/")
"""The beginnings of paths that are never the application's own."""

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
        # Judged: calls end every few seconds, and balancers ask about as often.
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
    # Behind the line in the log: from here on the call is known, which would lower its level.
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
