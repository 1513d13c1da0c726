"""Language models of the application that have the methods of a :class:`LanguageModel` without being a subclass."""

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

import trio

from patter_trio.abc import LanguageModel, Message, ToolCall, ToolDefinition
from patter_trio.errors import ConfigurationError, ProviderError
from patter_trio.net.tasks import run_beside


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
        what = f"the class {given.__name__}; make an object of it" if isinstance(given, type) else repr(given)
        raise ConfigurationError(f"llm= must be a LanguageModel, or have its method stream(messages), got {what}")
    parameters = _parameters(stream)
    if not any(one.kind is not inspect.Parameter.KEYWORD_ONLY for one in parameters.values()):
        raise ConfigurationError(f"llm=: {type(given).__name__}.stream must take the messages, got no such parameter")
    takes_tools = "tools" in parameters or any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    return AdaptedModel(given, takes_tools=takes_tools)


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


class AdaptedModel(LanguageModel):
    """A model of the application's own, by its method ``stream``."""

    def __init__(self, model: Any, *, takes_tools: bool) -> None:
        self._model = model
        self.provider = str(getattr(model, "provider", "") or type(model).__name__)
        self.model = str(getattr(model, "model", "") or type(model).__name__)
        self.takes_tools = takes_tools

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
        # In a task of its own: a cancel scope or nursery around a ``yield`` of the model must be entered and left in
        # one task, without ours in between.
        async with run_beside(partial(self._produce, messages, tools, send)):
            yield receive

    async def _produce(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolDefinition],
        send: "trio.MemorySendChannel[str | ToolCall]",
    ) -> None:
        is_generator = inspect.isasyncgenfunction(self._model.stream)
        # getpatter's models are generators, and get tools as the body of a request has them.
        given: Sequence[Any] = [_as_request(tool) for tool in tools] if is_generator else tools
        answer = self._model.stream(list(messages), **({"tools": given} if tools else {}))
        async with send:
            if inspect.isawaitable(answer):
                answer = await answer
            if isinstance(answer, AsyncIterable):
                await _pass_on(answer, send)
                return
            async with answer as pieces:
                await _pass_on(pieces, send)


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
