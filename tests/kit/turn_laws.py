"""The laws of turn-taking, checked from outside: from the inputs of a turn machine and its actions, one by one."""

# ruff: noqa: N802 - handlers are named after the input or action that they handle.

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from patter_trio.conversation import actions, inputs
from patter_trio.conversation.machine import TurnMachine
from patter_trio.conversation.policy import TurnPolicy

# The laws are a second account of turn-taking, kept only from what goes into the machine and what comes out of it. They
# never read its tables or its fields, except the public state, ``ended`` and ``deadline``: a law that looked inside
# would repeat the machine's mistakes. They do not say what must happen next, only what must never happen, so they hold
# for any sequence of inputs, and random tests need no expected results.
#
# Each law has a name, which begins its message; tests/conversation/test_turn_properties.py says what each demands.

# The reasons of a cut that are the caller's doing; all others are the agent's or the call's.
BY_CALLER = {"barge-in", "retracted"}


class Fate:
    """The state of a reply, as the laws know it."""

    def __init__(self, start: actions.StartReply, *, interruptible: bool) -> None:
        self.start = start
        self.is_say = start.text is not None
        self.interruptible = interruptible
        self.opened = self.started = self.over = False
        # In the order of a reply's life: opened, on the wire, started, produced, drained, over.
        self.on_wire = self.produced = self.closes = False
        self.drained = False


