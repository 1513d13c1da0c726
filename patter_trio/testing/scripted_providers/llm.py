"""The scripted LLM: its replies are a script, and its tokens come at known instants."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from typing import Any

import attrs
import trio

from patter_trio.abc import LanguageModel, Message, ToolCall, ToolDefinition, Usage, report_usage
from patter_trio.errors import ProviderError
from patter_trio.user_code.context import current_call

Scripted = str | ToolCall | Sequence[str | ToolCall]
"""One reply: a text, a tool call, or several of these with the calls last."""
Replies = Sequence[Scripted] | Callable[[Sequence[Message]], Scripted]


def tool_call(name: str, /, **arguments: Any) -> ToolCall:
    """Return a tool call for a script."""
    return ToolCall("", name, json.dumps(arguments))


def _frozen(replies: Replies) -> Replies:
    return replies if callable(replies) else tuple(replies)


@attrs.frozen
class ScriptedLLM(LanguageModel):
    """An LLM that answers the n-th user message (or tool result) with the n-th reply, and further ones with the last.

    The place in the script is counted in the messages of the request. So one provider serves any number of calls at
    once, and a question that is asked again because the caller continued gets the same answer. The result of a tool
    counts if it was asked about: not that of a tool which was still running when its reply was interrupted.

    Args:
        replies: the texts, or a function of the messages that returns the text (or raises ``ProviderError``). A tool
            call (:func:`tool_call`) may stand in place of a text, or a list of texts and calls.
        first_token: seconds from the request to the first token.
        duration: seconds from the first token to the end; the tokens (words) are spread evenly.
        fail_after: number of tokens after which the model fails; 0: instead of the first.
        hang_after: number of tokens after which nothing more comes; 0: nothing at all.
        usage: the usage that is reported at the end of each answer, also of an answer that was cut; None for no report.
    """

    replies: Replies = attrs.field(converter=_frozen)
    first_token: float = 0.1
    duration: float = 0.3
    fail_after: int | None = None
    hang_after: int | None = None
    usage: Usage | None = None
    provider: str = "scripted"
    model: str = "scripted"
    requests: list[list[dict[str, Any]]] = attrs.field(factory=list, init=False, eq=False, repr=False)
    """The messages of every request so far, of all calls, oldest first; copies."""
    offered: list[list[str]] = attrs.field(factory=list, init=False, eq=False, repr=False)
    """The names of the tools that were offered with each request."""
    _asked_about: set[tuple[str, str]] = attrs.field(factory=set, init=False, eq=False, repr=False)
    """The last results of the requests that were about results: the call, and the id of the tool call."""

    @asynccontextmanager
    async def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolDefinition] = ()
    ) -> AsyncIterator[AsyncIterator[str | ToolCall]]:
        # Copies: the conversation goes on, and the test asks what the model saw.
        self.requests.append([dict(message) for message in messages])
        self.offered.append([tool.name for tool in tools])
        try:
            # Closed in this task, at once: a generator left to the collector would end at any later time.
            async with aclosing(self._tokens(self._reply(messages), trio.current_time())) as tokens:
                yield tokens
        finally:
            # In ``finally``: a vendor bills an answer that was cut, too.
            if self.usage is not None:
                report_usage(self.usage)

    def _reply(self, messages: Sequence[Message]) -> Scripted:
        if callable(self.replies):
            return self.replies(messages)
        call = current_call.get()
        # The results of tools that were called together count as one message, by the last of them.
        results = [
            (call, message.get("tool_call_id", ""))
            for message, after in pairwise([*messages, {"role": ""}])
            if message["role"] == "tool" != after["role"]
        ]
        if messages and messages[-1]["role"] == "tool":
            self._asked_about.add(results[-1])
        asked = sum(message["role"] == "user" for message in messages) + sum(
            map(self._asked_about.__contains__, results)
        )
        return self.replies[min(max(0, asked - 1), len(self.replies) - 1)] if self.replies else ""

    async def _tokens(self, reply: Scripted, asked: float) -> AsyncGenerator[str | ToolCall, None]:
        parts = [reply] if isinstance(reply, str | ToolCall) else reply
        tokens = [token for part in parts for token in (tokens_of(part) if isinstance(part, str) else [part])]
        # From the request, not from now: opening the context may have taken time.
        # Instants, not pauses, so none adds up.
        first = asked + self.first_token
        gap = self.duration / max(1, len(tokens) - 1)
        for number, token in enumerate(tokens):
            await trio.sleep_until(first + number * gap)
            # After the wait: a model that fails after two tokens does so when the third would have come.
            await self._stop(number)
            yield token
        await trio.sleep_until(first + self.duration)
        await self._stop(len(tokens))

    async def _stop(self, number: int) -> None:
        if number == self.fail_after:
            raise ProviderError(f"ScriptedLLM fails after {number} tokens, as scripted")
        if number == self.hang_after:
            await trio.sleep_forever()


def tokens_of(text: str) -> list[str]:
    """Return the words of a text, each with the white space before it."""
    tokens = text.split(" ")
    return [token if number == 0 else f" {token}" for number, token in enumerate(tokens)] if text else []
