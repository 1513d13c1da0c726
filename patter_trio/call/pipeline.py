"""A call's backend made of three parts: STT, a responder (LLM or ``on_message``), and TTS."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from patter_trio.abc import TextToSpeech, TextToSpeechSession, VoiceEdge
from patter_trio.agent.agent import Agent
from patter_trio.call.backend import Backend, CallServices, StartPart, say_error_message
from patter_trio.call.hooks import hook_runner_of
from patter_trio.call.input.transcription import TranscriptionStage
from patter_trio.call.input.user_words import UserTurns
from patter_trio.call.opening import open_with_timeout
from patter_trio.call.output import reply as replies
from patter_trio.call.responder.on_message import MessageHandler
from patter_trio.call.responder.responder import Responder
from patter_trio.conversation import actions as do
from patter_trio.conversation import inputs
from patter_trio.conversation.playout import HeardSpeech
from patter_trio.errors import ConfigurationError
from patter_trio.metrics.internal_events import AgentReady, AnswerKind, ReplyStarted, WordsFinal
from patter_trio.metrics.metering import parts_of
from patter_trio.metrics.public_events import AgentSpeechStarted


class PipelineBackend(Backend):
    """STT, responder and TTS of one call.

    Args:
        services: the parts of the call that the backend uses.
        on_message: the application's handler that answers instead of an LLM; None if an LLM answers.
    """

    def __init__(self, services: CallServices, on_message: MessageHandler | None) -> None:
        self._services = services
        self._transcription = TranscriptionStage(self._heard_words, partial(services.provider_failed, "stt"))
        self.user_turns: UserTurns = UserTurns(services.history, services.reporter)
        self._responder = Responder(
            on_message, services.control, services.call.info, services.history, self.user_turns, tools=services.tools
        )
        self._voice: TextToSpeechSession | None = None
        self._start_part: StartPart | None = None

    def __repr__(self) -> str:
        return f"<PipelineBackend {self._responder!r}>"

    # Providers --------------------------------------------------------------------------------------------------------
    @property
    def can_speak(self) -> bool:
        """True once the TTS is open."""
        return self._voice is not None

    def names(self) -> tuple[str, str]:
        """Return the responder's provider and model."""
        return self._responder.names(self.agent)

    def audio_provider(self) -> str:
        """Return the TTS provider's name."""
        return self.agent.tts.provider if self.agent is not None and self.agent.tts is not None else ""

    def speaker(self) -> AgentSpeechStarted:
        """Return the TTS as the provider that speaks."""
        return AgentSpeechStarted(tts_provider=self.audio_provider())

    def parts(self, agent: Agent) -> AgentReady:
        """Return the names of the STT, the responder and the TTS."""
        return parts_of(agent, *self._responder.names(agent))

    # Hearing ----------------------------------------------------------------------------------------------------------
    def hear(self, item: bytes | VoiceEdge) -> None:
        """Put audio or a voice edge into the STT's queue."""
        self._transcription.put(item)

    def ask_for_words(self) -> None:
        """Ask the STT for the words of a voice that goes on; they come as a final transcript."""
        self._transcription.flush(last=False)

    def flush(self) -> None:
        """Ask the STT for its last words; ``Flushed`` is posted when no more will come."""
        self._transcription.flush()

    def _heard_words(self, event: inputs.InterimWords | inputs.FinalWords | inputs.Flushed) -> None:
        # Reported before it is posted: observers see the words before anything that the turn machine does about them.
        if isinstance(event, inputs.InterimWords) and not self._services.control.outcome:
            self._services.reporter.partial(trio.current_time(), event.text)
        elif isinstance(event, inputs.FinalWords):
            self._services.emit_fact(WordsFinal(event.text))
        self._services.post(event)

    # Opening ----------------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def open(self, agent: Agent, start: StartPart) -> AsyncIterator[None]:
        """Start the STT and the responder, and open the TTS."""
        self.agent: Agent | None = agent
        services, self._start_part = self._services, start
        if agent.stt is None:
            raise ConfigurationError("An agent must have stt= or engine=.")
        hook_runner = hook_runner_of(agent, services.call, services.emit_fact)
        if hook_runner is not None:
            self._responder.use_hooks(hook_runner)
            if hook_runner.given("after_transcribe"):
                self.user_turns.use_hook(hook_runner.transcribed, start)
        if self._responder.message_handler is not None:
            start("on_message", self._responder.message_handler.run)
        start("responder", self._responder.connect, agent, "begun")
        # Beside the opening of the TTS: the slowest of the providers decides when the call is ready, not their sum.
        start("STT", self._transcription.run, agent.stt, agent.language, hook_runner)
        tts = _voice_of(agent)
        # Awaited, unlike the other two: without the TTS the agent cannot greet the caller, so the call is not ready.
        failed = partial(services.provider_failed, "tts", tts.provider)
        opening = open_with_timeout(tts.open(language=agent.language), tts.provider, failed=failed)
        async with opening as self._voice:
            yield None

    # Replies ----------------------------------------------------------------------------------------------------------
    def start(self, action: do.StartReply, nursery: trio.Nursery) -> replies.Reply:
        """Begin a reply: the responder's answer, or a fixed text."""
        agent, services, voice = self.ready_agent(), self._services, self._voice
        assert voice is not None  # noqa: S101 (ready_agent has checked it)
        text = agent.error_message if action.apology else action.text
        emits, hook_runner = _voice_of(agent).emits, self._responder.hook_runner
        reply = replies.Reply(
            action.reply,
            action.turn,
            services.emit_fact,
            language=agent.language,
            make_hooks=None if hook_runner is None else partial(hook_runner.of_reply, emits, generated=text is None),
            prepare=self._responder.prepare(agent) if text is None else None,
            text_filter=agent.text_filter(generated=text is None),
        )
        llm_provider = model = ""
        kind: AnswerKind
        if text is not None:
            kind, source = "error" if action.apology else "text", replies.from_text(text)
        else:
            kind, source = self._responder.kind, self._responder.source_for(agent, reply)
            llm_provider, model = self.names()
        reply.emit_fact(ReplyStarted(reply.number, reply.turn, kind, llm_provider, model))
        nursery.start_soon(reply.run, source, voice, emits, services.writer, services.post)
        return reply

    def end_reply(self, reply: replies.Reply, heard: HeardSpeech, reason: str) -> None:  # noqa: ARG002 (for engines)
        """After a cut, settle the words that the reply was to answer, and pre-connect for the next answer."""
        # The connection was not cut off, and stays warm for the next answer.
        if reason == "played":
            return
        # Only a reply with hooks before it can have words that still wait for after_transcribe.
        if reply.prepare is not None:
            self.user_turns.cut(reason)
        if self._start_part is not None:
            # In a task of its own, because this method must return at once.
            self._start_part("responder", self._responder.connect, self.agent, reason)

    async def apologise(self, agent: Agent, reply: replies.Reply) -> None:
        """Say the error message in a new TTS session."""
        await say_error_message(agent, _voice_of(agent), reply, self._services)


def _voice_of(agent: Agent) -> TextToSpeech:
    if agent.tts is None:
        raise ConfigurationError("An agent must have tts= or engine=.")
    return agent.tts
