"""The interface between the session loop and what answers the caller: STT, responder and TTS, or one engine.

The session loop decides what happens next, and the backend carries it out. Its methods are plain functions that return
at once; work that takes time runs in the parts that :meth:`Backend.open` starts.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import attrs
import trio

from patter_trio.abc import TextToSpeech, VoiceEdge
from patter_trio.agent.agent import Agent
from patter_trio.call.control import CallControl
from patter_trio.call.hooks import HookedCall
from patter_trio.call.opening import open_with_timeout
from patter_trio.call.output.reply import Reply, from_text
from patter_trio.call.output.writer import CarrierWriter
from patter_trio.call.tools.runner import ToolRunner
from patter_trio.conversation import actions as do
from patter_trio.conversation.history import History
from patter_trio.conversation.inputs import Input
from patter_trio.conversation.playout import HeardSpeech
from patter_trio.errors import CallEnded
from patter_trio.events.reporter import CallReporter
from patter_trio.metrics.internal_events import AgentReady, EmitFact, ProviderFailed, ProviderKind
from patter_trio.metrics.public_events import AgentSpeechStarted

StartPart = Callable[..., None]
"""Starts a part of the call as a task (name, function, arguments); a ``ProviderError`` from the part ends the call."""


@attrs.frozen(eq=False)
class CallServices:
    """The parts of a call that its backend uses."""

    call: HookedCall
    control: CallControl
    history: History
    reporter: CallReporter
    emit_fact: EmitFact
    """Reports an internal event, at this instant."""
    tools: ToolRunner
    writer: CarrierWriter
    post: Callable[[Input], None]

    def provider_failed(self, kind: ProviderKind, provider: str, error: BaseException) -> None:
        """Report that a session of a provider could not be opened, or was lost."""
        self.emit_fact(ProviderFailed(kind, provider, type(error).__name__))


# Two implementations, because the order is reversed: the STT's words are there when a turn is committed, those of an
# engine come later, often after its answer.
class UserTurnLog(Protocol):
    """The log of the caller's turns: enters committed words in the history and reports them."""

    def commit(self, action: do.CommitUser) -> None:
        """Commit an utterance that is over: report eos, and enter its words."""

    def revise(self, action: do.ReviseUser) -> None:
        """Replace the words of a turn's entry with those of the action, because they were misheard at first."""

    def cut(self, reason: str) -> None:
        """Handle the end, for that reason, of the reply that was to answer the words."""

    def after_user_turn(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after the caller's words are entered: at once, or when they arrive."""

    def settle(self, reason: str) -> None:
        """Stop waiting for what is still missing, because the call goes on or ends; ``reason`` is for the log."""

    async def last(self) -> None:
        """Enter the last words of the conversation, within a short time."""


class Backend(ABC):
    """The part of one call that understands the caller, answers and speaks."""

    user_turns: UserTurnLog
    agent: Agent | None = None
    """The call's agent, from :meth:`open` on."""

    @abstractmethod
    def hear(self, item: bytes | VoiceEdge) -> None:
        """Take the caller's audio, mu-law at 8 kHz, or an edge of the voice in it; never waits."""

    @abstractmethod
    def open(self, agent: Agent, start: StartPart) -> AbstractAsyncContextManager[BaseException | None]:
        """Open every provider that the agent needs, and start the parts that run beside the conversation.

        Yields:
            None; or a provider's failure after which the backend can only apologise. It stays open for the apology.

        Raises:
            ProviderError: a provider cannot be opened, and the backend cannot speak an apology either.
        """

    @property
    @abstractmethod
    def can_speak(self) -> bool:
        """True if a text of our own can be spoken."""

    @abstractmethod
    def names(self) -> tuple[str, str]:
        """Return the provider and model that answer, for ``llm_token``."""

    @abstractmethod
    def audio_provider(self) -> str:
        """Return the provider that makes the audio, for ``audio_out``."""

    @abstractmethod
    def speaker(self) -> AgentSpeechStarted:
        """Return the provider that speaks, as an ``agent_speech_started``; the reporter fills in time and turn."""

    @abstractmethod
    def parts(self, agent: Agent) -> AgentReady:
        """Return the providers and models that take part in the call."""

    @abstractmethod
    def start(self, action: do.StartReply, nursery: trio.Nursery) -> Reply:
        """Begin a reply."""

    @abstractmethod
    def end_reply(self, reply: Reply, heard: HeardSpeech, reason: str) -> None:
        """Handle the end of a reply: its audio was played, or it was cut for that reason."""

    def on_voice_started(self) -> None:  # noqa: B027 (a pipeline goes by the STT's words instead)
        """Handle the start of the caller's voice."""

    def drop_utterance(self) -> None:  # noqa: B027 (a pipeline keeps nothing that could be dropped)
        """Drop what the caller said, because it did not count as an utterance."""

    def ask_for_words(self) -> None:  # noqa: B027 (an engine's utterances are made of voice)
        """Ask for the words of a voice that goes on, although none came for a while."""

    @abstractmethod
    def flush(self) -> None:
        """Ask for the last words; ``Flushed`` is posted when no more will come."""

    @abstractmethod
    # The exception to "returns at once": the session loop, which must not wait, has ended before.
    async def apologise(self, agent: Agent, reply: Reply) -> None:
        """Say the error message after the conversation is over.

        Raises:
            ProviderError: no provider can say it.
        """

    def ready_agent(self) -> Agent:
        """Return the agent of a call that is ready.

        Raises:
            CallEnded: the call is not ready. The turn machine starts no reply before ``Ready``, so this is a bug.
        """
        # An error instead of an assertion: the call ends with its apology, also where Python runs without assertions.
        if self.agent is None or not self.can_speak:
            raise CallEnded("a reply was started before the call was ready")
        return self.agent


async def say_error_message(agent: Agent, tts: TextToSpeech, reply: Reply, services: CallServices) -> None:
    """Speak the error message in a TTS session of its own.

    Raises:
        ProviderError: the TTS cannot be opened, or fails.
    """
    # A new session: the conversation crashed, and its session may have been closed or left in the middle of a reply.
    async with open_with_timeout(tts.open(language=agent.language), tts.provider) as voice:
        services.writer.open(reply.playout)
        await reply.run(from_text(agent.error_message), voice, tts.emits, services.writer, services.post)
