"""A scripted server of OpenAI's chat completions, on loopback or over any stream.

::

    async with serve_openai([ChatReply("Good morning.", usage=(20, 4, 0))]) as server:
        llm = OpenAILLM(model="scripted", base_url=server.base_url)

It streams as the vendor does: a chunk with the role, one for each word, each tool call in several chunks, the finish
reason, the usage if it was asked for, ``[DONE]``; connections are kept alive. On a mock clock its times are exact.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs
import h11
import trio

from patter_trio.abc import ToolCall
from patter_trio.testing.servers.loopback import on_loopback, read_request

# A constant: equal questions get equal answers, to the byte.
CREATED_UNIX_S: Final = 1_700_000_000


@attrs.frozen
class ChatReply:
    """The answer to one request.

    Args:
        text: the text, sent word by word.
        tool_calls: the tool calls after the text.
        usage: prompt tokens, completion tokens, and the number of cached prompt tokens.
        first_token: seconds from the request to the first word.
        duration: seconds from the first word to the end; the words are spread evenly.
        status: HTTP status of the answer; any other than 200 has ``error`` in its body, in the vendor's format.
        error: the vendor's text of a failure; with status 200 it comes in the stream, after the text.
        finish_reason: the finish reason; by default ``stop``, or ``tool_calls``.
        break_after: chunks after which the connection is broken.
        hang_after: chunks after which nothing more comes.
        raw: a raw body that is sent instead of all that.
    """

    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    usage: tuple[int, int, int] = (10, 5, 0)
    first_token: float = 0.0
    duration: float = 0.0
    status: int = 200
    error: str = ""
    finish_reason: str = ""
    break_after: int | None = None
    hang_after: int | None = None
    raw: bytes | None = None
    more: Sequence[Mapping[str, Any]] = ()
    """Deltas that come before the text, such as ``{"reasoning_content": "Hmm."}`` or ``{"refusal": "No."}``."""


@attrs.define
class ChatRequest:
    """A received request: ``body`` is its JSON; ``connection`` counts from 1."""

    method: str
    target: str
    headers: dict[str, str] = attrs.field(repr=False)
    body: dict[str, Any]
    connection: int
    at: float


Script = Sequence[ChatReply] | Callable[[ChatRequest], ChatReply]


class OpenAIServer:
    """The server; ``requests`` holds the requests, ``left`` the times at which clients left an unfinished answer."""

    def __init__(self, replies: Script) -> None:
        self._replies = replies
        self._asked = 0
        self.base_url: str = "http://openai.test/v1"
        self.requests: list[ChatRequest] = []
        self.left: list[float] = []
        self.connections: int = 0

    def __repr__(self) -> str:
        return f"<OpenAIServer {self.base_url}, {len(self.requests)} requests>"

    @property
    def chats(self) -> list[ChatRequest]:
        """The requests for an answer, without those that only opened a connection."""
        return [request for request in self.requests if request.target.endswith("/chat/completions")]

    async def handle(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end."""
        self.connections += 1
        number = self.connections
        async with stream:
            try:
                http = h11.Connection(h11.SERVER)
                while (request := await _read(http, stream, number)) is not None:
                    self.requests.append(request)
                    if not await self._watched(request, stream):
                        return
                    # Anew for each request: the answers are written by hand, so h11 would
                    # never learn that its cycle is over.
                    http = h11.Connection(h11.SERVER)
            # The client has left, perhaps within a request, or does not speak HTTP;
            # whatever it sent before is recorded.
            except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
                return

    async def _watched(self, request: ChatRequest, stream: trio.abc.Stream) -> bool:
        """Answer unless the client leaves first; return True if the connection continues."""
        going_on = False
        async with trio.open_nursery() as nursery:
            # Beside the answer: a client that leaves is noticed at once, not with the next
            # chunk. The instant is what tests compare.
            nursery.start_soon(self._watch, stream, nursery.cancel_scope)
            try:
                going_on = await self._answer(request, stream)
            except trio.BrokenResourceError:  # the writer may notice it before the watching task does
                self.left.append(trio.current_time())
            nursery.cancel_scope.cancel(reason="answered")
        return going_on

    async def _watch(self, stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
        try:
            # The client sends nothing before it has the whole answer, so whatever ends this wait, it has left.
            await stream.receive_some(1)
        # This server has ended the connection, as scripted.
        except trio.ClosedResourceError:
            return
        # A reset is another way to leave.
        except trio.BrokenResourceError:
            pass
        self.left.append(trio.current_time())
        scope.cancel(reason="the client left")

    def _reply(self, request: ChatRequest) -> ChatReply:
        if callable(self._replies):
            return self._replies(request)
        self._asked += 1
        # The last reply serves all further requests: most tests care about the first few.
        return self._replies[min(self._asked, len(self._replies)) - 1]

    async def _answer(self, request: ChatRequest, stream: trio.abc.Stream) -> bool:
        if not request.target.endswith("/chat/completions"):
            # What opening a connection ahead of time gets from the vendor, too: the key is not in that request.
            await _send_whole(stream, 401, b"" if request.method == "HEAD" else b"{}")
            return True
        reply = self._reply(request)
        if reply.status != 200:  # noqa: PLR2004 (HTTP's OK)
            error = {"message": reply.error, "type": "invalid_request_error", "param": None, "code": None}
            # A refusal is as late as an answer would be.
            await trio.sleep(reply.first_token)
            await _send_whole(stream, reply.status, json.dumps({"error": error}).encode())
            return True
        if reply.raw is not None:
            await _begin(stream)
            await _send(stream, reply.raw)
            await stream.send_all(b"0\r\n\r\n")
            return True
        await self._stream(reply, request, stream)
        return reply.break_after is None

    async def _stream(self, reply: ChatReply, request: ChatRequest, stream: trio.abc.Stream) -> None:
        words = [word for word in _words(reply.text) if word]
        # Instants, not pauses: the words are spread exactly, however long the sends take.
        first = trio.current_time() + reply.first_token
        gap = reply.duration / max(1, len(words))
        await _begin(stream)
        for number, chunk in enumerate(self._chunks(reply, words, request)):
            # The chunk with the role, and the deltas before the text, come at once.
            spoken = number - 1 - len(reply.more)
            if spoken >= 0:
                await trio.sleep_until(first + min(spoken, len(words)) * gap)
            if number == reply.break_after:
                return
            # Within the watched scope: the wait ends when the client leaves.
            if number == reply.hang_after:
                await trio.sleep_forever()
            await _send(stream, b"data: " + chunk + b"\n\n")
        await _send(stream, b"data: [DONE]\n\n")
        await stream.send_all(b"0\r\n\r\n")

    def _chunks(self, reply: ChatReply, words: Sequence[str], request: ChatRequest) -> list[bytes]:
        deltas: list[Mapping[str, Any]] = [{"role": "assistant", "content": ""}, *reply.more]
        deltas += [{"content": word} for word in words]
        for index, call in enumerate(reply.tool_calls):
            function = {"name": call.name, "arguments": ""}
            # The id and the name come only in the first chunk of a call, and the
            # arguments in pieces: a client has to join them.
            deltas.append({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]})
            half = len(call.arguments) // 2
            deltas += [
                {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
                for piece in (call.arguments[:half], call.arguments[half:])
                if piece
            ]
        chunk = partial(_chunk, request.body.get("model", ""))
        chunks = [chunk([_choice(delta)]) for delta in deltas]
        # The vendor can also fail after it has answered 200; the stream then ends with an
        # error in place of a finish reason.
        if reply.error:
            return [*chunks, json.dumps({"error": {"message": reply.error, "type": "server_error"}}).encode()]
        reason = reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")
        chunks.append(chunk([_choice({}, reason)]))
        if (request.body.get("stream_options") or {}).get("include_usage"):
            prompt, completion, cached = reply.usage
            usage = {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
                "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
            }
            # The chunk with the usage has no choices, as at the vendor: code that reads
            # ``choices[0]`` of each chunk would fail.
            chunks.append(chunk([], usage=usage))
        return chunks


@asynccontextmanager
async def serve_openai(replies: Script) -> AsyncIterator[OpenAIServer]:
    """Serve on a free port of loopback while the block runs.

    Args:
        replies: the n-th answers the n-th request, the last also all further ones; or a function of the request.
    """
    server = OpenAIServer(replies)
    async with on_loopback(server.handle) as port:
        server.base_url = f"http://127.0.0.1:{port}/v1"
        yield server


async def _read(http: h11.Connection, stream: trio.abc.Stream, number: int) -> ChatRequest | None:
    """Return the next request, or None if the client sends no more."""
    request = await read_request(http, stream)
    if request is None:
        return None
    head, body = request
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
    asked = json.loads(body) if body else {}
    method, target = head.method.decode("latin-1"), head.target.decode("latin-1")
    return ChatRequest(method, target, headers, asked, number, trio.current_time())


async def _begin(stream: trio.abc.Stream) -> None:
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    await stream.send_all(head.encode())


async def _send(stream: trio.abc.Stream, data: bytes) -> None:
    await stream.send_all(b"%x\r\n%b\r\n" % (len(data), data))


async def _send_whole(stream: trio.abc.Stream, status: int, body: bytes) -> None:
    head = f"HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    await stream.send_all(head.encode() + body)


def _words(text: str) -> list[str]:
    return [word if number == 0 else f" {word}" for number, word in enumerate(text.split(" "))]


def _choice(delta: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": reason}


def _chunk(model: str, choices: Sequence[Mapping[str, Any]], *, usage: Mapping[str, Any] | None = None) -> bytes:
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": CREATED_UNIX_S,
        "model": model,
        "service_tier": "default",
        "system_fingerprint": "fp_1",
        "choices": list(choices),
        "usage": usage,
    }
    return json.dumps(chunk, ensure_ascii=False).encode()
