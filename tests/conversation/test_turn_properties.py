"""Random calls in an adversarial world, on the machine's public surface.

Carriers lose marks, providers stay silent or fail or produce nothing, STT providers send two finals, a final without a
voice, interims only, or nothing; voices never end; dead replies keep talking; the application speaks and hangs up, and
the line drops, at any time. In a quarter of the calls an engine hears for itself: no words come, and it ends turns in
mid-voice, twice, without a voice, late, or never. Times are multiples of 1/64 s, so that inputs often fall on a
deadline.

The laws, by the names that their failures begin with (``turn_laws.py``, but for the last four):

==================  ==================================================================================================
one-reply           at most one live reply; numbers count from 1 and are never reused
dead-reply,         nothing of a reply after its cut or finish; its playout queue opens at most once, and never over a
caller open-once/-silent   who is speaking and may interrupt it
user-edges,         edges alternate; agent edges carry the turn of their reply; turns count by one; token and audio once
agent-edges,        per turn, in order, after their commit
turn-count,
once-per-turn, order
waker               whatever waits has a deadline that wakes it
words-once/-order   every final word is in the history exactly once, in order; a promoted interim is not doubled
one-entry           the words of an unanswered entry stay when it is replaced
heard-if-open       nothing is heard, and so entered in the history, of a reply whose playout queue was closed
no-zeno             a fired deadline leaves a later one
end-once            EndCall exactly once, with the first reason, and nothing after it
uninterruptible     no caller cuts a reply that may not be, nor the goodbye
barge-in            nobody is talked over for longer than ``overlap``
apology, goodbye    one per turn; bounded
retract             words before a reply is heard take it back at once
detector            a verdict counts only for the voice that it was asked about
final-wait          an interim is used only when its final was waited for
endpoint,           a commit has words, a caller who is silent, and the silence that it takes; no eos before the end of
eos-after-end,      speech was reported
no-words-no-eos
one-answer          a committed utterance is answered once, unless its reply was taken back
finish              not before all was produced, and played or given up by the watchdog
state-reported      public states are reported when they change, before the event that they belong to
rest                when inputs cease, the call has ended or rests: no reply, no words, no text, no question left over
stale               what comes from a dead reply does nothing
never-raises        no input raises in any state
punctual            a replay without a single tick decides the same at the same instants
table               every state and trigger has a rule
------------------  --------------------------------------------------------------------------------------------------
                    where a voice alone is an utterance (``voice_laws.py``), in the place of those of words:
voice-once          every voice that ended is committed, joins a retracted question, is dropped or belongs to the end of
                    the call, once; so is what a voice says on after the engine has ended its turn
drop                only remarks are dropped: all of it was over a speaking agent, too short to interrupt; and only
                    while the agent speaks and may be interrupted
replaces            an utterance joins the last one exactly if nothing was heard of its answer
cut-for-voice,      an utterance that is over cuts a reply only to be committed; a voice that is not over cuts only
after barge-in            ``overlap``, and retracts nothing
trigger             the policy's name for one who was sure, else the silence
answer-in-time,     an agent who has nothing to do answers within the longest silence; no voice counts for longer than
stuck               ``max_wordless_voice``
voice-only          nothing is amended
==================  ==================================================================================================

Pauses and drafts are not part of the machine; laws about them have nothing to check.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from typing import Any

import attrs
import pytest

from patter_trio.conversation import actions, inputs
from patter_trio.conversation.machine import TurnMachine
from patter_trio.conversation.policy import TurnPolicy
from patter_trio.conversation.turn_state import AgentState, CallerState, Timer
from patter_trio.conversation.turn_table import AGENT, CALLER, Noticed
from tests.kit.depth import few
from tests.kit.turn_laws import Laws
from tests.kit.voice_laws import VoiceLaws

pytestmark = pytest.mark.no_coverage

CALLS = 20_000
CHUNKS = 16
GRID = 64

DYADIC = TurnPolicy(fast_endpoint=0.1875, flush=0.75)  # the others are multiples of 1/64 as they are
POLICIES = (
    DYADIC,
    attrs.evolve(DYADIC, away=4.0),
    attrs.evolve(DYADIC, overlap=math.inf, reply=3.0),
    attrs.evolve(DYADIC, min_words=2, late_window=1.0, reply=2.0, goodbye=3.0),
    attrs.evolve(DYADIC, max_wordless_voice=2.0, hold=1.0, goodbye=2.0, leg=1.0, away=1.0),
)
ENGINES: tuple[dict[str, Any], ...] = (
    {},
    {"max_wordless_voice": 4.0},
    {"endpoint": 3.0, "early_trigger": "vad_silence"},
    {"endpoint": 10.0, "early_trigger": "semantic_turn_detector", "max_wordless_voice": 60.0},
)
"""What is other where words never reach the machine; the last two end turns themselves."""


class World:
    """One random call: what the caller does is drawn beforehand, what the agent's side does follows its actions."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 (a seed repeats the call)
        self.policy = self.random.choice(POLICIES)
        self.detector = self.random.random() < 0.3
        self.judgement = random.Random(f"{seed} judges")  # noqa: S311 (of its own: older seeds keep their calls)
        self.judges = self.judgement.random() < 0.4
        self.engine = random.Random(f"{seed} engine")  # noqa: S311 (of its own, for the same reason)
        self.keying = random.Random(f"{seed} keys")  # noqa: S311 (of its own, for the same reason)
        if self.engine.random() < 0.25:
            self.policy = attrs.evolve(self.policy, needs_words=False, min_words=0, **self.engine.choice(ENGINES))
        if self.keying.random() < 0.2:
            self.policy = attrs.evolve(self.policy, keys_choose=True)
        self.machine = TurnMachine(self.policy, detector=self.detector)
        self.laws = Laws(self.policy) if self.policy.needs_words else VoiceLaws(self.policy)
        self.switching = random.Random(f"{seed} transfers")  # noqa: S311 (of its own, for the same reason)
        self.hold = 20.0 * (random.Random(f"{seed} warm").random() < 0.3)  # noqa: S311 (of its own, for the same reason)
        self.asking = random.Random(f"{seed} asking")  # noqa: S311 (of its own, for the same reason)
        self.agenda: list[tuple[float, int, inputs.Input]] = []
        self.count = itertools.count()
        self.log: list[tuple[float, inputs.Input]] = []
        self.done: list[actions.Action] = []
        self.words = itertools.count(1)
        self.segments = itertools.count(1)

    # The script ---------------------------------------------------------------------------------------------------
    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def span(self, low: float, high: float) -> float:
        return round(self.random.uniform(low, high) * GRID) / GRID

    def post(self, at: float, event: inputs.Input) -> None:
        heapq.heappush(self.agenda, (at, next(self.count), event))

    def some_words(self) -> str:
        return " ".join(f"w{next(self.words)}" for _ in range(self.random.randint(1, 3)))

    def write_script(self) -> None:
        now = self.span(0, 0.5)
        if not self.chance(0.02):
            self.post(now, inputs.Ready())
        if self.chance(0.4):
            self.post(self.span(0, 1), inputs.Say("greeting", interruptible=self.chance(0.7)))
        for _ in range(self.random.randint(1, 5)):
            now += self.span(0, 3) if self.chance(0.8) else self.span(0, 0.25)
            now = self.utter(now)
        for number in range(self.random.choice((0, 0, 0, 1, 2))):
            say = inputs.Say(f"say{number}", interruptible=self.chance(0.6), interrupt=self.chance(0.3))
            self.post(self.span(0, now + 2), say)
        for number in range(self.keying.choice((0, 0, 0, 1, 2))):
            say = inputs.Say(f"keys{number}", interruptible=False, digits=number + 1)
            self.post(round(self.keying.uniform(0, now + 2) * GRID) / GRID, say)
        if self.keying.random() < 0.3:
            self.press_keys(now)
        if self.chance(0.3):
            self.post(self.span(0, now + 4), inputs.HangUp("agent"))
        if self.chance(0.3):
            self.post(self.span(0, now + 8), inputs.LegDown("caller"))
        if self.switching.random() < 0.15:
            self.post(round(self.switching.uniform(0, now + 4) * GRID) / GRID, inputs.Transfer(hold=self.hold))
        if self.chance(0.05):
            self.post(self.span(0, now), self.random.choice((inputs.Flushed(), inputs.Ready(), inputs.HangUp("b"))))

    def press_keys(self, now: float) -> None:
        """Post keys, a few together, and texts that are typed."""
        at = self.keying.uniform(0, now + 1)
        for _ in range(self.keying.randint(1, 8)):
            at += self.keying.uniform(0, 0.5) if self.keying.random() < 0.8 else self.keying.uniform(1, 4)
            key = self.keying.choice("0123456789*#")
            event = inputs.KeyPressed(key) if self.keying.random() < 0.9 else inputs.TextTyped(f"{key}{key}")
            self.post(round(at * GRID) / GRID, event)

    def utter(self, now: float) -> float:
        """Post one utterance, or a cough, or words without a voice; return when it ends."""
        length = self.span(0.05, 0.4) if self.chance(0.3) else self.span(0.3, 2)
        lag = self.span(0, 0.3)
        if self.chance(0.9):
            self.post(now + lag, inputs.VoiceStarted(now))
            if self.chance(0.05):
                self.post(now + lag + self.span(0, 1), inputs.VoiceStarted(now + lag))
            if self.chance(0.97):
                self.post(now + length + max(lag, self.span(0, 0.4)), inputs.VoiceEnded(now + length))
        if not self.policy.needs_words:
            self.understand(now, now + length)
        elif self.chance(0.75):
            for _ in range(1 if self.chance(0.8) else 2):
                self.recognise(now, now + length)
        elif self.chance(0.3):
            self.post(now + length + self.span(0, 1.5), inputs.FinalWords("", next(self.segments)))
        return now + length

    def recognise(self, begin: float, end: float) -> None:
        segment, text = next(self.segments), self.some_words()
        at = self.span(begin, end)
        if self.chance(0.6):
            self.post(at, inputs.InterimWords(text, segment, self.finished()))
            text = self.random.choice((text, f"{text} {self.some_words()}", self.some_words()))
        if self.chance(0.85):
            late = self.span(0, 0.6) if self.chance(0.8) else self.span(0.5, 4)
            text = "" if self.chance(0.03) else text
            self.post(max(at, end + late - self.span(0, 1)), inputs.FinalWords(text, segment, self.finished()))

    def understand(self, begin: float, end: float) -> None:
        """An engine that ends turns does so in mid-voice, behind it, more than once, late, or not at all."""
        if self.policy.endpoint <= DYADIC.endpoint:
            return
        over = inputs.FinalWords("", finished=True)
        if self.engine.random() < 0.2:
            self.post(self.span(begin, end), over)
        if self.engine.random() < 0.8:
            self.post(end + (self.span(0, 0.75) if self.engine.random() < 0.8 else self.span(0.5, 4)), over)

    def finished(self) -> bool | None:
        """Return what an STT provider reports about the turn."""
        return self.judgement.choice((None, True, True, False)) if self.judges else None

    # The agent's side ---------------------------------------------------------------------------------------------
    def react(self, action: actions.Action, now: float) -> None:
        match action:
            case actions.StartReply(reply=reply):
                self.produce(reply, now)
            case actions.OpenPlayout(reply=reply):
                self.play(reply, now)
            case actions.AskForWords() if self.asking.random() < 0.8:
                more = f"m{next(self.words)}" if self.asking.random() < 0.3 else ""
                at = now + round(self.asking.uniform(0.02, 4) * GRID) / GRID
                self.post(at, inputs.FinalWords(more, next(self.segments)))
            case actions.ResumeGoodbye():
                self.post(now + 1 / GRID, inputs.HangUp("end_call"))
            case actions.CutReply(reply=reply) if self.chance(0.3):
                self.haunt(reply, now)
            case actions.AskDetector(generation=generation) if self.chance(0.8):
                self.post(now + self.span(0.02, 0.6), inputs.Verdict(generation, self.random.random()))
            case actions.HangUpLeg() if self.chance(0.7):
                self.post(now + self.span(0.02, 6), inputs.LegDown("hung up"))
            case actions.TransferLeg():
                self.switch(now)
            case actions.FlushTranscripts() if self.chance(0.6):
                self.post(now + self.span(0.02, 1), inputs.Flushed())

    def switch(self, now: float) -> None:
        """The carrier or a person takes the call, or not, or nothing is said; the caller may leave meanwhile."""
        at = now + round(self.switching.uniform(0.02, 5) * GRID) / GRID
        if self.hold and self.switching.random() < 0.5:
            self.post(at, inputs.Joined())
        elif self.hold or self.switching.random() < 0.5:
            text = f"switch{next(self.words)}" if self.switching.random() < 0.7 else ""
            self.post(at, inputs.TransferFailed(text))
        elif self.switching.random() < 0.7:
            self.post(at, inputs.TransferAccepted())
        if self.switching.random() < 0.5:
            self.post(now + round(self.switching.uniform(0.02, 6) * GRID) / GRID, inputs.LegDown("handed over"))
        if self.switching.random() < 0.2:
            self.post(now + round(self.switching.uniform(0.02, 6) * GRID) / GRID, inputs.HangUp("meanwhile"))
        if self.switching.random() < 0.2:
            self.post(at + 1, inputs.Transfer(hold=self.hold))

    def produce(self, reply: int, now: float) -> None:
        at = now + self.span(0.02, 1)
        if self.chance(0.06):
            self.post(at, inputs.ReplyFailed(reply, "down"))
        if self.asking.random() < 0.4:
            self.post(at, inputs.Closing(reply))
        if self.chance(0.1):
            self.post(at, inputs.Busy(reply, at + self.span(0, 20)))
        if self.chance(0.04):
            return
        if self.chance(0.9):
            self.post(at, inputs.TokenArrived(reply))
        if self.chance(0.9):
            self.post(max(now + 1 / GRID, at + self.span(-0.1, 0.5)), inputs.AudioArrived(reply))
        if self.chance(0.95):
            self.post(at + self.span(0.1, 2), inputs.Produced(reply))

    def play(self, reply: int, now: float) -> None:
        at = until = now + self.span(0.02, 0.1)
        for _ in range(self.random.randint(1, 3)):
            until = max(at, until) + self.span(0.1, 1.5)
            self.post(at, inputs.OnWire(reply))
            if self.chance(0.2):
                self.post(until, inputs.Drained(reply))
            at += self.span(0.1, 1.5)
        # As the writer does: the end of the playback is always reported, and once more if only then all was produced.
        self.post(max(at, until), inputs.Drained(reply))
        if self.chance(0.5):
            produced = max(at, until) + self.span(0, 0.5)
            self.post(produced, inputs.Produced(reply))
            self.post(produced + self.span(0, 0.1), inputs.Drained(reply))
        if self.chance(0.05):
            self.post(at, inputs.ReplyFailed(reply, "broke off"))

    def haunt(self, reply: int, now: float) -> None:
        kind: Any = self.random.choice((inputs.AudioArrived, inputs.Drained, inputs.Produced, inputs.TokenArrived))
        self.post(now + self.span(0.02, 1), kind(reply))

    # Running ------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        self.write_script()
        for _ in range(2000):
            at = self.agenda[0][0] if self.agenda else math.inf
            if self.machine.deadline < at:
                self.tick(self.machine.deadline)
            elif self.agenda:
                if self.chance(0.1) and self.laws.now < at:
                    self.tick((max(self.laws.now, 0) + at) / 2)
                self.feed(at, heapq.heappop(self.agenda)[2])
            else:
                break
        self.laws.check_rest(self.machine)

    def tick(self, at: float) -> None:
        self.laws.now = at
        self.take(self.machine.step(None, at), at)
        self.laws.check_tick(at, self.machine)

    def feed(self, at: float, event: inputs.Input) -> None:
        self.log.append((at, event))
        stale = self.laws.is_stale(event)
        self.laws.heard(event, at)
        out = self.machine.step(event, at)
        assert not (stale and any(action.at == at for action in out)), f"stale: {event} caused {out}"
        self.take(out, at)

    def take(self, out: list[actions.Action], at: float) -> None:
        self.laws.check(out, self.machine)
        self.done += out
        for action in out:
            self.react(action, at)

    def replay(self) -> list[actions.Action]:
        machine = TurnMachine(self.policy, detector=self.detector)
        out = [action for at, event in self.log for action in machine.step(event, at)]
        return out + machine.step(None, math.inf)


