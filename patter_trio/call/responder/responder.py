"""The responder of one call: the agent's LLM or the application's ``on_message``, with the hooks before it."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

from patter_trio.abc import CallInfo, LanguageModel, Message
from patter_trio.agent.agent import Agent
from patter_trio.call.control import CallControl
from patter_trio.call.hooks import HookRunner
from patter_trio.call.input.user_words import UserTurns
from patter_trio.call.output import reply as replies
from patter_trio.call.responder.asking import from_llm
from patter_trio.call.responder.on_message import CallMessageHandler, MessageHandler
from patter_trio.call.responder.streamed import spaced
from patter_trio.call.tools.loop import ToolLoop
from patter_trio.call.tools.runner import ToolRunner
from patter_trio.conversation.history import History
from patter_trio.errors import ConfigurationError, ProviderError
from patter_trio.metrics.internal_events import AnswerKind
from patter_trio.user_code.context import current_call

# Reasons after which the LLM is asked again soon. "played" has left its connection warm;
# "leg down" and "goodbye" end the call.
CONNECT_REASONS: Final = ("begun", "barge-in", "retracted", "say", "failed")
"""Ends of a reply, and the begin of the call, after which a connection for the next answer is opened in advance."""

_log = logging.getLogger("patter_trio.call")


class Responder:
    """Makes the answer source of each reply that answers the conversation.

    Args:
        on_message: the application's handler that answers instead of an LLM; None if an LLM answers.
        control: the control of the call, for the application.
        info: the facts of the call.
        history: the conversation.
        words: the log of the caller's turns, which runs ``after_transcribe``.
        tools: runs the LLM's tools.
    """

    def __init__(
        self,
        on_message: MessageHandler | None,
        control: CallControl,
        info: CallInfo,
        history: History,
        words: UserTurns,
        *,
        tools: ToolRunner,
    ) -> None:
        self._on_message = on_message
        self._facts = info.payload("call_id", "caller", "callee")
        self._history = history
        self._words = words
        self.message_handler: CallMessageHandler | None = None if on_message is None else on_message.for_call(control)
        self._tools = tools
        self.hook_runner: HookRunner | None = None
        """The agent's hooks; None before the call knows its agent, and if the agent has none."""

    def __repr__(self) -> str:
        return f"<Responder {self.kind}>"

    @property
    def kind(self) -> AnswerKind:
        """``llm`` or ``on_message``."""
        return "llm" if self._on_message is None else "on_message"

    def names(self, agent: Agent | None) -> tuple[str, str]:
        """Return provider and model, for ``llm_token``."""
        if self._on_message is not None:
            return "on_message", self._on_message.name
        llm = agent.llm if agent else None
        return (llm.provider, llm.model) if llm else ("", "")

    def use_hooks(self, hook_runner: HookRunner) -> None:
        """Run the hooks of the agent, which the call knows from here on."""
        self.hook_runner = hook_runner

    async def connect(self, agent: Agent | None, reason: str) -> None:
        """Pre-connect to the LLM, so that its next answer does not wait: the call has begun, or a reply was cut.

        A cut reply loses its connection. If no reply follows, or one follows at once, nothing is opened in advance.
        """
        if self.message_handler is None and agent is not None and agent.llm is not None and reason in CONNECT_REASONS:
            # In advance, because connecting costs an answer its TCP and TLS handshakes: some hundred
            # milliseconds over the internet.
            try:
                await agent.llm.connect()
            except ProviderError as error:
                # Not a failure of the call: the next answer connects by itself, and then its failure counts.
                _log.info("call %s: could not pre-connect to the LLM: %s", current_call.get(), error)

    def source_for(self, agent: Agent, reply: replies.Reply) -> replies.AnswerSource:
        """Return the source of an answer, in ``reply``, to the conversation as it is now."""
        if self.message_handler is None:
            if agent.llm is None:
                raise ConfigurationError("An agent must have llm= or on_message=.")
            return self._model(agent, agent.llm, self._messages(agent), reply)
        # Read when the reply starts: the words of this turn are in the history by now, and
        # later ones belong to the next turn.
        event = {**self._facts, "text": self._history.last_user(), "history": self._history.before_last_user()}
        return spaced(self.message_handler.answer_source(event), agent.language)

    def _model(
        self, agent: Agent, llm: LanguageModel, messages: Sequence[Message], reply: replies.Reply
    ) -> replies.AnswerSource:
        if not agent.tools:
            return from_llm(llm, messages)
        return ToolLoop(self._tools, llm, agent.tools, messages, reply).run

    def prepare(self, agent: Agent) -> replies.Prepare | None:
        """Return a function that runs the hooks before the answer; None if the agent has no such hook."""
        hook_runner = self.hook_runner
        if hook_runner is None or not hook_runner.given("after_transcribe", "before_llm"):
            return None
        # None instead of a step that does nothing: most agents have neither hook.
        return partial(self._prepared, agent, hook_runner)

    async def _prepared(
        self, agent: Agent, hook_runner: HookRunner, reply: replies.Reply
    ) -> replies.AnswerSource | None:
        """Run ``after_transcribe`` and ``before_llm``; return None if the turn is vetoed."""
        # First, because it enters the caller's words in the history from which the messages are made.
        if not await self._words.run_hook():
            return None
        # before_llm is for messages of an LLM; an on_message gets its own event.
        if self.message_handler is not None or agent.llm is None:
            return self.source_for(agent, reply)
        return self._model(agent, agent.llm, await hook_runner.asked(self._messages(agent)), reply)

    def _messages(self, agent: Agent) -> list[Message]:
        return [{"role": "system", "content": agent.instructions}, *messages_from(self._history)]


def messages_from(history: History) -> list[Message]:
    """Return the conversation so far, with its tool rounds, as messages for an LLM."""
    return [message for item in history.items() for message in item.messages()]
