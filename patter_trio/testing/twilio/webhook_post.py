"""One HTTP request over one stream, as a carrier sends its webhooks."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode, urlsplit

import attrs
import h11
import trio

READ_BYTES: Final = 65536
# Read no further: a server that answers without end must not fill the test's memory.
MAX_ANSWER_BYTES: Final = 65536
"""Maximum size of an answer: Twilio accepts 64 kB of TwiML."""


@attrs.frozen
class WebhookAnswer:
    """An HTTP response, read to its end."""

    status: int
    content_type: str
    body: bytes


async def post_form(
    stream: trio.abc.Stream, url: str, form: Mapping[str, str], headers: Mapping[str, str]
) -> WebhookAnswer:
    """POST a form and return the answer.

    Raises:
        h11.RemoteProtocolError: the answer is not HTTP, is too long, or ended before it was complete.
        trio.BrokenResourceError: the connection broke.
    """
    split, body = urlsplit(url), urlencode(form).encode()
    target = (split.path or "/") + (f"?{split.query}" if split.query else "")
    fields = {
        "Host": split.netloc,
        # One request for each connection, as from a carrier whose next webhook may come from another of its machines.
        "Connection": "close",
        "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
        "Content-Length": str(len(body)),
        **headers,
    }
    http = h11.Connection(h11.CLIENT)
    request = h11.Request(method="POST", target=target, headers=list(fields.items()))
    parts = [http.send(request), http.send(h11.Data(data=body)), http.send(h11.EndOfMessage())]
    # Head and body at once: a server must not depend on where one segment ends.
    await stream.send_all(b"".join(part for part in parts if part))
    status, content_type, received = 0, "", bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(READ_BYTES)))
        elif isinstance(event, h11.Response):
            status = event.status_code
            content_type = dict(event.headers).get(b"content-type", b"").decode("latin-1")
        elif isinstance(event, h11.Data):
            received += event.data
            if len(received) > MAX_ANSWER_BYTES:
                raise h11.RemoteProtocolError(f"the answer must have at most {MAX_ANSWER_BYTES} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return WebhookAnswer(status, content_type, bytes(received))
        # The server closed before it answered; a connection that is cut within an answer raises in h11.
        elif isinstance(event, h11.ConnectionClosed):
            raise h11.RemoteProtocolError("the connection ended without an answer")
