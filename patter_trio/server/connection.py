"""The door: one connection, from its first byte to its end.

Webhooks and media streams come to one port. The door reads the head of the request and decides: a media stream's upgrade
goes to our own WebSocket shell, everything else to the HTTP server with the bytes replayed.

A media socket proves itself before anything is opened for it: by the carrier's signature on its upgrade where there is
one (a wrong one is refused), and in any case by the one-time token of an announced call, which must also be the call
that path and start message name. Whoever has not done so after ten seconds is closed, with code 1008; and only so many
unsigned ones may be waiting at a time.

Nothing that a peer does raises out of here. Neither does a bug in what answers a call: it is logged, the connection is
closed, and the server lives. This is the boundary between connections.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import unquote

import trio

from patter_trio.abc import CallInfo, StreamCodec, StreamStarted
from patter_trio.call.leg import MediaLeg
from patter_trio.errors import PatterError, WireError
from patter_trio.net.websocket import SocketClosed, Upgrade, WebSocket, receive_upgrade
from patter_trio.phone_numbers import mask_number, shown_id
from patter_trio.server.context import ServerContext
from patter_trio.server.http import serve_http
from patter_trio.server.webhooks import Application
from patter_trio.user_code.context import NO_CALL, current_call

MAX_HEAD_BYTES: Final = 16 * 1024
"""Largest head of a request, in bytes; h11, which judges what is not media, has the same limit."""
HEAD_TIMEOUT_S: Final = 10.0
START_TIMEOUT_S: Final = 10.0
"""How long a media socket may be without its start message; it is the second one that a carrier sends."""
NORMAL_CLOSE_CODE: Final = 1000
POLICY_CLOSE_CODE: Final = 1008
INTERNAL_ERROR_CLOSE_CODE: Final = 1011

_UPGRADE: Final = re.compile(rb"(?im)^upgrade[ \t]*:[^\r\n]*\bwebsocket\b")

logger: Final = logging.getLogger("patter_trio.server")


class _Refused(PatterError):
    """A peer is turned away; the message says why, to it and to the log."""


class _EmptyConnection(WireError):
    """A peer has connected and left, as health checks do: not worth a warning."""


async def serve_connection(context: ServerContext, stream: trio.abc.Stream) -> None:
    """Serve one connection, over any stream, and close it. Raises nothing but what cancellation raises."""
    try:
        await _serve(context, stream)
    except* Exception:
        whose = "" if current_call.get() == NO_CALL else f"call {current_call.get()}: "
        logger.exception("%sconnection ended by an error of our own", whose)
    finally:
        await trio.aclose_forcefully(stream)


async def _serve(context: ServerContext, stream: trio.abc.Stream) -> None:
    call_id = ""
    try:
        head = await _read_head(stream)
        if not _is_media(context, head):
            if not await serve_http(Application(context), stream, head):
                logger.warning("connection closed: what it sent is no HTTP request")
            return
        with _answering():
            upgrade = await receive_upgrade(stream, head)
        call_id = _call_id(context, upgrade)
        leg = await _open_leg(context, upgrade)
    except _EmptyConnection as nothing:
        logger.debug("connection closed: %s", nothing)
        return
    except (trio.BrokenResourceError, trio.ClosedResourceError, SocketClosed, WireError, _Refused) as error:
        whose = f"call {shown_id(call_id)}: " if call_id else ""
        logger.warning("%sconnection closed: %s", whose, str(error) or "lost")
        return
    code = INTERNAL_ERROR_CLOSE_CODE
    try:
        await context.run_call(leg)
        code = NORMAL_CLOSE_CODE
    finally:
        await leg.socket.aclose(code)


async def _read_head(stream: trio.abc.Stream) -> bytes:
    """Return the head of a request and whatever came with it; one that is too long only in part, for h11 to refuse.

    Raises:
        WireError: there is none, or not in time.
    """
    head = bytearray()
    with trio.move_on_after(HEAD_TIMEOUT_S):
        while b"\r\n\r\n" not in head and len(head) <= MAX_HEAD_BYTES:
            data = await stream.receive_some(MAX_HEAD_BYTES)
            if not data:
                raise WireError("end of input within the head of a request") if head else _EmptyConnection("no request")
            head += data
        if head.startswith(b"PRI * HTTP/2"):
            raise WireError("HTTP/2 is not spoken here")
        return bytes(head)
    raise WireError(f"no request within {HEAD_TIMEOUT_S:g} s")


def _is_media(context: ServerContext, head: bytes) -> bool:
    end = head.find(b"\r\n\r\n")
    wanted = head.startswith(f"GET {context.carrier.media_prefix}".encode())
    return wanted and end > 0 and _UPGRADE.search(head, 0, end) is not None


def _call_id(context: ServerContext, upgrade: Upgrade) -> str:
    """Return the call that a stream's path names."""
    return unquote(upgrade.path.partition("?")[0].removeprefix(context.carrier.media_prefix))


