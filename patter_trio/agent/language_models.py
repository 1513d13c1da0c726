"""Language models of the application that have the methods of a :class:`LanguageModel` without being a subclass."""

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import trio

from patter_trio.abc import LanguageModel, Message, ToolCall, ToolDefinition
from patter_trio.errors import ConfigurationError, ProviderError
from patter_trio.logs import shown_value
from patter_trio.net.tasks import run_beside
from patter_trio.user_code.invoke import ApplicationError, contained


def language_model_of(given: Any) -> Any:
    """Return a model as the call uses it: a :class:`LanguageModel` unchanged, another object adapted by its methods.

    ``stream(messages)`` or ``stream(messages, tools=...)`` may be an async generator, return any async iterator, or an
    async context manager of one, as in :class:`LanguageModel`. Its items are texts, :class:`ToolCall` objects, or
    getpatter's dicts.

    Raises:
        ConfigurationError: the object has no method ``stream`` that takes the messages.
    """
    if given is None or isinstance(given, LanguageModel):
        return given
    stream = getattr(given, "stream", None)
    if isinstance(given, type) or not callable(stream):
        what = f"the class {given.__name__}; make an object of it" if isinstance(given, type) else shown_value(given)
        raise ConfigurationError(f"llm= must be a LanguageModel, or have its method stream(messages), got {what}")
    parameters = _parameters(stream)
    if not any(one.kind is not inspect.Parameter.KEYWORD_ONLY for one in parameters.values()):
        raise ConfigurationError(f"llm=: {type(given).__name__}.stream must take the messages, got no such parameter")
    takes_tools = "tools" in parameters or any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    if inspect.isgeneratorfunction(stream):
        raise ConfigurationError(f"llm=: {type(given).__name__}.stream must be an `async def`, got a plain generator")
    return AdaptedModel(given, takes_tools=takes_tools)


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


class AdaptedModel(LanguageModel):
    """A model of the application's own, by its method ``stream``."""

    def __init__(self, model: Any, *, takes_tools: bool) -> None:
        self._model = model
        self.provider: str = str(getattr(model, "provider", "") or type(model).__name__)
        self.model: str = str(getattr(model, "model", "") or type(model).__name__)
        self.takes_tools: bool = takes_tools

    @property
    def name(self) -> str:
        """The name of the model's class."""
        return type(self._model).__name__

    def __repr__(self) -> str:
        return repr(self._model)

    async def prewarm(self) -> None:
        """Call the model's own ``prewarm``, if it has one."""
        await self._own("prewarm")

    async def connect(self) -> None:
        """Call the model's own ``connect``, if it has one."""
        await self._own("connect")

    async def _own(self, name: str) -> None:
        method = getattr(self._model, name, None)
        result = method() if callable(method) else None
        if inspect.isawaitable(result):
            await result
        await trio.lowlevel.checkpoint()

    @asynccontextmanager
    async def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolDefinition] = ()
    ) -> AsyncIterator[AsyncIterator[str | ToolCall]]:
        """Open the model's answer. Leaving the context closes it, at any point.

        Raises:
            ProviderError: an item of the answer has an unknown form.
        """
        # 0: the model goes on when its piece was taken, as if it were iterated directly.
        send, receive = trio.open_memory_channel[str | ToolCall](0)
        answer = _Answer(receive)
        # In a task of its own: a cancel scope or nursery around a ``yield`` of the model must be entered and left in
        # one task, without ours in between.
        async with run_beside(partial(self._produce, messages, tools, send, answer)):
            yield answer

    async def _produce(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolDefinition],
        send: "trio.MemorySendChannel[str | ToolCall]",
        answer: "_Answer",
    ) -> None:
        # WARNING: a failure must not leave this task. It would cancel the reply that still holds the pieces before it,
        # and which of them were heard would be chance. The answer raises it in its place.
        with send, answer.failing(self.name):
            await self._stream(messages, tools, send)

    async def _stream(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolDefinition],
        send: "trio.MemorySendChannel[str | ToolCall]",
    ) -> None:
        is_generator = inspect.isasyncgenfunction(self._model.stream)
        # getpatter's models are generators, and get tools as the body of a request has them.
        given: Sequence[Any] = [_as_request(tool) for tool in tools] if is_generator else tools
        answer = self._model.stream(list(messages), **({"tools": given} if tools else {}))
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, AsyncIterable):
            await _pass_on(answer, send)
        elif hasattr(answer, "__aenter__"):
            async with answer as pieces:
                await _pass_on(pieces, send)
        else:
            raise ProviderError(
                f"stream() must yield the pieces of its answer, or return an async iterator, got {type(answer).__name__}"
            )


class _Answer(AsyncIterator[str | ToolCall]):
    """The pieces of an answer in their order, and the failure of the model in its place behind them."""

    def __init__(self, pieces: "trio.MemoryReceiveChannel[str | ToolCall]") -> None:
        self._pieces = pieces
        self._failure: Exception | None = None

    @contextmanager
    def failing(self, name: str) -> Iterator[None]:
        """Keep what the block raises, for the reader of the pieces."""
        try:
            with contained(f"{name}.stream"):
                yield
        except ApplicationError as error:
            # A failure that the model itself calls one of a provider stays one: a Fallback then asks the next model.
            self._failure = error.__cause__ if isinstance(error.__cause__, ProviderError) else error

    async def __anext__(self) -> str | ToolCall:
        try:
            return await self._pieces.receive()
        except trio.EndOfChannel:
            if self._failure is not None:
                raise self._failure from self._failure.__cause__
            raise StopAsyncIteration from None


def _as_request(tool: ToolDefinition) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


async def _pass_on(pieces: Any, send: "trio.MemorySendChannel[str | ToolCall]") -> None:
    calls: dict[Any, dict[str, str]] = {}
    # Closed here, whatever ends the loop: a generator left open would be closed at some time by the garbage collector.
    async with aclosing(pieces) if hasattr(pieces, "aclose") else _nothing_to_close():
        async for piece in pieces:
            if isinstance(piece, Mapping):
                text = _text_of(piece, calls)
                if text:
                    await send.send(text)
            elif isinstance(piece, str | ToolCall):
                await send.send(piece)
            else:
                raise ProviderError(f"a piece of an answer must be str, ToolCall or dict, got {type(piece).__name__}")
    for call in calls.values():
        await send.send(ToolCall(call["id"], call["name"], call["arguments"]))


@asynccontextmanager
async def _nothing_to_close() -> AsyncIterator[None]:
    yield


def _text_of(chunk: Mapping[str, Any], calls: dict[Any, dict[str, str]]) -> str:
    """Return the text of a chunk in getpatter's form; collect the pieces of tool calls, which have one index."""
    kind = chunk.get("type")
    if kind == "text":
        return str(chunk.get("content") or "")
    if kind == "tool_call":
        call = calls.setdefault(chunk.get("index", len(calls)), {"id": "", "name": "", "arguments": ""})
        for key in call:
            # The id and the name come once, the arguments in pieces.
            call[key] += str(chunk.get(key) or "")
        return ""
    # "done" and "usage" end an answer; the end of the iteration says the same.
    if kind in ("done", "usage"):
        return ""
    raise ProviderError(f"the type of a chunk must be text, tool_call, usage or done, got {kind!r}")
