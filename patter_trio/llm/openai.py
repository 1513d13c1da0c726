"""OpenAI's chat models, and every server that speaks the same protocol: Groq, Cerebras, vLLM, Ollama and others.

A barge-in closes the connection of the answer, which every server takes as the end of its work. The next request would
have to open a new one; :meth:`OpenAILLM.connect` does so in advance, at the beginning of a call and after each cut.
"""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from patter_trio.abc import LanguageModel, Message, ToolCall, ToolDefinition, report_usage
from patter_trio.errors import ConfigurationError
from patter_trio.net.http import Client, ConnectionBroke, HttpAnswer, check_url, shared_client
from patter_trio.net.sse import ServerEvents
from patter_trio.providers.validators import in_range
from patter_trio.wire.openai_chat import ChatDecoder, reason_of_refusal, request

BASE_URL: Final = "https://api.openai.com/v1"
KEY_VARIABLE: Final = "OPENAI_API_KEY"
MAX_ANSWER_BYTES: Final = 16 << 20
"""Most bytes of one answer: some 50 000 tokens, of 300 bytes each as they are sent."""
DRAIN_TIMEOUT_S: Final = 0.25
"""Seconds for what comes behind the last event: nothing but the end of the body."""
CONNECT_TIMEOUT_S: Final = 5.0
"""Seconds that :meth:`OpenAILLM.connect` may take."""

_PROVIDERS: Final[Mapping[str, str]] = {
    "api.openai.com": "openai",
    "api.groq.com": "groq",
    "api.cerebras.ai": "cerebras",
}


def _provider(llm: "OpenAILLM") -> str:
    host = urlsplit(llm.base_url).hostname or ""
    return _PROVIDERS.get(host, host)


def _given(key: str | None) -> str:
    return key or ""


def _url(given: str) -> str:
    check_url(given)
    parts = urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("OpenAILLM: base_url= must be an http or https URL, such as http://127.0.0.1:11434/v1")
    return given.rstrip("/")


