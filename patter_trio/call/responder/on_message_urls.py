"""``on_message`` behind a URL: a webhook or a WebSocket. ``docs/messages.md`` describes both protocols for servers.

Every failure there is a failed reply: the caller hears ``error_message``, and the call goes on. The log has the failure
with the origin of the URL, but not the rest of the URL, the secret, or any words of the call.
"""

import codecs
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import trio

from patter_trio.call.control import CallControl
from patter_trio.call.output import reply as replies
from patter_trio.call.responder.on_message import CallMessageHandler, MessageHandler
from patter_trio.call.responder.streamed import ON_MESSAGE_TIMEOUT_S, paced
from patter_trio.conversation.text import is_sayable
from patter_trio.errors import ConfigurationError, ProviderError, ProviderTimeout
from patter_trio.net.http import HttpAnswer, origin_of, shared_client, tls_context
from patter_trio.net.pulse import Pulse
from patter_trio.net.urls import checked_url
from patter_trio.net.websocket_client import (
    ConnectionOver,
    OpenStream,
    WebSocketClient,
    open_direct_stream_to,
    open_websocket,
)
from patter_trio.user_code.urls import JSON_CONTENT_TYPE, NO_CONTENT_STATUS, encoded, signed

# Judged; docs/messages.md promises it. The bound is for memory: a server that never stops must not fill it.
MAX_ANSWER_BYTES: Final = 64 * 1024
"""Most bytes of one answer: more than an hour of speech."""
CALL_ID_HEADER: Final = "X-Patter-Call-Id"
NORMAL_CLOSE_CODE: Final = 1000
"""The close code after a complete answer (RFC 6455, section 7.4.1)."""
HTML_CONTENT_TYPE: Final = "text/html"
TEXT_CONTENT_TYPES: Final = ("", "text/plain", HTML_CONTENT_TYPE)
"""Types of plain words. Web frameworks call a string text/html unless told otherwise; a page of markup is refused."""

_log = logging.getLogger("patter_trio.call")


def remote(url: str, secret: str) -> MessageHandler:
    """Return a handler that sends the messages to a URL; ``secret`` signs them, unless it is empty.

    Raises:
        ConfigurationError: messages cannot be sent to the URL.
    """
    scheme = checked_message_url(url)
    if scheme in ("https", "wss"):
        tls_context()  # loads the certificates now, not while a caller waits
    if scheme in ("http", "https"):
        return WebhookHandler(url, secret)
    return SocketHandler(url, secret)


def checked_message_url(url: str) -> str:
    """Return the scheme of an ``on_message`` URL.

    Raises:
        ConfigurationError: messages cannot be sent there. The error says why, and has only the origin of the URL.
    """
    kind = "a function or a URL (https, http, wss or ws)"
    scheme = checked_url(url, "on_message", kind, ("https", "http", "wss", "ws"))
    parts = urlsplit(url)
    # HTTP sends it as basic authentication; a WebSocket's handshake would leave it out, and the server would refuse.
    if parts.username is not None and scheme in ("ws", "wss"):
        raise ConfigurationError(
            f"on_message cannot have a user name in a WebSocket's URL: {scheme}://...@{parts.hostname}"
        )
    return scheme


# By HTTP --------------------------------------------------------------------------------------------------------------
@attrs.frozen
class WebhookHandler(MessageHandler):
    """Handler that POSTs each message to an http or https URL."""

    url: str = attrs.field(repr=False)
    secret: str = attrs.field(repr=False)
    name: str = attrs.field(init=False, default=attrs.Factory(lambda self: origin_of(self.url), takes_self=True))

    def for_call(self, control: CallControl) -> CallMessageHandler:  # noqa: ARG002 (the event says all)
        """Return the handler for one call."""
        return _WebhookCallHandler(self)


@attrs.frozen
class _WebhookCallHandler(CallMessageHandler):
    webhook: WebhookHandler

    def answer_source(self, event: dict[str, Any]) -> replies.AnswerSource:
        body = encoded(event)
        headers = {
            "Content-Type": JSON_CONTENT_TYPE,
            "Accept": f"{JSON_CONTENT_TYPE}, text/plain",
            **signed(self.webhook.secret, body),
        }

        async def answer_to(take: replies.TakePiece[str]) -> None:
            deadline = ON_MESSAGE_TIMEOUT_S
            async with (
                shared_client(direct=True) as http,  # the application's own server: no proxy of the environment
                http.stream(
                    "POST",
                    self.webhook.url,
                    content=body,
                    headers=headers,
                    # For the answer to begin, and then for each piece: a long answer may stream for longer.
                    head_timeout=deadline,
                    piece_timeout=deadline,
                    max_bytes=MAX_ANSWER_BYTES,
                ) as answer,
            ):
                await _pass_on(answer, self.webhook.name, take)
                await take(replies.AnswerPhase.OVER)

        return paced(answer_to)


