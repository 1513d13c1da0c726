"""One connection, from its first byte to its end.

Webhooks and media streams use the same port. This module reads the head of the request and dispatches it: the upgrade
of a media stream goes to our own WebSocket implementation, any other request to the HTTP server, with the bytes that
were read replayed.

A media socket belongs to the server whose prefix its path has: that of the carrier, or one of the same port, such as
that of the browser phone (:attr:`~patter_trio.server.context.ServerContext.doors`). Only pages of our own may open the
streams of the browser phone, and no page those of a carrier.

A media socket must authenticate before we open any provider for it. If its upgrade carries the carrier's signature, the
signature must be right. In any case it must present the one-time token of an announced call, and its path and start
message must name that call. A socket that has not done so within 10 s, 8 frames and 8 KiB is closed with code
1008, and at most :data:`~patter_trio.server.context.MAX_UNAUTHENTICATED_SOCKETS` unsigned sockets may wait at a time.

This is the border between connections: an error of one must not harm the others. A peer cannot make
:func:`serve_connection` raise. A bug in the code that answers a call is logged, the connection is closed, and the
server goes on.
"""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import trio

from patter_trio.abc import CallInfo, CarrierRequest, StreamCodec, StreamStarted
from patter_trio.call.leg import MediaLeg
from patter_trio.errors import PatterError, WireError
from patter_trio.net.tasks import split_failure
from patter_trio.net.websocket import Allowance, SocketClosed, Upgrade, WebSocket, receive_upgrade
from patter_trio.phone_numbers import mask_number
from patter_trio.server.context import ServerContext
from patter_trio.server.http import serve_http
from patter_trio.server.listening import LISTEN_PREFIX, ListeningRefused
from patter_trio.server.origins import is_own_origin
from patter_trio.server.refusals import current_peer, peer_of
from patter_trio.server.webhooks import RESERVED_PREFIXES, joined
from patter_trio.user_code.context import NO_CALL, current_call

if TYPE_CHECKING:
    from starlette.types import ASGIApp

MAX_HEAD_BYTES: Final = 16 * 1024
"""Largest head of a request, in bytes; h11, which parses all other requests, has the same limit."""
# Judged: a slow mobile connection needs a few seconds. A carrier sends the whole head in one segment.
HEAD_TIMEOUT_S: Final = 10.0
"""Seconds for the head of a request, so that silent connections do not accumulate."""
# Judged: Twilio sends "connected" and "start" back to back, so a peer without a start message is not a carrier.
START_TIMEOUT_S: Final = 10.0
"""Seconds until a media socket must have sent its start message, which is the second message of a carrier."""
# Judged: room for a proxy that pings or puts frames into fragments, and nothing that the event loop notices.
MAX_FRAMES_BEFORE_START: Final = 8
"""Number of frames, pings included, within which a media socket must have sent its start message."""
# Judged: the two messages have about 1 kB, with all parameters that Twilio allows a few kB.
MAX_BYTES_BEFORE_START: Final = 8 * 1024
"""Bytes of frames within which a media socket must have sent its start message."""
NORMAL_CLOSE_CODE: Final = 1000
# RFC 6455, section 7.4.1; the same for the one below.
POLICY_CLOSE_CODE: Final = 1008
INTERNAL_ERROR_CLOSE_CODE: Final = 1011

# Only the header's presence is asked here; whether the handshake is right is judged by the protocol core, which answers
# it. A word of the value, because the header is a list.
_UPGRADE: Final = re.compile(rb"(?im)^upgrade[ \t]*:[^\r\n]*\bwebsocket\b")

# RFC 9112: a method, which is a token, behind empty lines that a server skips.
_REQUEST_BEGIN: Final = re.compile(rb"(?:\r?\n)*\r?(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+(?: |\Z)|\Z)")

_UPGRADES: Final = re.compile(rb"(?im)^upgrade[ \t]*:([^\n]*)\n")
_RESERVED: Final = tuple(prefix.encode() for prefix in RESERVED_PREFIXES)

logger: Final = logging.getLogger("patter_trio.server")


