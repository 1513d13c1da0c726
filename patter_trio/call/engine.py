"""A call's backend made of one speech-to-speech engine. The turn machine still decides whose turn it is.

The session receives the caller's audio and the turn machine's decisions about it in one order: commit when an utterance
is over, discard when it did not count. The engine answers on request, faster than real time. After a cut, the backend
tells it how much of the answer the caller heard, so that its conversation has no words that were never heard. Results
of tools enter its conversation before the next request.
"""

import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import Final

import attrs
import trio

from patter_trio.abc import (
    Engine,
    EngineResponse,
    EngineSession,
    EngineSetup,
    EngineWords,
    Message,
    SpeechChunk,
    TextToSpeech,
    TextToSpeechSession,
    ToolCall,
    ToolDefinition,
    VoiceEdge,
)
from patter_trio.agent.agent import Agent
from patter_trio.audio import g711
from patter_trio.audio.convert import Converter, Quality, converter
from patter_trio.audio.formats import MULAW_8K, RATE_HZ
from patter_trio.call.backend import Backend, CallServices, StartPart, say_error_message
from patter_trio.call.engine_guard import SpeechGuard
from patter_trio.call.engine_reply import EngineReply, EngineSource, TakePiece
from patter_trio.call.hooks import HookRunner, hook_runner_of
from patter_trio.call.input.late_transcripts import LateTranscripts
from patter_trio.call.opening import open_with_timeout
from patter_trio.call.output import reply as replies
from patter_trio.call.output.speech import SpeechFeed
from patter_trio.call.responder.asking import asked, pass_on
from patter_trio.call.responder.responder import messages_from
from patter_trio.call.tools.loop import ToolLoop
from patter_trio.call.tools.runner import ToolInvocation, ToolRound
from patter_trio.conversation import actions as do
from patter_trio.conversation import inputs
from patter_trio.conversation.playout import HeardSpeech
from patter_trio.errors import ProviderError, leaves
from patter_trio.metrics.internal_events import AgentReady, AnswerKind, ReplyStarted
from patter_trio.metrics.metering import parts_of
from patter_trio.metrics.public_events import AgentSpeechStarted

# Judged, as for the queue of an STT (docs/design.md, "Queues"): few callers talk for longer before anybody answers.
MAX_OPENING_SAMPLES: Final = 5 * RATE_HZ
"""5 s of the caller's audio kept while the engine is being opened; silence replaces audio older than that."""
NOT_DONE_RESULT: Final = "It was not done: the caller went on before."

_log = logging.getLogger("patter_trio.call")