async def _pass_on(answer: HttpAnswer, who: str, take: replies.TakePiece[str]) -> None:
    """Pass on the text of an HTTP response: a JSON answer at once, plain text as it arrives."""
    if answer.status == NO_CONTENT_STATUS:
        return
    if answer.content_type == JSON_CONTENT_TYPE:
        text = _text_of(await answer.read(), who)
        if text:
            await take(text)
    elif answer.content_type in TEXT_CONTENT_TYPES:
        # The empty type, too: many small servers answer with bare text and set none.
        # Incremental, because a piece of the body may end in the middle of a character.
        decoder = codecs.getincrementaldecoder("utf-8")()
        may_be_page = answer.content_type == HTML_CONTENT_TYPE  # until its first word is there
        async for piece in answer.pieces():
            with _must_be_text(who):
                text = decoder.decode(piece)
            if may_be_page and text.lstrip().startswith("<"):
                raise _wrong_type(who, "an HTML page")
            may_be_page = may_be_page and not text.strip()
            await take(text)
        with _must_be_text(who):
            # Raises if the body ended within a character.
            decoder.decode(b"", final=True)
    else:
        raise _wrong_type(who, answer.content_type)


def _wrong_type(who: str, what: str) -> ProviderError:
    return ProviderError(f"{who} answered with {what}: give {JSON_CONTENT_TYPE} or text/plain")


def _text_of(body: bytes, who: str) -> str:
    if not body.strip():
        return ""
    with _must_be_text(who):
        said = json.loads(body)
    text = said.get("text", said) if isinstance(said, dict) else said
    return _sayable(text, f'{who} must answer {{"text": "..."}}, {{"text": null}} or nothing')


def _sayable(text: object, must: str) -> str:
    """Return the text of an answer, "" for null; raise a ProviderError with ``must`` if it is something else."""
    if text is None or (isinstance(text, str) and is_sayable(text)):
        return text or ""
    raise ProviderError(must)