class _Refused(PatterError):
    """Refusal of a peer; its message is sent to the peer and logged."""


_REFUSALS: Final = (_Refused, ListeningRefused)


class _EmptyConnection(WireError):
    """A connection without a request, such as a TCP health check; it is logged without a warning."""


def http_application(context: ServerContext) -> "ASGIApp":
    """Return the ASGI application that answers the HTTP requests of a server."""
    # Starlette takes 0.1 s to import, and only servers need it.
    from patter_trio.server.application import Application  # noqa: PLC0415 (see above)

    return Application(context)


async def serve_connection(
    context: ServerContext, stream: trio.abc.Stream, application: "ASGIApp | None" = None
) -> None:
    """Serve one connection, over any stream, and close it. Raise only :class:`trio.Cancelled`.

    Args:
        context: the state of the server.
        stream: the connection.
        application: answers HTTP requests; None: one is made if it is needed.
    """
    # For the log of refusals, wherever in this task and in those of the HTTP server it is written.
    current_peer.set(peer_of(stream))
    try:
        await _serve(context, stream, application)
    # WARNING: the border. Split, because a call is a nursery and its bug arrives as a group, perhaps with a
    # cancellation in it, which alone may go further: anything else would end the whole server.
    except BaseException as error:
        passing, bug = split_failure(error)
        if bug is not None:
            whose = "" if current_call.get() == NO_CALL else f"call {current_call.get()}: "
            logger.exception("%sconnection closed: internal error", whose, exc_info=bug)
        if passing is not None:
            raise passing from None
    finally:
        await trio.aclose_forcefully(stream)


async def _serve(context: ServerContext, stream: trio.abc.Stream, application: "ASGIApp | None") -> None:
    found = None
    # The block is left early, without a leg, if the connection must make room for others.
    with context.unproven.one() as proven:
        found = await _authenticated(context, stream, application, proven)
    if found is None:
        return
    server, leg = found
    # Assumed to have failed until it has not: an exception or a cancellation passes through the ``finally`` below.
    code = INTERNAL_ERROR_CLOSE_CODE
    try:
        await server.run_call(leg)
        code = NORMAL_CLOSE_CODE
    finally:
        # The call closes its leg itself; this is for a call that failed before it had one. Closing twice is harmless.
        await leg.socket.aclose(code)


async def _authenticated(
    context: ServerContext, stream: trio.abc.Stream, application: "ASGIApp | None", proven: Callable[[], None]
) -> tuple[ServerContext, MediaLeg] | None:
    """Return the leg of the call that a connection proves, and the call's server.

    None: the connection was something else and is over.
    """
    call_id, door = "", context
    try:
        head = await _read_head(stream)
        if context.listening is not None and _asks_to_listen(head):
            with _answering():
                upgrade = await receive_upgrade(stream, head)
            await context.listening.serve(upgrade, context.streams, proven)
            return None
        found = _door_of(context, head)
        if found is None:
            # False: hypercorn has answered 400 itself, so only the log is left to do.
            app = application or http_application(context)
            may_upgrade = context.app is not None and _is_own_upgrade(head)
            if not await serve_http(app, stream, head, may_upgrade=may_upgrade, proven=proven):
                context.refusals.warn("connection closed: the request must be HTTP")
            return None
        # The answer to a bad handshake is sent inside, and a peer that does not read would block it.
        with _answering():
            upgrade = await receive_upgrade(stream, head)
        door, call_id = found, _call_id(found, upgrade)
        return door, await _open_leg(door, upgrade)
    # Load balancers and port scanners do this every few seconds; a warning for each would hide the others.
    except _EmptyConnection as nothing:
        logger.debug("connection closed: %s", nothing)
    # Whatever a peer can cause. Everything else is a bug and goes to the border above.
    except (trio.BrokenResourceError, trio.ClosedResourceError, SocketClosed, WireError, *_REFUSALS) as error:
        why = f"connection closed: {str(error) or 'lost'}"
        context.refusals.warn_of_call(call_id, why, is_awaited=door.awaits_stream(call_id))
    return None