class EngineBackend(Backend):
    """The engine of one call and, if the agent has one, a TTS for texts that are not the engine's own.

    Args:
        services: the parts of the call that the backend uses.
        engine: the served agent's engine; ``on_call_start`` may replace it before it is opened.
    """

    def __init__(self, services: CallServices, engine: Engine) -> None:
        self._services = services
        self._engine = engine
        self._session: EngineSession | None = None
        self._voice: TextToSpeechSession | None = None
        self._waiting: deque[bytes | int | VoiceEdge] = deque()
        """Audio and voice edges for the engine until it is open; a number stands for that many dropped samples."""
        self._kept = 0
        self._gone = False
        """True once the session has failed for good."""
        self._hook_runner: HookRunner | None = None
        """Runs the agent's guardrails; None if it has none."""
        self._by: TextToSpeech | None = None
        """The TTS, if it speaks the live reply; None if the engine does."""
        self._start_part: StartPart | None = None
        self._converter: Converter | None = None
        """Converts to the format that the engine accepts; None if that is mu-law at 8 kHz."""
        self._speaking = False
        """True while the caller has said something that is neither committed nor discarded."""
        self._wanted: dict[str, ToolCall] = {}
        """Tool calls of the engine that have not started, by id."""
        self._given: dict[ToolInvocation, bool] = {}
        """Invocations with a result that the engine has; True if that was the final one."""
        self.user_turns: LateTranscripts = LateTranscripts(
            services.history, services.reporter, self._commit, self._tell_typed
        )

    def __repr__(self) -> str:
        return f"<EngineBackend of {self._engine.provider}, {self.user_turns!r}>"

    # Providers --------------------------------------------------------------------------------------------------------
    @property
    def can_speak(self) -> bool:
        """True once the engine or the TTS is open."""
        return self._session is not None or self._voice is not None

    def names(self) -> tuple[str, str]:
        """Return the engine's provider and model."""
        return self._engine.provider, self._engine.model

    def audio_provider(self) -> str:
        """Return the provider that speaks the live reply: the engine or the TTS."""
        return self._engine.provider if self._by is None else self._by.provider

    def speaker(self) -> AgentSpeechStarted:
        """Return the engine, or the TTS, as the provider that speaks."""
        name = self.audio_provider()
        return AgentSpeechStarted(engine=name) if self._by is None else AgentSpeechStarted(tts_provider=name)

    def parts(self, agent: Agent) -> AgentReady:
        """Return the names of the engine and of the agent's other providers."""
        return parts_of(agent, *self.names())

    # Hearing ----------------------------------------------------------------------------------------------------------
    def hear(self, item: bytes | VoiceEdge) -> None:
        """Send audio or a voice edge to the engine, or keep it until the engine is open."""
        if self._session is None:
            self._keep(item)
        elif isinstance(item, VoiceEdge):
            self._session.voice(item)
        else:
            self._hear(self._session, item)

    def _hear(self, session: EngineSession, mulaw: bytes) -> None:
        if self._converter is None:
            session.send(mulaw)
        elif audio := self._converter.convert(mulaw):  # empty while the resampler holds back all of it
            session.send(audio)

    def _push(self) -> None:
        """Send the audio that the resampler holds back, because the next decision is about that audio, too."""
        if self._session is not None and self._converter is not None and (rest := self._converter.flush()):
            self._session.send(rest)

    def _keep(self, item: bytes | VoiceEdge) -> None:
        """Keep an item until the engine is open; dropping audio does not move the offsets of the edges."""
        self._waiting.append(item)
        if isinstance(item, bytes):
            self._kept += len(item)
        # The oldest audio becomes a count of samples in its place: silence of that length keeps all offsets right.
        # A search from the left each time, but of 250 frames at most, and only while a session is slow to open.
        while self._kept > MAX_OPENING_SAMPLES:
            place, audio = next((place, kept) for place, kept in enumerate(self._waiting) if isinstance(kept, bytes))
            self._waiting[place] = len(audio)
            self._kept -= len(audio)

    def _hand_over(self, session: EngineSession) -> None:
        """Send everything that was kept to the session, which is open now."""
        self._converter = converter(MULAW_8K, self._engine.accepts, Quality.LOW_DELAY)
        # In one plain function: with an await here, hear() could put newer audio in front of what was kept.
        for item in self._waiting:
            if isinstance(item, VoiceEdge):
                session.voice(item)
            else:
                self._hear(session, g711.silence(item / RATE_HZ) if isinstance(item, int) else item)
        self._waiting.clear()
        # Last: from here on hear() sends directly, so nothing newer overtakes what was kept.
        self._session = session

    def on_voice_started(self) -> None:
        """Remember that the caller's audio from here on may be an utterance."""
        self._speaking = True

    def drop_utterance(self) -> None:
        """Discard the audio since the last commit in the engine, because it did not count as an utterance."""
        self._speaking = False
        if self._session is not None:
            self._push()  # before the discard, or the held-back end of it would begin the next utterance
            self._session.discard()

    def _commit(self) -> int:
        self._speaking = False
        self._push()  # before the commit, or the end of the last word would be missing
        return 0 if self._session is None else self._session.commit()

    def _tell_typed(self, text: str) -> None:
        self._remember({"role": "user", "content": text})

    def flush(self) -> None:
        """Ask for the last words; ``Flushed`` is posted when no more will come."""
        if self._session is not None:
            self.user_turns.flush(open_voice=self._speaking)
        if not self.user_turns.pending_count or self._start_part is None:
            self._services.post(inputs.Flushed())
        else:
            # In a task of its own, because this method must return at once.
            self._start_part("transcripts", self._await_last)

    async def _await_last(self) -> None:
        await self.user_turns.wait_until_complete()
        self._services.post(inputs.Flushed())

    # Opening ----------------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def open(self, agent: Agent, start: StartPart) -> AsyncIterator[BaseException | None]:
        """Open the TTS for other texts, then the engine; without the engine, the TTS can still apologise."""
        self.agent: Agent | None = agent
        self._engine, self._start_part = agent.engine or self._engine, start
        # An engine has no other hooks than guardrails.
        self._hook_runner = (
            hook_runner_of(agent, self._services.call, self._services.emit_fact) if agent.guardrails else None
        )
        self.user_turns.open(start)
        async with AsyncExitStack() as stack:
            # Before the engine: if the engine cannot be opened, the TTS says the error message.
            if agent.tts is not None:
                voice = agent.tts.open(language=agent.language)
                failed = partial(self._services.provider_failed, "tts", agent.tts.provider)
                opening = open_with_timeout(voice, agent.tts.provider, failed=failed)
                self._voice = await stack.enter_async_context(opening)
            failure: BaseException | None = None
            try:
                # A session may raise a group, because it may run its own nursery; hence except*.
                session = await stack.enter_async_context(self._opened(agent))
            except* ProviderError as failures:
                if self._voice is None:
                    raise
                failure = next(leaves(failures))
            else:
                self._hand_over(session)
                start("engine", self._listen, session)
            yield failure

    def _opened(self, agent: Agent) -> AbstractAsyncContextManager[EngineSession]:
        setup = EngineSetup(
            instructions=agent.instructions,
            language=agent.language,
            tools=tuple(tool.definition for tool in agent.tools),
            conversation=partial(messages_from, self._services.history),
        )
        return open_with_timeout(self._engine.open(setup), self._engine.provider, failed=self._failed)

    def _failed(self, error: BaseException) -> None:
        self._services.provider_failed("engine", self._engine.provider, error)

    async def _listen(self, session: EngineSession) -> None:
        """Handle the engine's events about the caller until cancelled.

        Raises:
            ProviderError: the session has failed for good.
        """
        try:
            # A task of its own for as long as the call lasts: replies come and go, but the engine
            # reports about the caller throughout.
            async for event in session.events():
                if isinstance(event, EngineWords):
                    self.user_turns.on_transcript(event)
                else:
                    self._services.post(inputs.FinalWords("", finished=True))
        except ProviderError as error:
            self._failed(error)
            self._gone = True  # the apology that follows needs a new session
            raise

    # Replies ----------------------------------------------------------------------------------------------------------
    def start(self, action: do.StartReply, nursery: trio.Nursery) -> replies.Reply:
        """Begin a reply: the engine's answer, or a fixed text, which the TTS speaks if there is one."""
        agent, services, session = self.ready_agent(), self._services, self._session
        text = agent.error_message if action.apology else action.text
        kind: AnswerKind = "error" if action.apology else "llm" if text is None else "text"
        # Set before the reply begins: audio_provider() must name the provider that speaks this reply.
        self._by = None if text is None else agent.tts
        if text is not None and self._by is not None and self._voice is not None:
            reply = replies.Reply(
                action.reply,
                action.turn,
                services.emit_fact,
                language=agent.language,
                text_filter=agent.text_filter(generated=False),
            )
            reply.emit_fact(ReplyStarted(reply.number, reply.turn, kind))
            fixed, emits = replies.from_text(text), self._by.emits
            nursery.start_soon(reply.run, fixed, self._voice, emits, services.writer, services.post)
            return reply
        assert session is not None  # noqa: S101 (without a session, only the TTS speaks, and only fixed texts)
        made = EngineReply(
            action.reply,
            action.turn,
            services.emit_fact,
            session,
            language=agent.language,
            guard=self._guard(agent, text),
        )
        llm_provider, model = self.names() if text is None else ("", "")
        made.emit_fact(ReplyStarted(made.number, made.turn, kind, llm_provider, model))
        nursery.start_soon(made.make, self._source(agent, made, text), self._engine.emits, services)
        return made

    def _guard(self, agent: Agent, text: str | None) -> SpeechGuard | None:
        # A text of the application's own needs no check.
        if text is not None or self._hook_runner is None:
            return None
        return SpeechGuard(self._hook_runner, language=agent.language)

    def _source(self, agent: Agent, reply: EngineReply, text: str | None) -> EngineSource:
        if text is not None:
            return partial(self._said_afresh, agent, reply, text) if self._gone else partial(_said, reply, text)
        asked = _Asked(self, reply)
        if agent.tools:
            loop: ToolLoop[str | SpeechChunk] = ToolLoop(self._services.tools, asked, agent.tools, (), reply)
            return loop.run
        return asked.alone

    async def _said_afresh(self, agent: Agent, reply: EngineReply, text: str, take: TakePiece) -> None:
        """Say a text in a new session, because the call's session has failed."""
        async with self._opened(agent) as session, reply.respond(text, by=session) as response:
            await pass_on(response, take, "engine")

    def end_reply(self, reply: replies.Reply, heard: HeardSpeech, reason: str) -> None:
        """Tell the engine what the caller heard of a reply that was cut, or that the TTS spoke."""
        if isinstance(reply, EngineReply):
            # An answer that was played to its end is in the engine's memory as it was generated;
            # only a cut one must be shortened.
            if reason != "played":
                reply.heard(heard.seconds)
                self._give_up_tools()
        elif heard.text and self._session is not None:
            # The engine has not heard the TTS beside it, and would otherwise say the same again.
            self._session.remember({"role": "assistant", "content": heard.text})

    # Tools ------------------------------------------------------------------------------------------------------------
    def want(self, call: ToolCall) -> None:
        """Record that the engine called a tool."""
        self._wanted[call.id] = call

    def give_results(self) -> None:
        """Tell the engine the results of the tools that it called."""
        # In the order in which the engine called them; tools of earlier answers come first.
        order = {name: place for place, name in enumerate(self._wanted)}
        for run in sorted(self._runs(), key=lambda run: order.get(run.call.id, -1)):
            self._give(run)
        self._nothing_of_the_rest()

    def _runs(self) -> list[ToolInvocation]:
        """Return the invocations that have started, or that wait until their reply has been played."""
        rounds = [item for item in self._services.history.items() if isinstance(item, ToolRound)]
        started = [run for round_ in rounds for run in round_.invocations]
        return [*started, *self._services.tools.waiting()]

    def _give(self, run: ToolInvocation) -> None:
        self._wanted.pop(run.call.id, None)
        # A result is given once. A tool that was still running then is reported again when it has finished, as a
        # message: its tool call already has a result.
        if run not in self._given:
            self._remember(_result(run.call, run.text))
        elif run.over and not self._given[run]:
            self._remember(
                {"role": "system", "content": f"The tool {run.call.name} has finished meanwhile: {run.text}"}
            )
        self._given[run] = run.over

    def _give_up_tools(self) -> None:
        """Tell the engine, after a cut, that the tools that the reply called and that have not started will not run."""
        # A tool that has started still gets a result, whatever became of the reply: on_barge_in may let it run on.
        alive = self._runs()
        for run in alive:
            self._wanted.pop(run.call.id, None)
        self._nothing_of_the_rest()
        for run in [run for run, over in self._given.items() if not over and run not in alive]:
            self._given[run] = True
            self._remember(
                {"role": "system", "content": f"The tool {run.call.name} will not be called: {NOT_DONE_RESULT}"}
            )

    def _nothing_of_the_rest(self) -> None:
        # The model must never see a tool call without a result.
        for call in self._wanted.values():
            self._remember(_result(call, NOT_DONE_RESULT))
        self._wanted.clear()

    def _remember(self, message: Message) -> None:
        if self._session is not None:
            self._session.remember(message)

    async def apologise(self, agent: Agent, reply: replies.Reply) -> None:
        """Say the error message in a session of its own."""
        services = self._services
        if agent.tts is not None:
            await say_error_message(agent, agent.tts, reply, services)
            return
        services.writer.open(reply.playout)
        feed = SpeechFeed(reply.playout, self._engine.emits, services.writer, replies.MAX_PLAYOUT_SAMPLES)
        # A session of its own, as in say_error_message: the crash may have left the call's session in any state.
        async with self._opened(agent) as session, session.respond(agent.error_message, tools=False) as response:
            async for piece in response:
                # Nothing else: no tool was offered, and texts only serve to find out what was heard.
                if isinstance(piece, SpeechChunk):
                    # Without words: the conversation is over, so nothing asks what was heard of the apology.
                    await feed.put(attrs.evolve(piece, text="", words=()))
        await feed.finish()
        reply.playout.end()
        services.writer.wake()


