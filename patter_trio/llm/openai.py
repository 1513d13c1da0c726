"""OpenAI's chat models, and other servers with the same protocol: Groq, Cerebras, vLLM, Ollama and others.

A barge-in closes the answer's connection, which makes any server stop generating. The next request would then have to
open a new connection; :meth:`OpenAILLM.connect` does that in advance, at the beginning of a call and after each cut.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from patter_trio.abc import LanguageModel, Message, ToolCall, ToolDefinition, report_usage
from patter_trio.logs import shown_url
from patter_trio.net.http import Client, ConnectionBroke, HttpAnswer, shared_client
from patter_trio.net.sse import ServerEvents
from patter_trio.providers.credentials import credential, not_a_model, sendable
from patter_trio.providers.other_names import other_names
from patter_trio.providers.validators import check_base, in_range, is_text
from patter_trio.wire.openai_chat import ChatDecoder, reason_of_refusal, request

BASE_URL: Final = "https://api.openai.com/v1"
KEY_VARIABLE: Final = "OPENAI_API_KEY"
OPENING_TEXT: Final = "(The call begins.)"
"""The user's message before a greeting, for servers whose templates refuse a conversation that the assistant begins."""
# Judged: far beyond a spoken answer. A model that repeats itself must not fill memory.
MAX_ANSWER_BYTES: Final = 16 << 20
"""Most bytes of one answer: about 50 000 tokens of 300 bytes each on the wire."""
# Judged: the end comes with the last event or right behind it. The reply is over, but its task waits for this.
DRAIN_TIMEOUT_S: Final = 0.25
"""Seconds to read what follows the last event: only the end of the body."""
# As for any connection; no caller waits for it.
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


# None is what ``os.environ.get`` returns for a variable that is not set.
def _given(key: str | None) -> str:
    return key or ""


def _url(given: str) -> str:
    # Not a validator, which would run after the defaults that are read from the URL.
    check_base(given, "OpenAILLM: base_url=", "https", "http")
    # Without the slash, so that paths can be appended.
    return given.rstrip("/")


def _opening(llm: "OpenAILLM") -> str:
    return "" if llm.base_url == BASE_URL else OPENING_TEXT


# The families of chat models that the vendor and compatible servers name; the vendor's keys begin with "sk-".
_MODEL_NAME: Final = re.compile(
    r"(gpt|chatgpt|o\d|llama|mistral|mixtral|ministral|qwen|deepseek|gemma|gemini|claude|phi|grok|kimi|command)[\w.:/-]{0,60}"
)


def _extra(name: str) -> Callable[[Any], Mapping[str, Any]]:
    # Keys of the request's body, which have the same name there.
    return lambda value: {"extra": {name: value}}