async def _read_head(stream: trio.abc.Stream) -> bytes:
    """Return the head of a request, with any bytes received after it. If the head is too long, h11 refuses the part.

    Raises:
        WireError: the peer sends no head, only part of one, not within :data:`HEAD_TIMEOUT_S`, or something else.
    """
    head = bytearray()
    # One deadline for the whole head: a byte every few seconds must not keep a connection alive.
    with trio.move_on_after(HEAD_TIMEOUT_S):
        # A head that is too long goes to h11 as it is, which refuses it with a status. No more than one byte too much:
        # h11 judges the length only of a head that is not complete.
        while b"\r\n\r\n" not in head and len(head) <= MAX_HEAD_BYTES:
            data = await stream.receive_some(MAX_HEAD_BYTES + 1 - len(head))
            if not data:
                raise (
                    WireError("the head of a request must be complete, got the end of the input")
                    if head
                    else _EmptyConnection("no request")
                )
            head += data
            # At once: for bytes of another protocol, such as the hello of TLS, no head ever comes. A head that is
            # complete goes to h11, which answers.
            if b"\r\n\r\n" not in head and not may_be_request(head):
                raise WireError("the request must be HTTP")
        # With prior knowledge of HTTP/2 a client begins like this, and hypercorn would change to HTTP/2, which can
        # carry WebSockets past this module.
        if head.startswith(b"PRI * HTTP/2"):
            raise WireError("the request must be HTTP/1.1, got HTTP/2")
        return bytes(head)
    raise WireError(f"a request must come within {HEAD_TIMEOUT_S:g} s")


def may_be_request(begin: bytes | bytearray) -> bool:
    """Return True if a request of HTTP can begin with these bytes."""
    return _REQUEST_BEGIN.match(begin) is not None


def _door_of(context: ServerContext, head: bytes) -> ServerContext | None:
    """Return the server whose media stream a request asks for; None: it asks for something else."""
    end = head.find(b"\r\n\r\n")
    # By path and header, because a carrier's webhook may share the prefix, and other upgrades are HTTP's business.
    if end < 0 or _UPGRADE.search(head, 0, end) is None:
        return None
    return next((door for prefix, door in context.doors.items() if head.startswith(b"GET " + prefix)), None)


def _asks_to_listen(head: bytes) -> bool:
    """Return True if a request asks for the socket of a listener to a live call."""
    end = head.find(b"\r\n\r\n")
    return end >= 0 and head.startswith(b"GET " + LISTEN_PREFIX.encode()) and _UPGRADE.search(head, 0, end) is not None


def _is_own_upgrade(head: bytes) -> bool:
    """Return True if a request may become a WebSocket of the application: outside of our prefixes, and not HTTP/2."""
    values = _UPGRADES.findall(head.partition(b"\r\n\r\n")[0] + b"\r\n")
    target = head.partition(b" ")[2]
    return [value.strip().lower() for value in values] == [b"websocket"] and not target.startswith(_RESERVED)


def _call_id(context: ServerContext, upgrade: Upgrade) -> str:
    """Return the call id in the path of a media stream."""
    return unquote(upgrade.path.partition("?")[0].removeprefix(context.carrier.media_prefix))


@contextmanager
def _answering() -> Iterator[None]:
    """Bound the time for sending the answer to an upgrade, because a peer that does not read blocks it."""
    with trio.move_on_after(START_TIMEOUT_S) as answer:
        yield
    if answer.cancelled_caught:
        raise _Refused("the peer did not read the answer to its upgrade")