def run_call(seed: int) -> World:
    world = World(seed)
    world.run()
    assert world.replay() == world.done, "punctual: decisions depend on ticks"
    return world


@pytest.mark.parametrize("chunk", few(range(CHUNKS), 1))
def test_random_calls_keep_the_laws(chunk: int) -> None:
    """20,000 random calls (1,250 by default) break no law; a failure names the seed and shows the call."""
    for seed in range(chunk, CALLS, CHUNKS):
        world = World(seed)
        try:
            world.run()
            assert world.replay() == world.done, "punctual: decisions depend on ticks"
        except Exception as error:  # noqa: BLE001 (whatever breaks, show the call)
            history = "\n".join(f"  {at:8.4f} {event}" for at, event in world.log)
            pytest.fail(f"seed {seed}, {world.policy}\n{history}\n{world.machine!r}\n{type(error).__name__}: {error}")


def test_the_world_is_wild_enough() -> None:
    """The random calls cause every kind of action, so each law is put to the test."""
    kinds = {type(action).__name__ for seed in range(400) for action in run_call(seed).done}
    assert kinds == {kind.__name__ for kind in actions.Action.__args__}


def test_every_state_has_a_rule_for_every_trigger() -> None:
    """Each input, deadline and notice is in exactly one table, with a rule for every state of that side."""
    triggers = {*inputs.Input.__args__, *Timer, *Noticed}
    assert set(CALLER) | set(AGENT) == triggers
    assert not set(CALLER) & set(AGENT)
    for table, states in ((CALLER, CallerState), (AGENT, AgentState)):
        for trigger, row in table.items():
            assert list(row) == list(states), trigger
            assert all(rule.__doc__ for rule in row.values())


def test_no_input_raises_in_any_state(deep: bool) -> None:
    """The machine takes every kind of input in every state of a random call and goes on."""
    for seed in range(300 if deep else 10):
        world = run_call(seed)
        for stop in range(0, len(world.log), 3):
            for event in every_input(world.machine.reply or 1):
                machine = TurnMachine(world.policy, detector=world.detector)
                for at, earlier in world.log[:stop]:
                    machine.step(earlier, at)
                now = world.log[stop][0]
                machine.step(event, now)
                machine.step(None, now + 1)
                assert repr(machine).startswith("<TurnMachine")


def every_input(reply: int) -> list[inputs.Input]:
    values: dict[str, Any] = {
        "reply": reply, "until": 1.0, "text": "x", "segment": 1, "error": "e", "reason": "r", "onset": 0.0, "end": 0.0,
        "generation": 1, "complete": 0.5, "digit": "1",
    }  # fmt: skip
    kinds = inputs.Input.__args__
    return [kind(**{f.name: values[f.name] for f in attrs.fields(kind) if f.name in values}) for kind in kinds]