class Laws:
    """The record of one call; a broken law raises AssertionError that begins with the law's name."""

    def __init__(self, policy: TurnPolicy) -> None:
        self.policy = policy
        self.now = -math.inf
        self.states = ("listening", "initializing")
        self.voice = False
        self.onset = self.voice_end = -math.inf
        self.fates: dict[int, Fate] = {}
        self.live: Fate | None = None
        self.turn = 0
        self.token_turns: set[int] = set()
        self.audio_turns: set[int] = set()
        self.history: list[str] = []
        self.finals: dict[int, str] = {}
        self.interims: dict[int, str] = {}
        # Segments whose interim words were committed: their final words are old news.
        self.promoted: set[int] = set()
        self.corrected: set[str] = set()
        """Words of committed interim results that are not in their final ones."""
        self.entry_of: dict[int, int] = {}
        """The position in the history of each turn's entry."""
        self.pending: set[str] = set()
        self.says: list[inputs.Say] = []
        self.said: list[str] = []
        self.ready = self.leaving = self.down = self.ended = False
        self.asked = self.taken = self.flushing = self.patient = False
        self.reasons: list[str] = []
        self.leave_at = math.inf
        self.apologies: set[int] = set()
        self.answer_owed = False
        self.generation = 0
        self.sure = self.over = self.hastened = False
        self.asked_for_words = False
        """True if the STT was asked for the words of the newest voice, so that it owes nothing afterwards."""
        self.goodbye = False
        """True while it is open whether a goodbye that was cut still ends the call."""
        self.gone_on: Fate | None = None
        self.event: inputs.Input | None = None
        self.keys = ""
        """The keys that were pressed and are not complete."""
        self.key_at = -math.inf
        """When the newest of them was pressed."""
        self.hold = 0.0
        """The seconds of hold of the transfer that was wanted first; 0: of a cold one."""
        self.has_left = False
        """True once the call was to end, or to be transferred."""
        self.chosen = ""
        """The keys for a menu that has not acted on them."""
        self.typed: list[str] = []
        """What was typed, and is not committed."""

    # Inputs of the machine ---------------------------------------------------------------------------------------
    def heard(self, event: inputs.Input, at: float) -> None:
        """Record an input, before the machine takes it."""
        self.now, self.event = at, event
        self.has_left = self.has_left or isinstance(event, inputs.HangUp | inputs.Transfer | inputs.LegDown)
        self.gone_on = None
        name = f"_in_{type(event).__name__}"
        # After the end, no input may have an effect; and most inputs change nothing that a law needs.
        if not self.ended and hasattr(self, name):
            getattr(self, name)(event)

    @property
    def plays(self) -> bool:
        """Whether the playback ledger owes the end of what was sent, which it reports whatever becomes of the marks."""
        return self.live is not None and self.live.on_wire and not self.live.drained

    def is_stale(self, event: inputs.Input) -> bool:
        """Return True if the input comes from a reply that is not live."""
        # Inputs of a reply that was cut may arrive late; the machine must ignore them, and so do the laws.
        reply = getattr(event, "reply", None)
        return reply is not None and (self.live is None or self.live.start.reply != reply)

    def _in_Ready(self, event: inputs.Ready) -> None:
        self.leave_at = self.now if self.patient else self.leave_at
        self.ready, self.patient = True, False

    def _go_on(self, event: inputs.InterimWords | inputs.FinalWords) -> None:
        """Record the reply that these words must retract, because the caller has not heard it."""
        live = self.live
        if event.text and event.segment not in self.promoted and live and live.interruptible and not self.leaving:
            self.gone_on = None if live.started or live.is_say or (live.on_wire and live.opened) else live

    def _judged(self, event: inputs.InterimWords | inputs.FinalWords) -> None:
        if event.finished is not None:
            self.sure = event.finished
            self.over = event.finished and (self.over or isinstance(event, inputs.FinalWords))
            self.hastened = event.finished

    def _in_InterimWords(self, event: inputs.InterimWords) -> None:
        self._judged(event)
        self._go_on(event)
        if event.segment not in self.finals and event.segment not in self.promoted:
            # The next interim result replaces the one before it. Random tests use each word once, so a set is enough.
            self.pending -= set(self.interims.get(event.segment, "").split())
            self.interims[event.segment] = event.text
            self.pending |= set(event.text.split())

    def _in_FinalWords(self, event: inputs.FinalWords) -> None:
        self._judged(event)
        self._go_on(event)
        self.finals[event.segment] = event.text
        if event.segment not in self.promoted:
            self.pending -= set(self.interims.pop(event.segment, "").split())
            self.pending |= set(event.text.split())
        # The final words of a segment that was committed early may add to it; only what is new is owed an answer.
        elif event.text:
            self.corrected |= set(self.interims[event.segment].split()) - set(event.text.split())
            self.pending |= set(event.text.split()) - set(" ".join(self.history).split())

    def _in_Verdict(self, event: inputs.Verdict) -> None:
        # A verdict on a silence that a new voice has ended is about the past.
        if event.generation == self.generation and not self.voice:
            self.sure = event.complete >= self.policy.complete_threshold

    def _in_OnWire(self, event: inputs.OnWire) -> None:
        if not self.is_stale(event) and self.live is not None and self.live.opened:
            # More audio is on its way, so an earlier report that all was played no longer holds.
            self.live.on_wire, self.live.drained = True, False

    def _in_Closing(self, event: inputs.Closing) -> None:
        if not self.is_stale(event) and self.live is not None:
            self.live.closes = True

    def _in_Produced(self, event: inputs.Produced) -> None:
        if not self.is_stale(event) and self.live is not None:
            self.live.produced = True

    def _in_Drained(self, event: inputs.Drained) -> None:
        if not self.is_stale(event) and self.live is not None:
            self.live.drained = True

    def _in_Say(self, event: inputs.Say) -> None:
        if (not self.leaving or self.patient) and not self.down:
            self.says.append(event)

    def _in_HangUp(self, event: inputs.HangUp) -> None:
        # A transfer that has not begun is overtaken by the end of the call; otherwise the first reason counts.
        if not self.ready:
            self.reasons = [reason for reason in self.reasons if reason != inputs.TRANSFERRED_REASON]
        self.leaving, self.patient = True, False
        self.leave_at = min(self.leave_at, self.now)
        if self.hold and self.asked and not self.taken and self.reasons[:1] == [inputs.TRANSFERRED_REASON]:
            # A caller on hold does not wait for the person's decision.
            self.reasons = self.reasons if self.flushing else [event.reason]
        elif not self.flushing:
            self.reasons.append(event.reason)

    def _in_Transfer(self, event: inputs.Transfer) -> None:
        if not self.leaving:
            self.reasons.append(inputs.TRANSFERRED_REASON)
            self.hold = event.hold
            self.patient = not self.ready
            self.leave_at = math.inf if self.patient else self.now
        self.leaving = True

    def _in_Joined(self, event: inputs.Joined) -> None:
        self.taken = True
        self._in_LegDown(inputs.LegDown(inputs.TRANSFERRED_REASON))

    def _in_TransferAccepted(self, event: inputs.TransferAccepted) -> None:
        self.taken = self.taken or self.asked

    def _in_TransferFailed(self, event: inputs.TransferFailed) -> None:
        # Only a transfer that was asked for and not accepted can fail; all else is a report that comes too late.
        if self.reasons[:1] != [inputs.TRANSFERRED_REASON] or not self.asked or self.taken:
            return
        if self.flushing:
            self.reasons = self.reasons[1:] or self.reasons
            return
        self.reasons = self.reasons[1:]
        self.leaving, self.asked = bool(self.reasons), False
        if self.leaving:
            return
        self.leave_at = math.inf
        self.says = [say for say in self.says if say.text in self.said]  # the rest was thrown away with the goodbye
        if event.text:
            self.says.append(inputs.Say(event.text))

    def _in_KeyPressed(self, event: inputs.KeyPressed) -> None:
        if self.now > self.key_at + self.policy.key_pause:
            self.keys = ""
        self.key_at = self.now
        if event.digit != self.policy.key_terminator or not self.keys:
            self.keys += event.digit
            if self.policy.keys_choose:
                self.chosen += event.digit
            else:
                self.typed.append(event.digit)
        if event.digit == self.policy.key_terminator:
            self.keys = ""

    def _in_TextTyped(self, event: inputs.TextTyped) -> None:
        self.typed.append(event.text)
        self.keys = self.keys if self.policy.keys_choose else ""

    def _in_LegDown(self, event: inputs.LegDown) -> None:
        self.leaving = self.down = True
        # The call itself may have the carrier connect the caller, without the machine.
        if not self.asked and event.reason != inputs.TRANSFERRED_REASON:
            self.reasons = [reason for reason in self.reasons if reason != inputs.TRANSFERRED_REASON]
        self.reasons.append(event.reason)

    # What the machine wants ---------------------------------------------------------------------------------------
    def check(self, out: list[actions.Action], machine: TurnMachine) -> None:
        """Check the actions of a step one by one, and the state after it."""
        for action in out:
            assert not self.ended, f"end-once: {action} after EndCall"
            # Deadlines fire at their own time, which is in the past when the loop is
            # late, and never later than the input.
            assert action.at <= self.now, f"time: {action} is in the future of {self.now}"
            getattr(self, f"_do_{type(action).__name__}")(action)
        assert (machine.user_state, machine.agent_state) == self.states, (
            "state-reported: a change of state was not reported"
        )
        assert machine.ended is self.ended, "end-once: ended without EndCall"
        assert self.gone_on is None or self.gone_on.over, "retract: words came, and the unheard reply lives on"
        # A machine that waits needs a deadline: an input that never comes must not hold a call for ever.
        if machine.deadline == math.inf and not self.ended and self.ready:
            waiting = self.live is not None or self.voice or self.pending or self.leaving
            assert self.plays or not waiting, f"waker: waits for ever: {machine!r}"

    def check_tick(self, at: float, machine: TurnMachine) -> None:
        """Check the state after all deadlines up to now have fired."""
        # All that was due has fired: a deadline that stays due would fire again and again in no time.
        assert machine.deadline > at, f"no-zeno: {machine!r} is still due at {at}"
        live = self.live
        assert live is None or at < self.leave_at + self.policy.goodbye, f"goodbye: no end of it: {machine!r}"
        if live is None or self.leaving or not live.interruptible or self.policy.min_words:
            return
        # Only what the caller can hear can be interrupted.
        if self.voice and self.states[1] == "speaking" and live.on_wire:
            assert at < self.onset + self.policy.overlap, f"barge-in: the agent talks on at {at}: {machine!r}"

    def check_rest(self, machine: TurnMachine) -> None:
        """Check that nothing is left to do after all inputs have ceased."""
        assert machine.deadline == math.inf, f"rest: no rest: {machine!r}"
        assert not any(self.typed) or not (self.ended or self.ready), f"typed-once: {self.typed} is lost: {machine!r}"
        assert not self.chosen or self.has_left, f"choose: {self.chosen!r} leads nowhere: {machine!r}"
        if self.ended:
            self._check_words(everything=True)
            return
        assert not self.leaving or self.patient, f"rest: the call does not end: {machine!r}"
        if self.ready:
            assert self.live is None, f"rest: a reply hangs: {machine!r}"
            assert not self.pending, f"rest: words nobody answered: {self.pending} {machine!r}"
            assert not self.answer_owed, f"rest: a committed utterance got no reply: {machine!r}"
            # Each text that was asked for is said once, in spite of barge-ins and cuts before it.
            assert Counter(self.said) == Counter(say.text for say in self.says), "rest: a text was not said"
            self._check_words(everything=True)

    def _check_words(self, *, everything: bool) -> None:
        # Without what was typed, which may repeat itself.
        words = [word for word in " ".join(self.history).split() if word[0].isalpha()]
        doubled = [word for word, count in Counter(words).items() if count > 1]
        assert not doubled, f"words-once: {doubled} in {self.history}"
        if everything:
            # By place: words of one utterance must stay in its order, also if they were entered in parts.
            places = {word: place for place, word in enumerate(words)}
            order: list[int] = []
            for segment, text in self.finals.items():
                own = [places.get(word, -1) for word in text.split()]
                assert -1 not in own, f"words-once: {text} is not all in {self.history}"
                assert own == sorted(own), f"words-order: {text} in {self.history}"
                # The words of a correction stand where the interim ones were.
                order += own if segment not in self.promoted else []
            assert order == sorted(order), f"words-order: {self.finals} in {self.history}"
            guessed = [self.interims[segment] for segment in self.promoted if not self.finals.get(segment)]
            assert all(word in places for text in guessed for word in text.split()), f"words-once: {guessed} is lost"
            assert not self.corrected & set(words), f"corrected: {self.corrected} in {self.history}"

    def _entered(self, text: str) -> None:
        words = set(text.split())
        self.pending -= words
        # A committed text that shares words with an interim result has used it.
        for segment, interim in self.interims.items():
            if set(interim.split()) & words and segment not in self.finals:
                self.promoted.add(segment)
        self._check_words(everything=False)

    def _do_StateChanged(self, action: actions.StateChanged) -> None:
        states = (action.user, action.agent)
        assert states != self.states, "state-reported: no change"
        self.states = states

    def _do_EmitSpeechStarted(self, action: actions.EmitSpeechStarted) -> None:
        assert not self.voice, "user-edges: started twice"
        assert self.states[0] == "speaking", "state-reported: started before the state"
        self.voice, self.onset = True, action.onset
        self.asked_for_words = False
        self.sure = self.over = self.hastened = False
        if isinstance(
            self.event, inputs.InterimWords | inputs.FinalWords
        ):  # words after a turn that was ended early began it
            self._judged(self.event)

    def _do_EmitSpeechEnded(self, action: actions.EmitSpeechEnded) -> None:
        assert self.voice, "user-edges: ended twice"
        assert self.states[0] != "speaking", "state-reported: ended before the state"
        assert action.seconds == action.end - self.onset >= 0, "user-edges: duration"
        self.voice, self.voice_end = False, action.end

    def _do_CommitUser(self, action: actions.CommitUser) -> None:
        assert not self.voice, "eos-after-end: committed while the caller speaks"
        assert action.turn == self.turn + 1, "turn-count: turns count by one"
        texts = self.policy.needs_words or bool(action.typed) or (action.replaces and bool(self.history[-1]))
        assert bool(action.text) is texts, "no-words-no-eos: empty utterance, or words out of nowhere"
        assert self.states[1] == "thinking", "state-reported: committed before the state"
        assert self.live is None, "one-reply: committed over a live reply"
        # What the machine may count on: an engine or STT that has ended the turn, a
        # detector that is sure, or the usual silence.
        patience = 0.0 if self.over else self.policy.fast_endpoint if self.sure else self.policy.endpoint
        if action.typed:
            # What was typed is over when it is complete.
            patience = 0.0
            self._take_typed(action)
        assert (action.trigger == "manual_commit") is bool(action.typed), "typed: another ended the turn"
        assert action.trigger in ("vad_silence", "manual_commit") or self.sure, "detector: it never said so"
        # Words may come long after the voice; then the silence has passed anyway.
        late = action.at - self.voice_end > self.policy.late_window or self.leaving
        assert late or action.at >= self.voice_end + patience, "endpoint: committed too early"
        assert action.trailing_silence >= patience or self.leaving, "endpoint: committed within the silence"
        if action.replaces:
            kept = set(self.history[-1].split()) - self.corrected
            assert kept <= set(action.text.split()), "one-entry: the older words are gone"
            self.history[-1] = action.text
        else:
            self.history.append(action.text)
        self.entry_of[action.turn] = len(self.history) - 1
        interim_wait = self.policy.endpoint if self.hastened else self.policy.interim_wait
        interim_wait = 0.0 if self.over else interim_wait
        self.turn, self.answer_owed = action.turn, not self.leaving
        self.sure = self.over = self.hastened = False
        promoted = len(self.promoted)
        self._entered(action.text)
        # A commit that used interim words has to have waited for the final ones.
        if len(self.promoted) > promoted:
            waited = action.trailing_silence >= interim_wait or action.typed
            assert waited or self.leaving or self.asked_for_words, "final-wait: an interim was used too early"

    def _take_typed(self, action: actions.CommitUser) -> None:
        """Take what was typed and is committed now; the oldest comes first, and none is left out."""
        text = action.typed.replace(" ", "")
        typed = "".join(self.typed)
        assert typed.startswith(text), f"typed-once: {action.typed!r} of {typed!r}"
        self.typed = [typed[len(text) :]]

    def _do_Choose(self, action: actions.Choose) -> None:
        assert self.policy.keys_choose, "choose: there is no menu"
        # Keys that were complete while the call was ending lead nowhere any more.
        place = self.chosen.find(action.keys)
        assert place == 0 or (place > 0 and self.has_left), f"choose: {action.keys!r} of {self.chosen!r}"
        self.chosen = self.chosen[place + len(action.keys) :]

    def _do_ReviseUser(self, action: actions.ReviseUser) -> None:
        place = self.entry_of[action.turn]
        assert action.text != self.history[place], "corrected: told without a change"
        self.history[place] = action.text
        self._entered(action.text)

    def _do_AskForWords(self, action: actions.AskForWords) -> None:
        assert self.voice, "ask: nobody speaks"
        assert action.at >= self.onset + self.policy.lull, "ask: too early"
        self.asked_for_words = True

    def _do_DropGoodbye(self, action: actions.DropGoodbye) -> None:
        assert self.goodbye, "goodbye: none was cut"
        self.goodbye = False

    def _do_ResumeGoodbye(self, action: actions.ResumeGoodbye) -> None:
        assert self.goodbye, "goodbye: none was cut"
        assert not self.voice, "goodbye: the caller speaks"
        self.goodbye = self.answer_owed = False

    def _do_StartReply(self, action: actions.StartReply) -> None:
        assert self.live is None, "one-reply: a second reply"
        assert action.reply == len(self.fates) + 1, "one-reply: numbers count from 1"
        assert action.turn == self.turn, "agent-edges: another turn's reply"
        # A goodbye that was queued before the hang-up is still spoken; answers are not.
        queued_before = action.text is not None and not action.apology and not self.down
        assert not self.leaving or queued_before, "leaving: a new reply"
        say = None
        if action.text is not None:
            self.said.append(action.text)
            say = next(say for say in self.says if say.text == action.text)
            assert action.digits == say.digits, "tones: other digits than were asked for"
        elif action.apology:
            assert action.turn not in self.apologies, "apology: twice in a turn"
            self.apologies.add(action.turn)
        else:
            assert self.answer_owed, "one-answer: an answer to nothing"
            self.answer_owed = False
        interruptible = (say is None or say.interruptible) and self.policy.overlap < math.inf
        self.live = self.fates[action.reply] = Fate(action, interruptible=interruptible)

    def _alive(self, action: Any) -> Fate:
        fate = self.fates[action.reply]
        assert not fate.over, f"dead-reply: {action} after its end"
        assert getattr(action, "turn", fate.start.turn) == fate.start.turn, "agent-edges: another turn"
        return fate

    def _do_OpenPlayout(self, action: actions.OpenPlayout) -> None:
        fate = self._alive(action)
        assert not fate.opened, "open-once: opened twice"
        may = not fate.interruptible or self.leaving
        assert may or not self.voice, "open-silent: opened over a speaking caller"
        fate.opened = True

    def _do_ReportToken(self, action: actions.ReportToken) -> None:
        self._alive(action)
        assert action.turn not in self.token_turns | self.audio_turns, "once-per-turn: token"
        self.token_turns.add(action.turn)

    def _do_ReportAudio(self, action: actions.ReportAudio) -> None:
        assert not self._alive(action).start.digits, "tones: they are no speech"
        assert not self._alive(action).started, "order: audio after speech started"
        assert action.turn not in self.audio_turns, "once-per-turn: audio"
        self.audio_turns.add(action.turn)

    def _do_ReportAgentStarted(self, action: actions.ReportAgentStarted) -> None:
        fate = self._alive(action)
        assert not fate.start.digits, "tones: they are no speech"
        assert fate.opened, "heard-if-open: heard with a closed playout queue"
        assert not fate.started, "agent-edges: started twice"
        assert action.turn in self.audio_turns, "order: speech started before audio"
        assert self.states[1] == "speaking", "state-reported: started before the state"
        fate.started = True

    def _ends(self, action: actions.CutReply | actions.FinishReply) -> Fate:
        fate = self._alive(action)
        assert action.started == fate.started, "agent-edges: ended but not started, or the reverse"
        assert self.states[1] != "speaking", "state-reported: ended before the state"
        fate.over, self.live = True, None
        return fate

    def _do_CutReply(self, action: actions.CutReply) -> None:
        fate = self._ends(action)
        assert action.opened == fate.opened, "open-once: the cut knows better"
        assert action.reason != "retracted" or not fate.started, "retract: it was heard"
        # Late words are no interruption: they may join a question whose answer cannot be interrupted, while it is
        # unheard.
        late = action.reason == "retracted" and isinstance(self.event, inputs.FinalWords)
        if action.reason in BY_CALLER:
            assert fate.interruptible or late, "uninterruptible: cut by the caller"
            assert not self.leaving, "uninterruptible: the goodbye was cut by the caller"
            assert fate.started or not fate.is_say, "say: thrown away unheard"
        # The question of a reply that nobody heard is still open.
        if action.reason == "retracted":
            self.answer_owed = True
        if fate.closes and self.policy.needs_words:
            self.goodbye = action.reason in {"barge-in", "say", "failed"}

    def _do_FinishReply(self, action: actions.FinishReply) -> None:
        fate = self._ends(action)
        assert fate.produced, "finish: before all was produced"
        assert not fate.on_wire or fate.drained, "finish: before all was played"

    def _do_AskDetector(self, action: actions.AskDetector) -> None:
        assert not self.voice, "detector: asked while the caller speaks"
        self.generation, self.sure = action.generation, self.hastened

    def _do_FlushTranscripts(self, action: actions.FlushTranscripts) -> None:
        assert self.live is None, "end-once: a reply outlives the leg"
        self.leaving = self.flushing = True
        self.keys = ""

    def _do_HangUpLeg(self, action: actions.HangUpLeg) -> None:
        assert self.live is None, "leaving: hung up over a reply"
        self.leaving = True

    def _do_TransferLeg(self, action: actions.TransferLeg) -> None:
        assert self.live is None, "leaving: handed over in the middle of a reply"
        assert self.reasons[0] == inputs.TRANSFERRED_REASON, "leaving: handed over, and nobody wanted it"
        assert not self.asked, "leaving: handed over twice"
        self.asked = True

    def _do_EndCall(self, action: actions.EndCall) -> None:
        assert action.reason == self.reasons[0], "end-once: the first reason counts"
        self.ended = True