@other_names(
    means={
        name: _extra(name)
        for name in ("response_format", "seed", "frequency_penalty", "presence_penalty", "stop", "tool_choice")
    },
    no_effect={"user_agent": "requests name this package"},
)
@attrs.frozen
class OpenAILLM(LanguageModel):
    """A chat model of OpenAI, or of a compatible server.

    Args:
        api_key: default: ``OPENAI_API_KEY``, which is only ever sent to OpenAI. Another server without a key is called
            without one.
        model: its name.
        base_url: of a compatible server, including ``/v1``.
        temperature: 0 to 2; None: the vendor's default. Reasoning models do not accept one.
        top_p: 0 to 1.
        max_tokens: most tokens of an answer.
        reasoning_effort: such as ``"none"`` or ``"low"``; the caller hears silence while the model reasons.
        parallel_tool_calls: whether several tools may be called at once; None: the vendor's default.
        include_usage: request the number of billed tokens; a few servers refuse the option.
        opening: text of the user's message that precedes the agent's greeting in requests, because the templates of
            many open models refuse a conversation that the assistant begins; empty: none. Default: none for OpenAI,
            which needs none, and "(The call begins.)" for other servers.
        extra: more keys of the request's body, for options of a particular server.
        first_token: seconds until the answer begins.
        between: seconds for each next piece of it.
        provider: its name in events and prices; default: the vendor of a known host, otherwise the host.

    Raises:
        ConfigurationError: the key is missing, or an option is out of range.
    """

    api_key: str = attrs.field(default="", converter=_given, repr=False)
    # A model without reasoning: the caller hears silence while a model reasons.
    model: str = attrs.field(default="gpt-4o-mini", validator=is_text(empty=False), kw_only=True)
    base_url: str = attrs.field(default=BASE_URL, converter=_url, repr=shown_url, kw_only=True)
    temperature: float | None = attrs.field(default=None, validator=in_range(0, 2), kw_only=True)
    top_p: float | None = attrs.field(default=None, validator=in_range(0, 1), kw_only=True)
    max_tokens: int | None = attrs.field(default=None, validator=in_range(1, 1 << 20), kw_only=True)
    reasoning_effort: str | None = attrs.field(default=None, kw_only=True)
    parallel_tool_calls: bool | None = attrs.field(default=None, kw_only=True)
    include_usage: bool = attrs.field(default=True, kw_only=True)
    opening: str = attrs.field(default=attrs.Factory(_opening, takes_self=True), validator=is_text(), kw_only=True)
    extra: Mapping[str, Any] = attrs.field(factory=dict, converter=dict, repr=False, kw_only=True)
    # Judged: a caller waits some seconds in silence; after that an apology is better than an answer.
    first_token: float = attrs.field(default=10.0, validator=in_range(0.1, 600, optional=False), kw_only=True)
    between: float = attrs.field(default=10.0, validator=in_range(0.1, 600, optional=False), kw_only=True)
    provider: str = attrs.field(default=attrs.Factory(_provider, takes_self=True), kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Ensure that there is a key if one is needed; another server never gets OpenAI's."""
        not_a_model(self.api_key, owner="OpenAILLM", pattern=_MODEL_NAME)
        if self.base_url == BASE_URL:
            # Read here, not in a converter: only OpenAI may get OpenAI's key, and the URL is known now.
            key = credential(self.api_key, owner="OpenAILLM", argument="api_key", variable=KEY_VARIABLE)
            object.__setattr__(self, "api_key", key)
        else:
            sendable(self.api_key, owner="OpenAILLM", argument="api_key")

    @asynccontextmanager
    async def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolDefinition] = ()
    ) -> AsyncIterator[AsyncIterator[str | ToolCall]]:
        """Open the streamed answer, and report the usage once the vendor has sent it.

        Raises:
            AuthenticationError: the vendor refused the key.
            RateLimitError: there were too many requests, or the account has no money left.
            ProviderTimeout: the answer did not begin, or go on, in time.
            ProviderError: the server failed.
        """
        # Encoded before the connection is taken: an option that is not JSON must not cost a request.
        origin = f"{self.provider}/{self.model}"
        content = request(self.model, messages, tools, self._options(tools), origin=origin, opening=self.opening)
        async with shared_client() as http, self._asked(http, content) as answer:
            pieces = _Pieces(answer, ChatDecoder({tool.name for tool in tools}, origin))
            try:
                yield pieces
                # After a complete answer, read the end of the body: only then can the connection serve the next
                # request.
                # Only a complete answer: after a cut, what is left may be long, and the connection is dropped.
                if pieces.over:
                    await pieces.events.drain(DRAIN_TIMEOUT_S)
            finally:
                # Also after a cut, if the vendor has reported the usage by then.
                if pieces.decoder.usage is not None:
                    # In the ``finally``: the vendor bills a cut answer, too.
                    report_usage(pieces.decoder.usage)

    async def connect(self) -> None:
        """Open a connection for the next answer. A failure is left for that answer to report."""
        async with shared_client() as http:
            # A path that answers quickly and costs nothing. Its status does not matter.
            await http.warm(f"{self.base_url}/models", head_timeout=CONNECT_TIMEOUT_S)

    @asynccontextmanager
    async def _asked(self, http: Client, content: bytes) -> AsyncIterator[HttpAnswer]:
        """Send the request, and repeat it once if the server had just closed the kept connection."""
        asking = partial(
            http.stream,
            "POST",
            f"{self.base_url}/chat/completions",
            content=content,
            headers=self._headers(),
            head_timeout=self.first_token,
            piece_timeout=self.between,
            max_bytes=MAX_ANSWER_BYTES,
            explain=lambda _, body: reason_of_refusal(body),
        )
        async with AsyncExitStack() as stack:
            try:
                answer = await stack.enter_async_context(asking())
            # Once. Most often the server has just closed the idle connection, and a question that is asked twice costs
            # little. ``Unreachable`` and time-outs are not repeated: the caller has waited long enough.
            except ConnectionBroke:
                answer = await stack.enter_async_context(asking())
            yield answer

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        # No header without a key, as servers without authentication expect.
        return {**headers, "Authorization": f"Bearer {self.api_key}"} if self.api_key else headers

    def _options(self, tools: Sequence[ToolDefinition]) -> dict[str, Any]:
        # OpenAI has replaced max_tokens for reasoning models; most other servers know no other name.
        most = "max_completion_tokens" if self.base_url == BASE_URL else "max_tokens"
        options = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            most: self.max_tokens,
            "reasoning_effort": self.reasoning_effort,
            # Without tools OpenAI refuses the option.
            "parallel_tool_calls": self.parallel_tool_calls if tools else None,
            "stream_options": {"include_usage": True} if self.include_usage else None,
        }
        # The application's last, so that it can replace any of ours.
        return {key: value for key, value in options.items() if value is not None} | dict(self.extra)


class _Pieces:
    """Iterator over an answer's pieces; tool calls come last.

    It is a class, not a generator: the reply may leave it at any point, and the stream then reads its state (``over``,
    the usage). A channel would cost each token a switch of tasks.
    """

    def __init__(self, answer: HttpAnswer, decoder: ChatDecoder) -> None:
        self.events = ServerEvents(answer)
        self.decoder = decoder
        self.over = False
        self._calls: list[ToolCall] = []

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> str | ToolCall:
        while not self.over:
            try:
                event = await anext(self.events)
            # Some servers end the body without the last event.
            except StopAsyncIteration:
                self._end()
                break
            # Text and end may come in one event.
            text = self.decoder.take(event.data)
            if self.decoder.done:
                self._end()
            if text:
                return text
        if not self._calls:
            raise StopAsyncIteration
        return self._calls.pop(0)

    def _end(self) -> None:
        # Before ``over``: a failure in it must be raised each time.
        self._calls = self.decoder.calls()
        self.over = True


LLM = OpenAILLM
"""The same class by getpatter's name: ``from patter_trio.llm import openai; openai.LLM()``."""