@attrs.frozen
class OpenAILLM(LanguageModel):
    """A chat model of OpenAI's, or of a compatible server.

    Args:
        api_key: default: ``OPENAI_API_KEY``, which only OpenAI itself gets. Another server without a key is asked
            without one.
        model: its name.
        base_url: of a compatible server, up to and with ``/v1``.
        temperature: 0 to 2; None: the vendor's default. Reasoning models take none.
        top_p: 0 to 1.
        max_tokens: most tokens of an answer.
        reasoning_effort: such as ``"none"``, ``"low"``; every thought is silence on the line.
        parallel_tool_calls: whether several tools may be called at once; None: the vendor's default.
        include_usage: ask for the tokens that will be billed; a few servers refuse the question.
        extra: more keys of the request's body, for what a server has of its own.
        first_token: seconds until the answer begins.
        between: seconds for each next piece of it.
        provider: what it is called in events and prices; default: known hosts by name, others by their host.

    Raises:
        ConfigurationError: there is no key, or an option is out of range.
    """

    api_key: str = attrs.field(default="", converter=_given, repr=False)
    model: str = attrs.field(default="gpt-4o-mini", validator=attrs.validators.instance_of(str), kw_only=True)
    base_url: str = attrs.field(default=BASE_URL, converter=_url, kw_only=True)
    temperature: float | None = attrs.field(default=None, validator=in_range(0, 2), kw_only=True)
    top_p: float | None = attrs.field(default=None, validator=in_range(0, 1), kw_only=True)
    max_tokens: int | None = attrs.field(default=None, validator=in_range(1, 1 << 20), kw_only=True)
    reasoning_effort: str | None = attrs.field(default=None, kw_only=True)
    parallel_tool_calls: bool | None = attrs.field(default=None, kw_only=True)
    include_usage: bool = attrs.field(default=True, kw_only=True)
    extra: Mapping[str, Any] = attrs.field(factory=dict, converter=dict, kw_only=True)
    first_token: float = attrs.field(default=10.0, validator=in_range(0.1, 600, optional=False), kw_only=True)
    between: float = attrs.field(default=10.0, validator=in_range(0.1, 600, optional=False), kw_only=True)
    provider: str = attrs.field(default=attrs.Factory(_provider, takes_self=True), kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Make sure that there is a key where one is needed; another server never gets OpenAI's."""
        if not self.api_key and self.base_url == BASE_URL:
            object.__setattr__(self, "api_key", os.environ.get(KEY_VARIABLE, ""))
        if not self.api_key and self.base_url == BASE_URL:
            raise ConfigurationError(f"OpenAILLM needs a key: give api_key=, or set {KEY_VARIABLE}")
        if not self.api_key.isascii() or not self.api_key.isprintable():
            raise ConfigurationError("OpenAILLM: api_key= has characters that no key has")

    @asynccontextmanager
    async def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolDefinition] = ()
    ) -> AsyncIterator[AsyncIterator[str | ToolCall]]:
        """Open the streamed answer; usage is reported when the vendor has told it.

        Raises:
            AuthenticationError: the key was refused.
            RateLimitError: too much was asked, or there is no money left.
            ProviderTimeout: the answer did not begin, or go on, in time.
            ProviderError: the server failed.
        """
        content = request(self.model, messages, tools, self._options(tools))
        async with shared_client() as http, self._asked(http, content) as answer:
            pieces = _Pieces(answer)
            try:
                yield pieces
                if pieces.over:
                    await pieces.events.drain(DRAIN_TIMEOUT_S)
            finally:
                if pieces.decoder.usage is not None:
                    report_usage(pieces.decoder.usage)

    async def connect(self) -> None:
        """Have a connection ready for the next answer; what is wrong is said by that answer."""
        async with shared_client() as http:
            await http.warm(f"{self.base_url}/models", head_timeout=CONNECT_TIMEOUT_S)

    @asynccontextmanager
    async def _asked(self, http: Client, content: bytes) -> AsyncIterator[HttpAnswer]:
        """Ask; once more where the connection was one that the server had just closed."""
        asking = partial(
            http.stream,
            "POST",
            f"{self.base_url}/chat/completions",
            content=content,
            headers=self._headers(),
            head_timeout=self.first_token,
            piece_timeout=self.between,
            max_bytes=MAX_ANSWER_BYTES,
            explain=reason_of_refusal,
        )
        async with AsyncExitStack() as stack:
            try:
                answer = await stack.enter_async_context(asking())
            except ConnectionBroke:
                answer = await stack.enter_async_context(asking())
            yield answer

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        return {**headers, "Authorization": f"Bearer {self.api_key}"} if self.api_key else headers

    def _options(self, tools: Sequence[ToolDefinition]) -> dict[str, Any]:
        # OpenAI has given max_tokens up for reasoning models; most other servers know no other name.
        most = "max_completion_tokens" if self.base_url == BASE_URL else "max_tokens"
        options = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            most: self.max_tokens,
            "reasoning_effort": self.reasoning_effort,
            "parallel_tool_calls": self.parallel_tool_calls if tools else None,
            "stream_options": {"include_usage": True} if self.include_usage else None,
        }
        return {key: value for key, value in options.items() if value is not None} | dict(self.extra)


class _Pieces:
    """Iterates over an answer's pieces; tool calls come last.

    A class, not a generator: the reply may leave it anywhere, and the stream then reads its state (``over``, the usage).
    A channel would cost each token a switch of tasks.
    """

    def __init__(self, answer: HttpAnswer) -> None:
        self.events = ServerEvents(answer)
        self.decoder = ChatDecoder()
        self.over = False
        self._calls: list[ToolCall] = []

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> str | ToolCall:
        while not self.over:
            try:
                event = await anext(self.events)
            except StopAsyncIteration:
                self._end()
                break
            text = self.decoder.take(event.data)
            if self.decoder.done:
                self._end()
            if text:
                return text
        if not self._calls:
            raise StopAsyncIteration
        return self._calls.pop(0)

    def _end(self) -> None:
        self._calls = self.decoder.calls()
        self.over = True
