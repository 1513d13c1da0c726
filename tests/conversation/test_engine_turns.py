"""An engine that understands speech by itself: words never reach the machine, so that a voice alone is an utterance."""

from __future__ import annotations

import attrs
from test_turn_scenarios import LAG, POLICY, Scene

from patter_trio.conversation import actions as do
from patter_trio.conversation.inputs import AudioArrived, Drained, OnWire, Produced, Say

VOICE = attrs.evolve(POLICY, words=False, stuck=60.0)
"""An engine that is told when a turn is over."""


class Talk(Scene):
    """A machine that is told nothing but voices."""

    def asks(self, text: str = "", segment: int = 0) -> Talk:
        """A turn from 1 to 2, committed at 2.5."""
        assert not text
        assert not segment
        self.voice(1.0, 2.0).until(2.5)
        return self


def kinds(scene: Scene, *wanted: type[do.Action]) -> list[tuple[str, float]]:
    """Return what was wanted of some kinds, and when."""
    return [(type(act).__name__, act.at) for act in scene.then() if isinstance(act, wanted)]


# What is dropped, and what is not -------------------------------------------------------------------------------------
def test_what_was_said_before_the_agent_was_heard_is_no_remark_over_it() -> None:
    """The greeting comes within the silence that ends the caller's sentence: the sentence waits, and is answered."""
    scene = Talk(VOICE).at(1.0, Say("Good evening.")).voice(1.25, 2.25).at(2.5, AudioArrived(1)).at(2.625, OnWire(1, 4))
    assert not kinds(scene.until(3.5), do.DropUser, do.CommitUser)
    assert kinds(scene.at(3.75, Produced(1)).at(4.0, Drained(1)), do.DropUser, do.CommitUser) == [("CommitUser", 4.0)]


def test_a_cough_over_the_agent_does_not_take_along_what_waits_for_an_answer() -> None:
    scene = Talk(VOICE).at(1.0, Say("Good evening.")).voice(1.25, 2.25).until(3.0)
    scene.at(3.25, AudioArrived(1)).at(3.5, OnWire(1, 6.0)).voice(4.0, 4.0 + LAG / 2).until(5.0)
    assert not kinds(scene, do.DropUser, do.CommitUser)
    assert kinds(scene.at(5.5, Produced(1)).at(6.0, Drained(1)), do.DropUser, do.CommitUser) == [("CommitUser", 6.0)]