class _Asked:
    """The engine as an answer source for one reply, in the form that ``ToolLoop`` expects."""

    def __init__(self, backend: EngineBackend, reply: EngineReply) -> None:
        self._backend = backend
        self._reply = reply
        self.provider, self.model = backend.names()

    @asynccontextmanager
    async def stream(
        self,
        messages: Sequence[Message] = (),  # noqa: ARG002 (the conversation is the engine's own)
        *,
        tools: Sequence[ToolDefinition] = (),
    ) -> AsyncIterator[AsyncIterator[str | SpeechChunk | ToolCall]]:
        """Open an answer, after telling the engine the results of its tools."""
        self._backend.give_results()  # before the response, which would otherwise be made without them
        async with (
            self._reply.respond(tools=bool(tools)) as response,
            aclosing(self._noting(response)) as items,
        ):
            yield items

    async def _noting(self, response: EngineResponse) -> AsyncGenerator[str | SpeechChunk | ToolCall, None]:
        # A plain generator under aclosing: it holds no scope open while it yields, so no
        # task and no channel are needed.
        async for item in response:
            if isinstance(item, ToolCall):
                self._backend.want(item)
            yield item

    async def alone(self, take: TakePiece) -> None:
        """Generate the one answer of an engine without tools."""
        async with asked(self, self.stream, tools=False, again=True) as items:
            await pass_on(items, take, "engine")


async def _said(reply: EngineReply, text: str, take: TakePiece) -> None:
    async with reply.respond(text) as response:
        await pass_on(response, take, "engine")


def _result(call: ToolCall, text: str) -> Message:
    return {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": text}
