"""A call's faculties as three providers: a recogniser hears, a model or the application thinks, a synthesiser speaks."""

import trio

from patter_trio.abc import TextToSpeech, TextToSpeechSession, VoiceEdge
from patter_trio.agent.agent import Agent
from patter_trio.call.backend import Backend, CallServices, Guarded, Hold, say_error_message
from patter_trio.call.hooks import hook_runner_of
from patter_trio.call.input.transcription import TranscriptionStage
from patter_trio.call.input.user_words import UserTurns
from patter_trio.call.opening import open_with_timeout
from patter_trio.call.output import reply as replies
from patter_trio.call.responder.on_message import MessageHandler
from patter_trio.call.responder.responder import Responder
from patter_trio.conversation import actions as do
from patter_trio.conversation import inputs
from patter_trio.conversation.playback import HeardSpeech
from patter_trio.errors import ConfigurationError
from patter_trio.metrics.internal_events import AgentReady, AnswerKind, ReplyStarted, WordsFinal
from patter_trio.metrics.metering import parts_of
from patter_trio.metrics.public_events import AgentSpeechStarted


class PipelineBackend(Backend):
    """Recogniser, mind and voice of one call.

    Args:
        around: what it works with.
        on_message: what answers in the place of a model, if the application does.
    """

    def __init__(self, services: CallServices, on_message: MessageHandler | None) -> None:
        self._services = services
        self._transcription = TranscriptionStage(self._heard_words)
        self.user_turns: UserTurns = UserTurns(services.history, services.reporter)
        self._responder = Responder(
            on_message, services.control, services.about, services.history, self.user_turns, tools=services.tools
        )
        self._voice: TextToSpeechSession | None = None
        self._nursery: trio.Nursery | None = None

    def __repr__(self) -> str:
        return f"<Pipeline of {self._responder!r}>"

    # Who it is --------------------------------------------------------------------------------------------------------
    @property
    def can_speak(self) -> bool:
        """Whether the voice is open."""
        return self._voice is not None

    def names(self) -> tuple[str, str]:
        """Return provider and model of what thinks."""
        return self._responder.names(self.agent)

    def audio_provider(self) -> str:
        """Return the synthesiser's name."""
        return self.agent.tts.provider if self.agent is not None and self.agent.tts is not None else ""

    def speaker(self) -> AgentSpeechStarted:
        """Return the synthesiser as the one who speaks."""
        return AgentSpeechStarted(tts_provider=self.audio_provider())

    def parts(self, agent: Agent) -> AgentReady:
        """Return the names of all three."""
        return parts_of(agent, *self._responder.names(agent))

    # Hearing ----------------------------------------------------------------------------------------------------------
    def hear(self, item: bytes | VoiceEdge) -> None:
        """Hand it to the recogniser."""
        self._transcription.put(item)

    def flush(self) -> None:
        """Have the recogniser's last words come."""
        self._transcription.flush()

    def _heard_words(self, event: inputs.InterimWords | inputs.FinalWords | inputs.Flushed) -> None:
        if isinstance(event, inputs.InterimWords) and not self._services.control.outcome:
            self._services.reporter.partial(trio.current_time(), event.text)
        elif isinstance(event, inputs.FinalWords):
            self._services.emit_fact(WordsFinal(event.text))
        self._services.post(event)

    # Opening ----------------------------------------------------------------------------------------------------------
    async def run(self, agent: Agent, nursery: trio.Nursery, guarded: Guarded, hold: Hold) -> None:
        """Open recogniser and voice."""
        services, self._nursery = self._services, nursery
        if agent.stt is None:
            raise ConfigurationError("an agent needs stt= or engine=")
        hook_runner = self._responder.hook_runner = hook_runner_of(agent, services.call, services.emit_fact)
        if hook_runner is not None and hook_runner.given("after_transcribe"):
            self.user_turns.after_transcribe = hook_runner.transcribed
        if self._responder.message_handler is not None:
            nursery.start_soon(self._responder.message_handler.run)
        nursery.start_soon(self._responder.connect, agent, "begun")
        nursery.start_soon(guarded, "recogniser", self._transcription.run, agent.stt, agent.language, hook_runner)
        tts = _voice_of(agent)
        async with open_with_timeout(tts.open(language=agent.language), tts.provider) as self._voice:
            await hold()

    # Replies ----------------------------------------------------------------------------------------------------------
    def start(self, action: do.StartReply, nursery: trio.Nursery) -> replies.Reply:
        """Begin a reply: of the mind's, or a fixed text."""
        agent, services, voice = self.ready_agent(), self._services, self._voice
        assert voice is not None  # noqa: S101 (ready_agent has seen to it)
        reply = replies.Reply(action.reply, action.turn, services.emit_fact, language=agent.language)
        llm_provider = model = ""
        kind: AnswerKind
        if action.apology:
            kind, source = "error", replies.from_text(agent.error_message)
        elif action.text is not None:
            kind, source = "text", replies.from_text(action.text)
        else:
            kind, source = self._responder.kind, self._responder.source_for(agent, reply)
            llm_provider, model = self.names()
            reply.prepare = self._responder.prepare(agent, reply)
        emits = _voice_of(agent).emits
        if self._responder.hook_runner is not None:
            generated = kind == self._responder.kind
            reply.hooks = self._responder.hook_runner.of_reply(emits, reply.emit_blocked, generated=generated)
        reply.emit_fact(ReplyStarted(reply.number, reply.turn, kind, llm_provider, model))
        nursery.start_soon(reply.run, source, voice, emits, services.writer, services.post)
        return reply

    def end_reply(self, reply: replies.Reply, heard: HeardSpeech, reason: str) -> None:  # noqa: ARG002 (an engine is told)
        """After a cut, open what the next answer would wait for."""
        if reason == "played":
            return
        if reply.prepare is not None:
            self.user_turns.cut(reason)
        if self._nursery is not None:
            self._nursery.start_soon(self._responder.connect, self.agent, reason)

    async def apologise(self, agent: Agent, reply: replies.Reply) -> None:
        """Say the error message in a session of its own."""
        await say_error_message(agent, _voice_of(agent), reply, self._services)


def _voice_of(agent: Agent) -> TextToSpeech:
    if agent.tts is None:
        raise ConfigurationError("an agent needs tts= or engine=")
    return agent.tts
