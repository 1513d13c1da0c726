"""How one call hears, thinks and speaks: through STT, responder and TTS, or through one engine that does all three.

The session loop decides what happens next, and the backend carries it out. Its methods are plain functions that return
at once; what takes time runs in the parts that :meth:`Backend.open` starts.
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
from patter_trio.call.output.reply import EmitFact, Reply, from_text
from patter_trio.call.output.writer import CarrierWriter
from patter_trio.call.tools.runner import ToolRunner
from patter_trio.conversation import actions as do
from patter_trio.conversation.history import History
from patter_trio.conversation.inputs import Input
from patter_trio.conversation.playback import HeardSpeech
from patter_trio.errors import CallEnded
from patter_trio.events.reporter import CallReporter
from patter_trio.metrics.internal_events import AgentReady
from patter_trio.metrics.public_events import AgentSpeechStarted

StartPart = Callable[..., None]
"""Starts a part of the call (its name, the function, its arguments); a ``ProviderError`` from it ends the call."""


@attrs.frozen(eq=False)
class CallServices:
    """What a call's backend works with."""

    call: HookedCall
    control: CallControl
    history: History
    reporter: CallReporter
    emit_fact: EmitFact
    """Reports an internal event, at this instant."""
    tools: ToolRunner
    writer: CarrierWriter
    post: Callable[[Input], None]


class UserTurnLog(Protocol):
    """The caller's committed words, on their way into the history."""

    def commit(self, action: do.CommitUser) -> None:
        """An utterance is over: tell eos, and enter its words."""

    def amend(self, action: do.AmendUser) -> None:
        """Words came late: they are the whole utterance's."""

    def append(self, action: do.AppendUser) -> None:
        """Words came that nobody will answer."""

    def cut(self, reason: str) -> None:
        """The reply that was to answer is over."""

    def after_user_turn(self, callback: Callable[[], None]) -> None:
        """Do what comes behind the caller's words: at once, or when they are there."""

    def settle(self, reason: str) -> None:
        """The call goes on, or ends, without what is still waited for; ``reason`` is for the log."""

    async def last(self) -> None:
        """The conversation is over: see to the last words, quickly."""


class Backend(ABC):
    """Hears, thinks and speaks in one call."""

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
            None, or the failure of a provider without which the backend can only apologise. It stays open for that.

        Raises:
            ProviderError: a provider cannot be opened, and nothing can apologise for it.
        """

    @property
    @abstractmethod
    def can_speak(self) -> bool:
        """True if a text of our own can be spoken."""

    @abstractmethod
    def names(self) -> tuple[str, str]:
        """Return the provider and model that answer, as ``llm_token`` has them."""

    @abstractmethod
    def audio_provider(self) -> str:
        """Return the provider that makes the audio, as ``audio_out`` has it."""

    @abstractmethod
    def speaker(self) -> AgentSpeechStarted:
        """Return the provider that speaks, as ``agent_speech_started`` has it; the reporter fills in time and turn."""

    @abstractmethod
    def parts(self, agent: Agent) -> AgentReady:
        """Return who takes part in the call."""

    @abstractmethod
    def start(self, action: do.StartReply, nursery: trio.Nursery) -> Reply:
        """Begin a reply."""

    @abstractmethod
    def end_reply(self, reply: Reply, heard: HeardSpeech, reason: str) -> None:
        """Take the end of a reply, which was played or cut for that reason."""

    def on_voice_started(self) -> None:  # noqa: B027 (words tell a recogniser as much)
        """Take the start of the caller's voice."""

    def drop_utterance(self) -> None:  # noqa: B027 (with words, nothing is dropped)
        """Drop what the caller said: it was not an utterance."""

    @abstractmethod
    def flush(self) -> None:
        """Ask for the last words; ``Flushed`` is posted when no more will come."""

    @abstractmethod
    async def apologise(self, agent: Agent, reply: Reply) -> None:
        """Say the error message after the conversation is over.

        Raises:
            ProviderError: no provider can say it.
        """

    def ready_agent(self) -> Agent:
        """Return the agent of a call that is ready.

        Raises:
            CallEnded: the call is not ready; the turn machine starts no reply before.
        """
        if self.agent is None or not self.can_speak:
            raise CallEnded("a reply before the call was ready")
        return self.agent


async def say_error_message(agent: Agent, tts: TextToSpeech, reply: Reply, services: CallServices) -> None:
    """Have a voice say the error message, in a session of its own.

    Raises:
        ProviderError: it cannot be had.
    """
    async with open_with_timeout(tts.open(language=agent.language), tts.provider) as voice:
        services.writer.open(reply.playout)
        await reply.run(from_text(agent.error_message), voice, tts.emits, services.writer, services.post)
