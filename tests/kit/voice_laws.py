"""The laws of turn-taking for an engine whose words never reach the turn machine: a voice alone is an utterance."""

# ruff: noqa: N802 - handlers are named after the input or action that they handle.

from __future__ import annotations

import math

from patter_trio.conversation import actions, inputs
from patter_trio.conversation.machine import TurnMachine
from patter_trio.conversation.policy import TurnPolicy
from tests.kit.turn_laws import BY_CALLER, Laws


# With an engine there are no words to count, so voices are: each one that has ended is committed, dropped, or part of
# the utterance that goes on. What the laws of words demand of words, these demand of voices.
class VoiceLaws(Laws):
    """The record of one call whose words never reach the machine: the laws count voices."""

    def __init__(self, policy: TurnPolicy) -> None:
        super().__init__(policy)
        self.noticed = self.onset
        self.undecided = 0
        """Voices that have ended and are neither committed nor dropped."""
        self.remarks = True
        """Whether all of them were too short to interrupt an agent who was speaking."""
        self.taken_back = False
        """The newest answer was retracted: what was said next has to join its question."""
        self.owes_commit = False
        """A reply was cut because an utterance was over."""
        self.broken_off = -math.inf
        """When the newest voice was said to have ended, if that was at once."""
        self.lasts = False
        """The engine has ended a turn in mid-voice, and the voice has not ended since."""

    # What the machine wants ---------------------------------------------------------------------------------------
    def check(self, out: list[actions.Action], machine: TurnMachine) -> None:
        """Check the actions of a step, and that a deadline exists while a voice is undecided."""
        super().check(out, machine)
        # The VAD reports the end of a voice whose turn the engine had ended before: that is when it really ended.
        if isinstance(self.event, inputs.VoiceEnded) and self.lasts and not self.ended:
            assert self.voice_end >= min(self.event.end, self.now), "voice-once: it went on, and nobody noticed"
            self.lasts = False
        assert not self.owes_commit, "cut-for-voice: a reply was cut for an utterance that was not committed"
        if machine.deadline == float("inf") and not self.ended and self.ready:
            assert self.plays or not self.undecided, f"waker: a voice waits for ever: {machine!r}"

    def check_tick(self, at: float, machine: TurnMachine) -> None:
        """Check that no voice lasts for ever, and that an idle agent answers in time."""
        super().check_tick(at, machine)
        # The VAD may never report an end, for example in noise; a limit has to.
        assert not self.voice or self.ended or at < self.noticed + self.policy.max_wordless_voice, (
            f"stuck: no end of a voice: {machine!r}"
        )
        if self.undecided and not self.voice and self.live is None and self.ready and not self.leaving:
            # The longer of the two: a turn detector may hold an unfinished utterance open.
            patience = max(self.policy.endpoint, self.policy.hold)
            typed = self.key_at + self.policy.key_pause
            assert at < max(self.voice_end + patience, typed), f"answer-in-time: nobody speaks: {machine!r}"

    def check_rest(self, machine: TurnMachine) -> None:
        """Check that no voice is undecided after all inputs have ceased."""
        super().check_rest(machine)
        waits = self.undecided and (self.ready or self.ended) and not (self.ended and self.remarks)
        assert not waits, f"voice-once: undecided at rest: {machine!r}"

    def _may_interrupt(self) -> bool:
        """Return True if the caller hears the agent, so that a voice that is long enough cuts the reply."""
        live = self.live
        return self.states[1] == "speaking" and live is not None and live.interruptible and not self.leaving

    def _do_EmitSpeechStarted(self, action: actions.EmitSpeechStarted) -> None:
        super()._do_EmitSpeechStarted(action)
        self.lasts = self.lasts and not isinstance(self.event, inputs.VoiceStarted)
        self.noticed = action.at

    def _do_EmitSpeechEnded(self, action: actions.EmitSpeechEnded) -> None:
        self.lasts = self.lasts or (isinstance(self.event, inputs.FinalWords) and action.at > self.noticed)
        self.broken_off = action.at if action.end == action.at else -math.inf
        super()._do_EmitSpeechEnded(action)
        self.undecided += 1
        # All of them: one that was long enough to interrupt makes an utterance of them.
        # Of a caller who leaves, too, although nobody can interrupt any more.
        live = self.live
        over = isinstance(self.event, inputs.LegDown) and live is not None and live.started and live.interruptible
        self.remarks = self.remarks and (over or self._may_interrupt()) and action.seconds <= self.policy.overlap

    def _do_CommitUser(self, action: actions.CommitUser) -> None:
        assert action.spoken is bool(self.undecided), "voice-once: nothing was said since the last decision"
        assert action.spoken or action.typed, "voice-once: nothing was said or typed since the last decision"
        early = self.policy.early_trigger if self.sure else "vad_silence"
        assert action.trigger == ("manual_commit" if action.typed else early), "trigger: another ended the turn"
        silence = action.at - self.voice_end
        assert action.typed or action.trailing_silence == silence, "endpoint: another silence"
        # An answer that the caller did not hear leaves its question open, and what is said next belongs to it.
        assert self.leaving or action.replaces is self.taken_back, (
            "replaces: joins what was answered, or does not join what was not"
        )
        # A voice that goes on while keys are complete ends with them, as far as the machine is concerned.
        by_typing = action.typed and self.broken_off == action.at and not self.leaving
        self.lasts = self.lasts or (bool(by_typing) and not isinstance(self.event, inputs.VoiceEnded))
        super()._do_CommitUser(action)
        self.taken_back = self.owes_commit = False
        self._decided()

    def _do_StartReply(self, action: actions.StartReply) -> None:
        super()._do_StartReply(action)
        # An answer that a key for a menu has retracted is asked for once more.
        self.taken_back = self.taken_back and (action.text is not None or action.apology)

    def _do_DropUser(self, action: actions.DropUser) -> None:
        assert not self.voice, "drop: while the caller speaks"
        assert self.undecided, "voice-once: nothing was said since the last decision"
        assert self._may_interrupt(), f"drop: nobody was interrupted at {action.at}"
        assert self.remarks, "drop: more was said than a remark over the agent"
        patience = 0.0 if self.over else self.policy.fast_endpoint if self.sure else self.policy.endpoint
        assert action.at >= self.voice_end + patience, "endpoint: dropped too early"
        self.sure = self.over = self.hastened = False
        self._decided()

    def _do_ReviseUser(self, action: actions.ReviseUser) -> None:
        raise AssertionError(f"voice-only: {action} without words")

    def _do_AskForWords(self, action: actions.AskForWords) -> None:
        raise AssertionError(f"voice-only: {action} of an engine")

    def _decided(self) -> None:
        self.undecided, self.remarks = 0, True

    def _do_CutReply(self, action: actions.CutReply) -> None:
        super()._do_CutReply(action)
        if action.reason == "retracted":
            self.taken_back = True
        if action.reason in BY_CALLER and not isinstance(self.event, inputs.KeyPressed | inputs.TextTyped):
            # A retraction needs an utterance that is over; in mid-voice, only a barge-in may cut.
            assert action.reason == "barge-in" or not self.voice, "retract: before the utterance was over"
            assert not self.voice or action.at >= self.onset + self.policy.overlap, "barge-in: by a cough"
            self.owes_commit = not self.voice

    def _do_EndCall(self, action: actions.EndCall) -> None:
        assert not self.undecided or self.remarks, "voice-once: lost with the end of the call"
        super()._do_EndCall(action)
