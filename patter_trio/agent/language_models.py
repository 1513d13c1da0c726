"""Language models of the application that have the methods of a :class:`LanguageModel` without being a subclass."""

import inspect
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from patter_trio.abc import LanguageModel, Message, ToolCall, ToolDefinition
from patter_trio.errors import ConfigurationError, ProviderError
from patter_trio.logs import shown_value
from patter_trio.net.tasks import run_beside
from patter_trio.user_code import invoke
from patter_trio.user_code.pieces import GeneratorTask, PieceTask
from patter_trio.wire.openai_chat import as_request


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
        # Plain or async, as the application has written it.
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
            ProviderError: the model failed, or an item of the answer has an unknown form.
            ApplicationError: the model raised something else.
        """
        function = self._model.stream
        # getpatter's models are generators, and get tools as the body of a request has them.
        given: Sequence[Any] = [as_request(tool) for tool in tools] if inspect.isasyncgenfunction(function) else tools
        answer = await invoke.await_result(
            # A copy of the messages: the model may change its list.
            function,
            invoke.call_sync(function, list(messages), **({"tools": given} if tools else {})),
        )
        if hasattr(answer, "__aiter__"):
            # A failure stays in the task: raised there, it would cancel the reply that still holds the pieces before
            # it, and which of them were heard would be chance.
            task = GeneratorTask(invoke.UserIterator(function, answer), f"{self.name}.stream")
            async with run_beside(task.run):
                yield _Answer(_Asked(task))
        elif hasattr(answer, "__aenter__"):
            async with answer as pieces:
                yield _Answer(aiter(pieces))
        else:
            raise ProviderError(
                "stream() must yield the pieces of its answer, or return an async iterator, got "
                f"{type(answer).__name__}"
            )


class _Asked(AsyncIterator[Any]):
    """The pieces of a task, and its failure in its place behind them."""

    def __init__(self, task: PieceTask) -> None:
        self._task = task
        self._asked = False
        """True while a piece is on its way, also after a reader that gave up waiting."""

    async def __anext__(self) -> Any:
        if not self._asked:
            self._asked = True
            self._task.wanted.release()
        try:
            piece = await self._task.pieces.receive()
        except trio.EndOfChannel:
            # Raised outside of this clause: the end of the channel is not the failure's cause.
            failure = self._task.failure
        else:
            self._asked = False
            return piece
        if failure is None:
            raise StopAsyncIteration
        # A failure that the model itself calls one of a provider stays one: a Fallback then asks the next model.
        raise failure.__cause__ if isinstance(failure.__cause__, ProviderError) else failure


class _Answer(AsyncIterator[str | ToolCall]):
    """The texts and tool calls of an answer whose pieces may have getpatter's form."""

    def __init__(self, pieces: AsyncIterator[Any]) -> None:
        self._pieces = pieces
        self._calls: dict[Any, dict[str, str]] = {}
        """The pieces of each tool call, by its index; complete at the end of the answer."""

    async def __anext__(self) -> str | ToolCall:
        async for piece in self._pieces:
            item = _text_of(piece, self._calls) if isinstance(piece, Mapping) else piece
            if not isinstance(item, str | ToolCall):
                raise ProviderError(f"a piece of an answer must be str, ToolCall or dict, got {type(item).__name__}")
            if item:
                return item
        if not self._calls:
            raise StopAsyncIteration
        # One at each step, in the order in which they began.
        call = self._calls.pop(next(iter(self._calls)))
        return ToolCall(call["id"], call["name"], call["arguments"])


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
