"""The loop of an answer with tools: the LLM is asked, the tools that it calls run, and it is asked again."""

import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

import attrs
import trio

from patter_trio.abc import Message, ToolCall, ToolDefinition
from patter_trio.agent.tools import Tool
from patter_trio.call.output.reply import AnswerPhase, P, ProgressText, Reply, TakePiece
from patter_trio.call.responder.asking import asked
from patter_trio.call.tools.runner import ToolInvocation, ToolRound, ToolRunner
from patter_trio.errors import ProviderError
from patter_trio.user_code.context import current_call

MAX_MODEL_ROUNDS: Final = 10  # judged: answers that help a caller take two or three
"""Requests to the LLM within one reply; the last one offers no tools, which ends an LLM that would call tools for ever.

If it calls one nevertheless and says nothing, the reply fails: the caller hears ``error_message``, not silence."""

P_co = TypeVar("P_co", covariant=True)
"""As :data:`~patter_trio.call.output.reply.P`."""

_log = logging.getLogger("patter_trio.call")


class Answers(Protocol[P_co]):
    """A source of answers that may call tools: an LLM, or a call's engine."""

    @property
    def provider(self) -> str:
        """The provider's name."""

    @property
    def model(self) -> str:
        """The model's name."""

    def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolDefinition] = ()
    ) -> AbstractAsyncContextManager[AsyncIterator[P_co | ToolCall]]:
        """Open the answer."""


@attrs.frozen(eq=False)
class ToolLoop(Generic[P]):
    """One answer of an LLM or engine with tools: asks it, runs the tools, and asks again, until it calls none."""

    _runner: ToolRunner
    _llm: Answers[P]
    _tools: Sequence[Tool]
    _messages: Sequence[Message]
    _reply: Reply

    async def run(self, take: TakePiece[P]) -> None:
        """Pass on the LLM's text, the phases between its answers, and the progress of its tools.

        No tool starts, and the LLM is not asked again, before the reply has passed on the pieces before.
        """
        messages = list(self._messages)
        for number in range(1, MAX_MODEL_ROUNDS + 1):
            said: list[str] = []
            calls: list[ToolCall] = []
            async with self._ask(messages, number) as answer:
                async for item in answer:
                    if isinstance(item, ToolCall):
                        calls.append(item)
                        continue
                    if isinstance(item, str):
                        said.append(item)
                    await take(item)
                # Before the answer is closed: closing reads the rest of an HTTP response, and the TTS need not wait.
                await take(AnswerPhase.TOOLS if calls else AnswerPhase.OVER)
            if not calls or number == MAX_MODEL_ROUNDS:
                return
            invocations = self._runner.new_invocations(self._tools, calls)
            progress = await self._start(invocations)
            if progress is None:
                return
            with progress, _cancelled_with_reply(invocations):
                # Ends when the last tool of the round has finished, since each of them holds a sender.
                async for text in progress:
                    await take(ProgressText(text))
            messages += ToolRound(invocations).messages("".join(said))  # this round alone; the list has those before it
            self._runner.end_wait(self._reply)
            await take(AnswerPhase.MODEL)

    def _ask(
        self, messages: Sequence[Message], number: int
    ) -> AbstractAsyncContextManager[AsyncIterator[P | ToolCall]]:
        if last := number == MAX_MODEL_ROUNDS:
            _log.warning(
                "call %s: a reply has called tools in %d rounds; the LLM is offered no more tools",
                current_call.get(),
                MAX_MODEL_ROUNDS - 1,
            )
        # Asked again only in the first round: what follows a tool is not the same question any more.
        return asked(self._llm, partial(self._stream, messages, last=last), tools=not last, again=number == 1)

    def _stream(
        self, messages: Sequence[Message], *, last: bool
    ) -> AbstractAsyncContextManager[AsyncIterator[P | ToolCall]]:
        if last:
            return self._llm.stream(messages)
        try:
            return self._llm.stream(messages, tools=[tool.definition for tool in self._tools])
        except TypeError as error:  # a model that lacks the parameter, and does not say so
            name = type(self._llm).__name__
            raise ProviderError(f"{name}.stream must take tools=, or {name}.takes_tools be False: {error}") from error

    async def _start(self, invocations: Sequence[ToolInvocation]) -> trio.MemoryReceiveChannel[str] | None:
        """Start the tools of one round; return their progress, or None if all wait until the reply has been played."""
        round_ = ToolRound()
        now: list[ToolInvocation] = []
        for invocation in invocations:
            if invocation.tool is not None and invocation.tool.after_speech and not invocation.wrong:
                self._runner.defer_until_played(invocation, round_, self._reply)
            else:
                now.append(invocation)
        if now:
            return await self._runner.start(now, round_, self._reply)
        # The end of the reply starts its deferred tools, so it must not end while the caller continues the question.
        await self._runner.has_floor(self._reply)
        return None


@contextmanager
def _cancelled_with_reply(invocations: Sequence[ToolInvocation]) -> Iterator[None]:
    """Cancel, when the block ends, the tools that still run and whose policy is to be cancelled with their reply."""
    try:
        yield
    finally:
        for invocation in invocations:
            if invocation.tool is not None and invocation.tool.on_barge_in == "cancel" and not invocation.over:
                invocation.scope.cancel(reason="the reply was cut")