async def _open_leg(context: ServerContext, upgrade: Upgrade) -> MediaLeg:
    """Accept the upgrade and return the leg of its call.

    Raises:
        _Refused: the peer did not authenticate; the refusal has been sent.
        WireError, SocketClosed: the peer broke the protocol or left.
    """
    await _check_origin(context, upgrade)
    request = CarrierRequest(
        "stream",
        context.websocket_url(upgrade.path),
        joined(upgrade.headers.raw_items()),
        method="GET",
        received_at=context.unix_time(),
    )
    signed = context.carrier.is_signed(request)
    # WARNING: before the upgrade is accepted. A signature is optional, because not every carrier signs upgrades, but a
    # wrong one is never overlooked.
    if signed and not context.carrier.is_authentic(request):
        with _answering():
            await upgrade.refuse(403, "Forbidden\n")
        raise _Refused(f"media stream with a wrong signature (check that the public URL is {context.shown_public_url})")
    if signed:
        return await _accept_media(context, upgrade, request)
    try:
        # ``nowait``: to let a socket wait for its turn would be what the bound is against.
        context.unauthenticated.acquire_nowait()
    except trio.WouldBlock:
        with _answering():
            await upgrade.refuse(503, "Service Unavailable\n")
        raise _Refused("too many media streams have not started") from None
    try:
        return await _accept_media(context, upgrade, request)
    # After the claim, successful or not: an authenticated call must not take up a place for its whole length.
    finally:
        context.unauthenticated.release()


async def _check_origin(context: ServerContext, upgrade: Upgrade) -> None:
    """Refuse a page that opens the stream of a carrier's call, or a page of another site.

    Raises:
        _Refused: the refusal has been sent.
    """
    origins, hosts = upgrade.headers.get_all("Origin"), upgrade.headers.get_all("Host")
    if context.carrier.streams_from_pages:
        allowed = is_own_origin(origins, hosts)
        why = "the stream of the browser phone must be opened by its own page (Origin equal to Host)"
    else:
        # Browsers alone send the header, and no carrier is one: a page would use the network that its user is in.
        allowed = not origins
        why = "a page must not open the media stream of a carrier (the upgrade has Origin)"
    if not allowed:
        with _answering():
            await upgrade.refuse(403, "Forbidden\n")
        raise _Refused(why)


async def _accept_media(context: ServerContext, upgrade: Upgrade, request: CarrierRequest) -> MediaLeg:
    deadline = trio.current_time() + START_TIMEOUT_S
    with _answering():
        socket = await upgrade.accept(Allowance(MAX_FRAMES_BEFORE_START, MAX_BYTES_BEFORE_START))
    codec = context.carrier.new_codec(request.headers)
    try:
        started = await _started(socket, codec, deadline)
        # WARNING: no await between the claim and the call. A claimed token is used up, so a cancellation in between
        # would leave a call that is neither pending nor live.
        info = _claim(context, upgrade, started)
    # The peer is at fault; the close frame has a code and the reason.
    except (_Refused, WireError) as error:
        await socket.aclose(POLICY_CLOSE_CODE, str(error))
        raise
    # The peer is gone; the end of the stream is all that is left to do.
    except SocketClosed:
        await socket.aclose()
        raise
    socket.lift_allowance()
    return MediaLeg(socket, codec, started, info)


async def _started(socket: WebSocket, codec: StreamCodec, deadline: float) -> StreamStarted:
    with trio.move_on_at(deadline):
        while True:
            event = codec.receive(await socket.receive())
            if isinstance(event, StreamStarted):
                return event
    raise _Refused(f"the start message must come within {START_TIMEOUT_S:g} s")


def _claim(context: ServerContext, upgrade: Upgrade, started: StreamStarted) -> CallInfo:
    """Return the announced call that a stream belongs to.

    Raises:
        _Refused: path, start message and token do not name the same announced call.
    """
    # A stream that names two calls belongs to neither.
    if _call_id(context, upgrade) != started.call_id:
        raise _Refused("the start message must name the call of the path")
    token = started.parameters.get("token", "")
    if not token:
        raise _Refused("the start message must have a token")
    # WARNING: takes the call out: from here on the token is used.
    call = context.pending.claim(started.call_id, token, trio.current_time())
    # A live call that has lost its stream waits for another one.
    info = context.claim_lost(started.call_id, token) if call is None else call.info
    if info is None:
        raise _Refused("the call is unknown, or its token is wrong, used or expired")
    logger.info("call %s: connected, from %s", info.call_id, mask_number(info.caller))
    return info