@contextmanager
def _must_be_text(who: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:  # invalid UTF-8 (UnicodeDecodeError) and invalid JSON (JSONDecodeError) are both this
        raise ProviderError(f"{who} answered with invalid UTF-8 or JSON: {error}") from error


# By WebSocket ---------------------------------------------------------------------------------------------------------
@attrs.frozen
class SocketHandler(MessageHandler):
    """Handler that sends the messages of each call over a connection to a ws or wss URL."""

    url: str = attrs.field(repr=False)
    secret: str = attrs.field(repr=False)
    open_stream: OpenStream = attrs.field(default=open_direct_stream_to, repr=False)
    name: str = attrs.field(init=False, default=attrs.Factory(lambda self: origin_of(self.url), takes_self=True))

    def for_call(self, control: CallControl) -> CallMessageHandler:
        """Return the handler that keeps the connection of one call."""
        return _SocketCallHandler(self, control.call_id)


class _SocketCallHandler(CallMessageHandler):
    """The connection of one call: opened with the call, and opened again when a message finds it closed."""

    def __init__(self, socket: SocketHandler, call_id: str) -> None:
        self._socket = socket
        self._headers = {CALL_ID_HEADER: call_id, **signed(socket.secret, call_id.encode())}
        self._call_id = call_id
        self._client: WebSocketClient | None = None
        self._busy = False
        self._used = False
        self._wanted = trio.Event()  # kept, unlike a Pulse: a reply may ask while the connection is being opened
        self._changed = Pulse()
        self._failure: ProviderError | None = None

    async def run(self) -> None:
        """Keep the connection open until cancelled."""
        while True:
            self._failure, abandoned = None, False
            try:
                async with open_websocket(
                    self._socket.url, headers=self._headers, open_stream=self._socket.open_stream
                ) as client:
                    self._client, self._busy, self._used = client, False, False
                    self._wanted = trio.Event()
                    self._changed.fire()
                    # The answers read and write; this task only notices the end, so that it can reconnect.
                    await client.ended.wait()
                    abandoned = client.abandoned
            except ProviderError as error:
                # The task goes on: a connection that could not be opened fails the reply that wanted it, not the call.
                self._failure = error
                if not self._wanted.is_set():  # otherwise a reply waits for it, raises it, and logs it
                    _log.warning("call %s: on_message: %s", self._call_id, error)
                self._wanted = trio.Event()
            self._client = None
            self._changed.fire()
            # After an abandoned answer the next one is likely soon: connect at once. After the server's end or a
            # failure, connect only when a message needs it, so that a server that is down is not asked again and again.
            if not abandoned:
                await self._wanted.wait()

    async def connected(self) -> tuple[WebSocketClient, bool]:
        """Return an idle connection, opened if necessary, and True if messages were sent over it before.

        Raises:
            ProviderError: the connection cannot be opened.
        """
        if self._client is not None and (self._busy or not self._client.usable):
            self.release(self._client, clean=False)  # a cut reply has left it busy, or the server has closed it
        # No await between the check and the wait, as Pulse requires.
        while self._client is None:
            self._wanted.set()
            await self._changed.wait()
            if self._failure is not None:
                raise self._failure
        used, self._busy, self._used = self._used, True, True
        return self._client, used

    def release(self, client: WebSocketClient, *, clean: bool) -> None:
        """Return a connection for the next message; close it if the answer was not read to its end (not ``clean``)."""
        if self._client is not client:
            return
        self._busy = False
        if not clean:
            self._client = None
            client.abandon()

    def answer_source(self, event: dict[str, Any]) -> replies.AnswerSource:
        """Return the source of an answer over the connection.

        Leaving it before the answer's end closes the connection.
        """
        message = encoded(event).decode()

        async def answer_to(take: replies.TakePiece[str]) -> None:
            answer = _StreamedAnswer(self, self._socket.name, message)
            try:
                await answer.ask()
                await answer.pass_on(take)
                await take(replies.AnswerPhase.OVER)
            finally:
                answer.leave()

        return paced(answer_to)


class _StreamedAnswer:
    """The answer to one message, received in pieces over the call's connection."""

    def __init__(self, conversation: _SocketCallHandler, who: str, message: str) -> None:
        self._conversation = conversation
        self._who = who
        self._message = message
        self._client: WebSocketClient | None = None
        self._used = False
        self._size = 0
        self._done = False

    async def ask(self) -> None:
        """Send the message."""
        with self._in_time():
            await self._ask()

    async def _ask(self) -> None:
        while True:
            self._client, self._used = await self._conversation.connected()
            self._client.discard()  # messages that the server sent unasked are not part of this answer
            try:
                await self._client.send(self._message)
            except ConnectionOver:
                # A used connection may have ended while it was idle: try a new one. A new one that ends is a failure.
                if not self._used:
                    raise
            else:
                return

    def leave(self) -> None:
        """Release the connection, because the reply is over."""
        if self._client is not None:
            self._conversation.release(self._client, clean=self._done)

    async def pass_on(self, take: replies.TakePiece[str]) -> None:
        """Pass on the pieces of the answer as they arrive."""
        # Until the server says that it is done: unlike an HTTP answer, a message over an open
        # connection has no end of its own.
        while not self._done:
            piece = await self._receive()
            if piece is not None:
                await take(piece)

    async def _receive(self) -> str | None:
        """Return the next piece; None if the server has closed the connection after the last one."""
        with self._in_time():
            while self._client is not None:
                try:
                    return self._piece(await self._client.receive())
                except ConnectionOver as over:
                    # The end of the connection is an answer's regular end if the server closed
                    # normally, and a failure otherwise.
                    if self._used and not self._size:
                        # The server closed the idle connection just as the message was sent: send it again.
                        await self._ask()
                    elif over.code == NORMAL_CLOSE_CODE:
                        break
                    else:
                        raise
        self._done = True
        return None

    def _piece(self, message: str | bytes) -> str:
        if isinstance(message, bytes):
            raise ProviderError(f"{self._who} sent a binary message")
        # Counted over all pieces, because each alone may be small.
        self._size += len(message.encode())
        if self._size > MAX_ANSWER_BYTES:
            raise ProviderError(f"the answer of {self._who} is longer than {MAX_ANSWER_BYTES} bytes")
        said = _object(message)
        if said is None:
            return message
        self._done = bool(said.get("done"))
        return _sayable(
            said.get("text"),
            f'{self._who} must send {{"text": "..."}}, {{"done": true}}, or text that is not a JSON object',
        )

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        try:
            with trio.fail_after(ON_MESSAGE_TIMEOUT_S):
                yield
        except trio.TooSlowError as error:
            # A ProviderTimeout instead, so that the reply fails with an apology like any other whose provider is late.
            raise ProviderTimeout(f"{self._who} did not answer within {ON_MESSAGE_TIMEOUT_S:g} s") from error


def _object(message: str) -> dict[str, Any] | None:
    """Return a message parsed as a JSON object; None if it is plain text."""
    if not message.startswith("{"):
        return None
    try:
        said = json.loads(message)
    except ValueError:
        # Text that merely begins with a brace is said as it is: plain text needs no escaping in this protocol.
        return None
    return said if isinstance(said, dict) else None
