"""How one call hears, thinks and speaks: by a recogniser, a mind and a voice, or by one engine that does all three.

The session loop decides what is to happen, and asks the call's faculties to do it. All that it asks is done at once, by
plain functions; what takes time runs in the tasks that ``run`` starts.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
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

Guarded = Callable[..., Awaitable[None]]
"""Runs a part of the call (its name, the function, its arguments) that a provider's failure ends."""
Hold = Callable[[], Awaitable[None]]
"""Begins the conversation, and holds what is open for it; cancelled at its end."""


@attrs.frozen(eq=False)
class CallServices:
    """What a call's faculties work with."""

    call: HookedCall
    control: CallControl
    about: Mapping[str, str]
    """What the application is told of the call with each message."""
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
    """What hears, thinks and speaks in one call."""

    user_turns: UserTurnLog
    agent: Agent | None = None
    """Once it is settled who the call's agent is."""

    @abstractmethod
    def hear(self, item: bytes | VoiceEdge) -> None:
        """Take the caller's audio, mu-law at 8 kHz, or an edge of the voice in it."""

    @abstractmethod
    async def run(self, agent: Agent, nursery: trio.Nursery, guarded: Guarded, hold: Hold) -> None:
        """Open all that the agent needs, start what runs beside it in ``talk``, and ``hold``.

        Raises:
            ProviderError: something of it cannot be had.
        """

    @property
    @abstractmethod
    def can_speak(self) -> bool:
        """Whether a text of our own can be spoken."""

    @abstractmethod
    def names(self) -> tuple[str, str]:
        """Return provider and model of what thinks, as ``llm_token`` has them."""

    @abstractmethod
    def audio_provider(self) -> str:
        """Return who makes the audio, as ``audio_out`` has it."""

    @abstractmethod
    def speaker(self) -> AgentSpeechStarted:
        """Return who speaks, as ``agent_speech_started`` has it; the reporter fills in time and turn."""

    @abstractmethod
    def parts(self, agent: Agent) -> AgentReady:
        """Return who takes part in the call."""

    @abstractmethod
    def start(self, action: do.StartReply, nursery: trio.Nursery) -> Reply:
        """Begin a reply."""

    @abstractmethod
    def end_reply(self, reply: Reply, heard: HeardSpeech, reason: str) -> None:
        """A reply is over: played, or cut for that reason."""

    def on_voice_started(self) -> None:  # noqa: B027 (words tell a recogniser as much)
        """The caller has begun to speak."""

    def drop_utterance(self) -> None:  # noqa: B027 (with words, nothing is dropped)
        """What the caller said was no utterance."""

    @abstractmethod
    def flush(self) -> None:
        """Have the last words come; the inbox is told ``Flushed`` when none will."""

    @abstractmethod
    async def apologise(self, agent: Agent, reply: Reply) -> None:
        """Say the error message, alone: the conversation is over.

        Raises:
            ProviderError: nobody can.
        """

    def ready_agent(self) -> Agent:
        """Return the agent of a call that is under way.

        Raises:
            CallEnded: it is not yet; the turn machine starts nothing before it is.
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
