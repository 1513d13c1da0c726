"""One HTTP request over one stream, as a carrier sends its webhooks."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

import h11
import trio

from patter_trio.testing.carriers.protocol import WEBHOOK_TIMEOUT_S, CallRefused, Webhook, WebhookAnswer

Connect = Callable[[], Awaitable[trio.abc.Stream]]
"""Opens a connection to the agent's server."""
READ_BYTES: Final = 65536
# Read no further: a server that answers without end must not fill the test's memory.
MAX_ANSWER_BYTES: Final = 65536
"""Maximum size of an answer: Twilio accepts 64 kB of TwiML."""


async def asked(connect: Connect, webhook: Webhook) -> WebhookAnswer:
    """Send a webhook over a connection of its own, and return the answer, whatever it is.

    Raises:
        CallRefused: there was no answer in time.
    """
    with trio.move_on_after(WEBHOOK_TIMEOUT_S):
        try:
            connection = await connect()
        # Of a real socket: the server is gone.
        except OSError as error:
            raise CallRefused("failed", f"the webhook could not be reached: {error}") from error
        try:
            return await post(connection, webhook.url, webhook.body, webhook.headers)
        # Whatever the reason, the caller hears that something went wrong.
        except (h11.RemoteProtocolError, trio.BrokenResourceError) as error:
            raise CallRefused("failed", f"the voice webhook did not answer: {error}") from error
        finally:
            await trio.aclose_forcefully(connection)
    raise CallRefused("failed", f"the voice webhook did not answer within {WEBHOOK_TIMEOUT_S:g} s")


async def post(stream: trio.abc.Stream, url: str, body: bytes, headers: Mapping[str, str]) -> WebhookAnswer:
    """POST a body and return the answer; ``headers`` name its type.

    Raises:
        h11.RemoteProtocolError: the answer is not HTTP, is too long, or ended before it was complete.
        trio.BrokenResourceError: the connection broke.
    """
    split = urlsplit(url)
    target = (split.path or "/") + (f"?{split.query}" if split.query else "")
    fields = {
        "Host": split.netloc,
        # One request for each connection, as from a carrier whose next webhook may come from another of its machines.
        "Connection": "close",
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
