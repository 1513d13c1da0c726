"""A call's faculties as three providers: a recogniser hears, a model or the application thinks, a synthesiser speaks."""

from collections.abc import Mapping
from typing import Any

import trio

from patter_trio.abc import SynthesisSession, TextToSpeech, VoiceEdge
from patter_trio.agent.agent import Agent
from patter_trio.call.backend import Faculties, Guarded, Hold, Surroundings, say_error_message
from patter_trio.call.hooks import hooking_of
from patter_trio.call.input.transcription import Hearing
from patter_trio.call.input.user_words import UserWords
from patter_trio.call.opening import opened
from patter_trio.call.output import reply as replies
from patter_trio.call.responder.on_message import Messages
from patter_trio.call.responder.responder import Minds
from patter_trio.conversation import actions as do
from patter_trio.conversation import inputs
from patter_trio.conversation.playback import Heard
from patter_trio.errors import ConfigurationError
from patter_trio.metrics.metering import parts_of


class Pipeline(Faculties):
    """Recogniser, mind and voice of one call.

    Args:
        around: what it works with.
        on_message: what answers in the place of a model, if the application does.
    """

    def __init__(self, around: Surroundings, on_message: Messages | None) -> None:
        self._around = around
        self._hearing = Hearing(self._heard_words)
        self.words: UserWords = UserWords(around.history, around.tell)
        self._minds = Minds(on_message, around.control, around.about, around.history, self.words, tools=around.tools)
        self._voice: SynthesisSession | None = None
        self._talk: trio.Nursery | None = None

    def __repr__(self) -> str:
        return f"<Pipeline of {self._minds!r}>"

    # Who it is --------------------------------------------------------------------------------------------------------
    @property
    def can_speak(self) -> bool:
        """Whether the voice is open."""
        return self._voice is not None

    def names(self) -> tuple[str, str]:
        """Return provider and model of what thinks."""
        return self._minds.names(self.agent)

    def voice(self) -> str:
        """Return the synthesiser's name."""
        return self.agent.tts.provider if self.agent is not None and self.agent.tts is not None else ""

    def speaker(self) -> Mapping[str, str]:
        """Return the synthesiser's name."""
        return {"tts_provider": self.voice()}

    def parts(self, agent: Agent) -> dict[str, Any]:
        """Return the names of all three."""
        return parts_of(agent, *self._minds.names(agent))

    # Hearing ----------------------------------------------------------------------------------------------------------
    def hear(self, item: bytes | VoiceEdge) -> None:
        """Hand it to the recogniser."""
        self._hearing.put(item)

    def flush(self) -> None:
        """Have the recogniser's last words come."""
        self._hearing.flush()

    def _heard_words(self, event: inputs.Interim | inputs.Final | inputs.Flushed) -> None:
        if isinstance(event, inputs.Interim) and not self._around.control.outcome:
            self._around.tell.partial(trio.current_time(), event.text)
        elif isinstance(event, inputs.Final):
            self._around.note("words_final", {"text": event.text})
        self._around.post(event)

    # Opening ----------------------------------------------------------------------------------------------------------
    async def run(self, agent: Agent, talk: trio.Nursery, guarded: Guarded, hold: Hold) -> None:
        """Open recogniser and voice."""
        around, self._talk = self._around, talk
        if agent.stt is None:
            raise ConfigurationError("an agent needs stt= or engine=")
        hooking = self._minds.hooking = hooking_of(agent, around.call, around.note)
        if hooking is not None and hooking.given("after_transcribe"):
            self.words.asks = hooking.transcribed
        if self._minds.answering is not None:
            talk.start_soon(self._minds.answering.run)
        talk.start_soon(self._minds.connect, agent, "begun")
        talk.start_soon(guarded, "recogniser", self._hearing.run, agent.stt, agent.language, hooking)
        tts = _voice_of(agent)
        async with opened(tts.open(language=agent.language), tts.provider) as self._voice:
            await hold()

    # Replies ----------------------------------------------------------------------------------------------------------
    def start(self, action: do.StartReply, talk: trio.Nursery) -> replies.Reply:
        """Begin a reply: of the mind's, or a fixed text."""
        agent, around, voice = self.ready_agent(), self._around, self._voice
        assert voice is not None  # noqa: S101 (ready_agent has seen to it)
        reply = replies.Reply(action.reply, action.turn, around.note, language=agent.language)
        named: dict[str, str] = {}
        if action.apology:
            kind, mind = "error", replies.fixed(agent.error_message)
        elif action.text is not None:
            kind, mind = "text", replies.fixed(action.text)
        else:
            kind, mind = self._minds.kind, self._minds.of(agent, reply)
            named["llm_provider"], named["model"] = self.names()
            reply.prepare = self._minds.prepare(agent, reply)
        emits = _voice_of(agent).emits
        if self._minds.hooking is not None:
            generated = kind == self._minds.kind
            reply.hooks = self._minds.hooking.of_reply(emits, reply.note, generated=generated)
        reply.note("reply_started", mind=kind, **named)
        talk.start_soon(reply.run, mind, voice, emits, around.egress, around.post)
        return reply

    def over(self, reply: replies.Reply, heard: Heard, reason: str) -> None:  # noqa: ARG002 (an engine is told)
        """After a cut, open what the next answer would wait for."""
        if reason == "played":
            return
        if reply.prepare is not None:
            self.words.cut(reason)
        if self._talk is not None:
            self._talk.start_soon(self._minds.connect, self.agent, reason)

    async def apologise(self, agent: Agent, reply: replies.Reply) -> None:
        """Say the error message in a session of its own."""
        await say_error_message(agent, _voice_of(agent), reply, self._around)


def _voice_of(agent: Agent) -> TextToSpeech:
    if agent.tts is None:
        raise ConfigurationError("an agent needs tts= or engine=")
    return agent.tts
