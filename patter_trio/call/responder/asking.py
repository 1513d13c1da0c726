"""Questions to an LLM or an engine: asked once more if nothing comes of the first time."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from patter_trio.abc import LanguageModel, Message, ToolCall
from patter_trio.call.output.reply import AnswerPhase, AnswerSource, TakePiece, note_first_attempt
from patter_trio.errors import full_name
from patter_trio.providers.attempts import open_answer, open_twice
from patter_trio.providers.fallback import FallbackLLM
from patter_trio.user_code.context import current_call

T = TypeVar("T")

# Judged: half of the 15 s that a caller waits for a reply. A healthy model begins within 2 s, and one that thinks for
# longer than this is of no use on a telephone.
FIRST_ATTEMPT_TIMEOUT_S: Final = 8.0
"""Seconds until the first word, sound or tool call of an answer, after which it is asked for once more."""

_log = logging.getLogger("patter_trio.call")


class Named(Protocol):
    """An LLM or an engine, by name."""

    @property
    def provider(self) -> str:
        """The provider's name."""

    @property
    def model(self) -> str:
        """The model's name."""


def asked(
    answering: Named, stream: Callable[[], AbstractAsyncContextManager[AsyncIterator[T]]], *, tools: bool, again: bool
) -> AbstractAsyncContextManager[AsyncIterator[T]]:
    """Open a streamed answer with at least one word or sound.

    Args:
        answering: what answers; a fallback asks again by itself.
        stream: asks.
        tools: a tool call alone is an answer, too.
        again: ask once more if the first answer has none, or takes longer than :data:`FIRST_ATTEMPT_TIMEOUT_S`.

    Raises:
        ProviderError: there is no such answer; or as the provider raises.
    """
    attempt = partial(open_answer, stream, full_name(answering.provider, answering.model), tools=tools)
    if not again or isinstance(answering, FallbackLLM):
        return attempt(float("inf"))
    return open_twice(attempt, FIRST_ATTEMPT_TIMEOUT_S, note_first_attempt)


async def pass_on(items: AsyncIterator[Any], take: Callable[[Any], Awaitable[None]], whose: str) -> None:
    """Pass on the pieces of an answer without tools; log and ignore tool calls.

    Args:
        items: the answer.
        take: takes the next piece.
        whose: "LLM" or "engine".
    """
    async for item in items:
        if isinstance(item, ToolCall):
            _log.warning("call %s: the %s called the tool %r, but has no tools", current_call.get(), whose, item.name)
        else:
            await take(item)


def from_llm(llm: LanguageModel, messages: Sequence[Message]) -> AnswerSource:
    """Return the source that asks an LLM without tools; it logs and ignores tool calls."""

    async def answer(take: TakePiece[str]) -> None:
        async with asked(llm, partial(llm.stream, messages), tools=False, again=True) as items:
            await pass_on(items, take, "LLM")
            await take(AnswerPhase.OVER)

    return answer
