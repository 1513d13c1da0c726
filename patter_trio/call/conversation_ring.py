"""The conversation, the innermost ring of a call: the tasks that listen, answer and speak, and the session loop.

The session loop awaits nothing but the call's inbox, and no task waits to fill it: a full inbox is a bug, and ends the
call. Every input carries the instant at which it happened. The turn machine decides what the inputs mean, and plain
functions carry out its actions, so that a barge-in is complete before anything else can happen.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from patter_trio.agent.agent import Agent
from patter_trio.agent.menu import Menu
from patter_trio.audio import g711
from patter_trio.audio.media_clock import MediaClock
from patter_trio.call.backend import Backend, CallServices, StartPart
from patter_trio.call.backends import backend_of
from patter_trio.call.ending import Ending
from patter_trio.call.failover import Failover
from patter_trio.call.inbox import Inbox
from patter_trio.call.input.voice_activity import VoiceActivityStage
from patter_trio.call.limits import Limits
from patter_trio.call.live_reply import LiveReply
from patter_trio.call.menus import MenuRunner
from patter_trio.call.options import CallOptions
from patter_trio.call.output.digits import DigitsSender
from patter_trio.call.transfers import Transfers
from patter_trio.conversation import actions as do
from patter_trio.conversation import inputs
from patter_trio.conversation.machine import TurnMachine
from patter_trio.errors import ProviderError, leaves
from patter_trio.events.reporter import Fired

_log = logging.getLogger("patter_trio.call")


class ConversationRing:
    """The conversation of one call: its agent, its turn machine, and the parts that carry out the machine's actions.

    Args:
        services: the parts that the conversation shares with the call around it.
        options: the options that the server gives to each call.
        inbox: the inputs for the session loop.
        ending: takes the outcome, and the first failure.
        media: the clock of the caller's audio.
        limits: hang up when the call has lasted, or been silent, for too long.
        transfers: connect the caller with somebody else.
        digits: has the digits that replies send.
        hang_up: closes the leg, at once.
    """

    def __init__(
        self,
        services: CallServices,
        options: CallOptions,
        *,
        inbox: Inbox,
        ending: Ending,
        media: MediaClock,
        limits: Limits,
        transfers: Transfers,
        digits: DigitsSender,
        hang_up: Callable[[], None],
    ) -> None:
        self._call_id = services.call.info.call_id
        self._services = services
        self._options = options
        self.agent: Agent = options.agent
        """The served agent; from the result of ``on_call_start`` on, the agent of this call."""
        self._inbox = inbox
        self._ending = ending
        self._media = media
        self._limits = limits
        self._transfers = transfers
        self._hang_up = hang_up
        self._post = services.post
        self._reporter = services.reporter
        self._tools = services.tools
        self.machine: TurnMachine | None = None
        """The turn machine; None before the session loop has begun."""
        self.backend: Backend = backend_of(services, options)
        self._voice_activity = VoiceActivityStage(
            options.agent.vad,
            media,
            self._post,
            self.backend.hear,
            remember=options.agent.turn_detector is not None,
        )
        self._ignores_voice = options.is_deaf
        self._failover = Failover(self._call_id, transfers)
        self._menu = MenuRunner(services.control, limits)
        self.live_reply: LiveReply = LiveReply(
            self.backend,
            services.writer,
            self._reporter,
            services.history,
            self._post,
            tools=self._tools,
            digits=digits,
            recorded=options.recorded,
            failover=self._failover,
        )

    def __repr__(self) -> str:
        return f"<ConversationRing of {self._call_id}, {self.machine!r}>"

    # What the call around it asks -------------------------------------------------------------------------------------
    @property
    def waiting_texts(self) -> int:
        """The number of texts that have left the inbox and wait to be spoken."""
        return 0 if self.machine is None else self.machine.waiting_texts

    @property
    def may_wait(self) -> bool:
        """True unless the conversation is over or about to end: it can wait for another stream."""
        return self.machine is None or self.machine.may_wait

    @property
    def dropped_frames(self) -> int:
        """The number of the caller's frames that were dropped because the VAD was too slow."""
        return self._voice_activity.dropped

    @property
    def quiet_since(self) -> float | None:
        """Since when there is silence in a voice whose end the VAD has not reported yet; None otherwise."""
        return self._voice_activity.quiet_since

    def hear(self, audio: bytes) -> None:
        """Pass the caller's next audio to the VAD, before the media clock counts it; never waits."""
        # A machine's greeting must not be answered; silence in its place keeps the clock of the audio running.
        heard = bytes([g711.SILENCE_BYTE]) * len(audio) if self._ignores_voice else audio
        self._voice_activity.put(self._media.samples, heard)

    def fall_silent(self) -> None:
        """Stop talking and listening at once."""
        self._ignores_voice = True
        self._silence()

    def leave_message(self, text: str) -> None:
        """Say ``text``, which nobody can interrupt, and hang up with the outcome ``voicemail``."""
        self._ignores_voice = True
        self._silence(text)
        self._post(inputs.HangUp("voicemail"))

    def _silence(self, text: str = "") -> None:
        """Say ``text`` in place of what is being said; an empty one only ends that."""
        self._post(inputs.Say(text, interruptible=False, interrupt=True))

    def give_up(self, why: str, kind: str) -> None:
        """Record a failure, apologise to the caller, if anything can speak, and hang up."""
        self._ending.fail(why, kind)
        if self.backend.can_speak:
            # Not interruptible: the call ends with this sentence, and the caller must learn why.
            self._silence(self.agent.error_message)
        if not self._ending.outcome and self._failover.hand_over(self.agent):
            # A provider may have failed before all of them were open; the transfer must not wait for the others.
            # Ignored by a call that has begun.
            self._post(inputs.Ready())
        # Behind the apology in the inbox; the machine hangs up once that was played, or if the transfer fails.
        # Patient: a person can take over from an agent that has failed.
        self._post(inputs.HangUp("failed", patient=True))

    def close(self) -> list[dict[str, Any]]:
        """Enter what is still missing in the transcript, because the call is over; return its calls of tools."""
        # In the order of the transcript: the caller's last words, then what was heard of the agent's last reply.
        self.backend.user_turns.settle("the call is over")
        self.live_reply.freeze()
        return self._tools.close()

    # Its tasks --------------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Run the conversation from the first frame to the last word."""
        async with trio.open_nursery() as nursery:

            def start(name: str, part: Callable[..., Awaitable[None]], *arguments: object) -> None:
                nursery.start_soon(self._guard, name, part, *arguments)

            # Before the backend is open, so that the caller's first words are not lost; they wait in its queues.
            start("VAD", self._voice_activity.run)
            start("backend", self._talk, start)
            with self._tools.open(nursery):
                await self._loop(nursery)
                # Before the cancellation: the last words still go through after_transcribe into the transcript.
                await self.backend.user_turns.last()
            nursery.cancel_scope.cancel(reason="conversation over")

    async def _guard(self, name: str, part: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Run a part of the call; a provider's failure in it ends the call, not the server."""
        try:
            await part(*arguments)
        except* ProviderError as failures:
            # A group, because parts run nurseries of their own. Any other exception is a bug, which the call handles.
            self._give_up_part(name, next(leaves(failures)))

    def _give_up_part(self, name: str, failure: BaseException) -> None:
        self.give_up(f"{name}: {failure}", type(failure).__name__)

    async def _talk(self, start: StartPart) -> None:
        """Open the backend for the call's agent, and keep it open until the conversation is cancelled."""
        # First, because on_call_start may replace the providers that are opened next.
        agent = self.agent = await self._options.settled()
        self._services.emit_fact(self.backend.parts(agent))
        # Only now: on_call_start may have given the variables.
        for complaint in agent.unfilled():
            _log.warning("call %s: %s", self._call_id, complaint)
        async with self.backend.open(agent, start) as failure:
            # Before Ready, which begins the first text: the notice comes even before those that on_call_start asked
            # for.
            if failure is None and (notice := self._options.recorded.notice(agent)):
                self._post(notice)
            self._post(inputs.Ready())
            # Behind the input: whatever this lets others ask for comes after it.
            self._options.on_open()
            if failure is not None:
                self._give_up_part("engine", failure)
                await trio.sleep_forever()  # the apology needs the open backend
            # The served agent's, like the turn machine's policy: on_call_start cannot replace it.
            if isinstance(menu := self._options.agent.dtmf, Menu):
                start("menu", self._menu.run, menu, agent.greeting, agent.error_message)
            elif greeting := agent.greeting:
                self._post(inputs.Say(greeting))
            # Never returns, and that keeps the backend open until the conversation is cancelled.
            await self._limits.keep(agent.silence_timeout, agent.max_call_duration, self._post)

    async def _loop(self, nursery: trio.Nursery) -> None:
        agent = self._options.agent
        # The served agent, not that of on_call_start: the loop runs before that callback has returned.
        policy = agent.policy(reply=self._options.reply_timeout, takes_back=self._options.takes_back)
        machine = self.machine = TurnMachine(policy, detector=agent.turn_detector is not None)
        # The only await of the loop is the one for the next input, so its actions are carried out without interruption.
        while not machine.ended:
            event, at = await self._inbox.next(machine.deadline)
            fired = event if isinstance(event, Fired) else None
            for action in machine.step(None if isinstance(event, Fired) else event, at):
                self._perform(action, nursery)
            # After the actions, and after every input: whatever the machine has just decided,
            # tools must not start against it.
            self._tools.set_floor(free=machine.has_floor)
            # After step(): deadlines that were due before this edge have fired, so the edge has its place in the order.
            if fired is not None and not machine.ended:
                self._reporter.fired(fired, at)

    # The actions of the turn machine ----------------------------------------------------------------------------------
    def _perform(self, action: do.Action, nursery: trio.Nursery) -> None:
        """Carry out one action. It is a plain function, so that nothing happens between its steps."""
        match action:
            case do.StateChanged():
                self._reporter.state_is(action.user, action.agent)
                self._limits.state_is(action.user, action.agent)
            case do.EmitSpeechStarted():
                self.backend.on_voice_started()
                offset = action.onset - (self._media.start or 0.0)
                self._reporter.user_started(action.at, offset, action.confidence)
            case do.EmitSpeechEnded():
                offset = action.end - (self._media.start or 0.0)
                self._reporter.user_ended(action.at, offset, action.seconds, action.confidence)
            case do.CommitUser():
                self.backend.user_turns.commit(action)
            case do.DropUser():
                self.backend.drop_utterance()
            case do.ReviseUser():
                self.backend.user_turns.revise(action)
            case do.ResumeGoodbye():
                self._tools.resume()
            case do.DropGoodbye():
                self._tools.give_up()
            case do.Choose():
                self._menu.choose(action.keys)
            case do.AskForWords():
                self.backend.ask_for_words()
            case do.StartReply():
                self._start_reply(action, nursery)
            case do.OpenPlayout():
                self.live_reply.open()
            case do.ReportToken():
                self._reporter.token(action.at, self.live_reply.turn, *self.backend.names())
            case do.ReportAudio():
                self._reporter.audio(action.at, self.live_reply.turn, self.backend.audio_provider())
            case do.ReportAgentStarted():
                self.live_reply.sounds(action.at)
            case do.CutReply():
                self.live_reply.cut(action)
            case do.FinishReply():
                self.live_reply.finish(action)
            case do.AskDetector():
                # A model takes time: the task posts its verdict to the inbox.
                nursery.start_soon(
                    self._voice_activity.ask_detector, self._options.agent.turn_detector, action.generation
                )
            case do.FlushTranscripts():
                self._voice_activity.finish(self.backend.flush)
            case do.HangUpLeg():
                self._hang_up()
            case do.TransferLeg():
                # A request to the carrier takes time: the task posts its result to the inbox.
                nursery.start_soon(self._transfers.run, self.agent)
            # From here on the call drops inputs: nothing that parts report while they end can reopen it.
            case do.EndCall():
                self._ending.end(action.reason)

    def _start_reply(self, action: do.StartReply, nursery: trio.Nursery) -> None:
        self.live_reply.start(action, nursery, self.agent)
        # To words that came before the machine was found: cut before it has a sound.
        if self.live_reply.is_answer and self._ignores_voice:
            self._silence()