@contextmanager
def _answering() -> Iterator[None]:
    """Bound the time that the answer to an upgrade may take; a peer that reads nothing holds it up."""
    with trio.move_on_after(START_TIMEOUT_S) as answer:
        yield
    if answer.cancelled_caught:
        raise _Refused("the answer to an upgrade was not read")


async def _open_leg(context: ServerContext, upgrade: Upgrade) -> MediaLeg:
    """Accept the upgrade and return the leg that it turns out to be.

    Raises:
        _Refused: it is none; the peer was told so.
        WireError, SocketClosed: the peer broke the protocol or left.
    """
    signatures = upgrade.headers.get_all(context.carrier.signature_header)
    url = context.websocket_url(upgrade.path)
    if not all(context.carrier.check(url, {}, signature) for signature in signatures):
        with _answering():
            await upgrade.refuse(403, "Forbidden\n")
        raise _Refused(f"media stream with a wrong signature (is the public URL {context.public_url} ?)")
    if signatures:
        return await _accept_media(context, upgrade)
    try:
        context.unauthenticated.acquire_nowait()
    except trio.WouldBlock:
        with _answering():
            await upgrade.refuse(503, "Service Unavailable\n")
        raise _Refused("too many media streams that have not started") from None
    try:
        return await _accept_media(context, upgrade)
    finally:
        context.unauthenticated.release()


async def _accept_media(context: ServerContext, upgrade: Upgrade) -> MediaLeg:
    deadline = trio.current_time() + START_TIMEOUT_S
    with _answering():
        socket = await upgrade.accept()
    codec = context.carrier.new_codec()
    try:
        started = await _started(socket, codec, deadline)
        return MediaLeg(socket, codec, started, _claim(context, upgrade, started))
    except (_Refused, WireError) as error:
        await socket.aclose(POLICY_CLOSE_CODE, str(error))
        raise
    except SocketClosed:
        await socket.aclose()
        raise


async def _started(socket: WebSocket, codec: StreamCodec, deadline: float) -> StreamStarted:
    with trio.move_on_at(deadline):
        while True:
            event = codec.receive(await socket.receive())
            if isinstance(event, StreamStarted):
                return event
    raise _Refused(f"no start within {START_TIMEOUT_S:g} s")


def _claim(context: ServerContext, upgrade: Upgrade, started: StreamStarted) -> CallInfo:
    """Return the announced call that a stream belongs to.

    Raises:
        _Refused: to none that it can prove.
    """
    if _call_id(context, upgrade) != started.call_id:
        raise _Refused("start names another call than the path")
    token = started.parameters.get("token", "")
    if not token:
        raise _Refused("start without a token")
    call = context.pending.claim(started.call_id, token, trio.current_time())
    if call is None:
        raise _Refused("unknown call, or its token is wrong, used or too old")
    info = call.info
    logger.info("call %s: connected, from %s", info.call_id, mask_number(info.caller))
    return info
