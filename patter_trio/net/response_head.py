"""The head of an HTTP response, read from a stream that then changes its protocol: a WebSocket handshake, a tunnel.

This module reads the head before any library sees it, for two reasons. A refusal is complete with its head: a server
that announces a body and never sends it must not delay the error. And the head's size is bounded, however slowly it
comes.
"""

import re
from http.client import HTTPException, HTTPMessage, parse_headers
from io import BytesIO
from typing import Final

import attrs
import trio

from patter_trio.errors import WireError

MAX_HEAD_BYTES: Final = 16 * 1024
"""Largest accepted head in bytes; h11 and most servers have the same limit."""
READ_BYTES: Final = 4096
"""Most bytes of one read: a head fits, and little of what follows it has to be passed on."""

# HTTP/1.0 as well, which some proxies still speak; the reason phrase is optional (RFC 9112, section 4).
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
# Lines may end with a bare line feed: RFC 9112, section 2.2, allows a reader to accept that.
_END: Final = re.compile(rb"\r?\n\r?\n")


@attrs.frozen
class ResponseHead:
    """A response's status and headers.

    Args:
        status: the HTTP status.
        headers: by name, in any case.
        received: every byte that was read: the head, and what came in one segment with it.
        rest: the part of ``received`` behind the head.
    """

    status: int
    headers: HTTPMessage = attrs.field(repr=False)
    received: bytes = attrs.field(repr=False)
    rest: bytes = attrs.field(repr=False)


async def receive_head(stream: trio.abc.ReceiveStream) -> ResponseHead:
    """Read from a stream until the head is complete.

    Raises:
        WireError: the peer did not send HTTP/1, or sent more than :data:`MAX_HEAD_BYTES`.
        trio.BrokenResourceError: the connection ended before the head did.
    """
    received = bytearray()
    searched = 0
    while (end := _END.search(received, searched)) is None:
        if len(received) > MAX_HEAD_BYTES:
            raise WireError(f"the head of the answer must have at most {MAX_HEAD_BYTES} bytes")
        searched = max(0, len(received) - 3)  # the end may have begun in the last three bytes
        data = await stream.receive_some(READ_BYTES)
        if not data:
            # Not a WireError: the caller reports a lost connection, not a peer that broke the rules.
            raise trio.BrokenResourceError("the connection ended before the answer did")
        received += data
    return _parse(bytes(received), end.end())


def _parse(received: bytes, end: int) -> ResponseHead:
    status = _STATUS.match(received)
    if status is None:
        raise WireError("the answer must be an HTTP/1.1 response")
    try:
        headers = parse_headers(BytesIO(received[status.end() : end]))
    # Only the type: the text of these exceptions quotes the header.
    except HTTPException as error:
        raise WireError(f"the head of the answer must have valid headers: {type(error).__name__}") from error
    return ResponseHead(int(status[1]), headers, received, received[end:])
