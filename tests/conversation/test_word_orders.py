"""Every order of voice and words, with any difference between interim and final words: no word is lost or doubled.

S: a voice starts; E: it ends; I: interim words come; T: the final words come. An answer is heard early, late or never
while the words come.
"""

# ruff: noqa: RUF001 (other scripts have their own punctuation)

import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.conversation import actions as do
from patter_trio.conversation import inputs
from patter_trio.conversation.machine import TurnMachine
from patter_trio.conversation.policy import TurnPolicy
from patter_trio.conversation.wording import same_words

FORMS = {
    "same": ("alpha one", "alpha one"),
    "longer": ("alpha one", "alpha one bravo"),
    "capitals": ("alpha one", "Alpha one."),
    "punctuated": ("alpha one", "Alpha one, bravo."),
    "numeral": ("alpha one", "Alpha 1."),
    "numeral and more": ("alpha one", "Alpha 1, bravo two."),
    "misheard": ("elf on", "alpha one"),
    "misheard and more": ("elf on", "alpha one bravo"),
    "shorter": ("alpha one bravo", "alpha one"),
    "no spaces": ("我想取消", "我想取消，我的订单。"),
    "no interim": ("", "alpha one"),
}
"""Interim and final words of the first utterance."""
ORDERS = ("SEIT", "SIET", "SITE", "STE", "SET", "SIIET", "SEIIT", "SIEIT", "T", "IT", "SEISET", "SISETE", "SEIETSE")
GAPS = (0.02, 0.25, 0.6, 1.1, 2.3)
HEARD_AFTER = (0.3, 5.0, None)
"""Seconds from the begin of an answer until it is heard; None: never."""


@attrs.define
class Call:
    """A call that the machine steers; it keeps the user's entries, as the history does."""

    heard_after: float | None
    machine: TurnMachine = attrs.field(factory=lambda: TurnMachine(TurnPolicy()))
    entries: list[str] = attrs.field(factory=list)
    entry_of: dict[int, int] = attrs.field(factory=dict)
    answered: list[str] = attrs.field(factory=list)
    """The newest user entry at the begin of each answer."""
    due: list[tuple[float, inputs.Input]] = attrs.field(factory=list)
    now: float = 0.0

    def feed(self, event: inputs.Input | None, at: float) -> None:
        """Let the time pass until ``at``, and then an input happen."""
        while True:
            next_due = min((when for when, _ in self.due), default=at + 1)
            wake = min(self.machine.deadline, next_due)
            if wake >= at:
                break
            mine = [entry for entry in self.due if entry[0] == wake]
            self.due = [entry for entry in self.due if entry[0] != wake]
            for entry in mine or [(wake, None)]:
                self.take(self.machine.step(entry[1], wake), wake)
        self.now = at
        self.take(self.machine.step(event, at), at)

    def take(self, out: list[do.Action], at: float) -> None:
        for action in out:
            match action:
                case do.CommitUser():
                    if not action.replaces:
                        self.entries.append("")
                    self.entry_of[action.turn] = len(self.entries) - 1
                    self.entries[-1] = action.text
                case do.ReviseUser():
                    self.entries[self.entry_of[action.turn]] = action.text
                case do.StartReply():
                    self.answered.append(self.entries[-1])
                    if self.heard_after is not None:
                        heard = at + self.heard_after
                        self.due += [
                            (heard - 0.1, inputs.AudioArrived(action.reply)),
                            (heard, inputs.OnWire(action.reply)),
                            (heard + 0.01, inputs.Produced(action.reply)),
                            (heard + 1.0, inputs.Drained(action.reply)),
                        ]
                case _:
                    pass


def run(order: str, form: tuple[str, str], gap: float, heard_after: float | None) -> Call:
    """Run one call in which the events of ``order`` are ``gap`` seconds apart, and then a second utterance."""
    interim, final = form
    call = Call(heard_after)
    call.feed(inputs.Ready(), 0.0)
    at, said = 1.0, 0
    for letter in order:
        match letter:
            case "S":
                call.feed(inputs.VoiceStarted(at), at)
            case "E":
                call.feed(inputs.VoiceEnded(at), at)
            case "I" if interim:
                said += 1
                words = interim.split()
                text = interim if said > 1 or order.count("I") == 1 else " ".join(words[:-1]) or interim
                call.feed(inputs.InterimWords(text, 1), at)
            case "T":
                call.feed(inputs.FinalWords(final, 1), at)
            case _:
                pass
        at += gap
    call.feed(inputs.VoiceEnded(at), at)
    call.feed(None, at + 12.0)
    at += 12.0
    call.feed(inputs.VoiceStarted(at), at)
    call.feed(inputs.VoiceEnded(at + 1.0), at + 1.0)
    call.feed(inputs.FinalWords("the end", 2), at + 1.1)
    call.feed(None, at + 12.0)
    return call


def assert_whole(call: Call, final: str) -> None:
    """The entries are the final words of both utterances, in order, and each of them was answered."""
    assert same_words(" ".join(call.entries), f"{final} the end"), call.entries
    assert call.answered[-1].endswith("the end")
    assert len(call.entries) <= 4


@pytest.mark.parametrize("order", ORDERS)
def test_no_order_loses_or_doubles_words(order: str) -> None:
    """The final words are in the history once and in order, whatever the interim words and the pauses were."""
    for name, gap, heard_after in itertools.product(FORMS, GAPS, HEARD_AFTER):
        call = run(order, FORMS[name], gap, heard_after)
        try:
            assert_whole(call, FORMS[name][1])
        except AssertionError as error:
            raise AssertionError(f"{name}, gap {gap} s, heard after {heard_after} s: {error}") from error


WORDS = st.sampled_from(["alpha", "bravo", "one", "two", "25", "Charlie,", "delta."])
TEXT = st.lists(WORDS, min_size=1, max_size=5, unique=True).map(" ".join)


@given(
    order=st.sampled_from(ORDERS),
    interim=TEXT,
    final=TEXT,
    gap=st.sampled_from(GAPS),
    heard_after=st.sampled_from(HEARD_AFTER),
)
def test_any_final_words_are_kept(order: str, interim: str, final: str, gap: float, heard_after: float | None) -> None:
    """Whatever final words follow whatever interim words, exactly the final words are in the history."""
    assert_whole(run(order, (interim, final), gap, heard_after), final)
