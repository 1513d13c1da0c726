"""The voice gate: hysteresis, minimum speech and hang-over, in windows of 32 ms."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.abc import VoiceEdge
from patter_trio.vad.voice_gate import GateRules, VoiceGate

WINDOW = 256
RULES = GateRules(threshold=0.5, min_speech=0.09, min_silence=0.25)  # 3 and 8 windows


def edges(probabilities: list[float], rules: GateRules = RULES) -> list[tuple[bool, int, int]]:
    """Return for each edge: speaking, its window, and the window that confirmed it."""
    gate = VoiceGate(WINDOW, rules)
    found = [(gate.step(probability), index) for index, probability in enumerate(probabilities)]
    return [(edge.speaking, edge.offset // WINDOW, index) for edge, index in found if edge]


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        pytest.param([0.0] * 50, [], id="silence has no edge"),
        pytest.param([0.0] * 5 + [0.9] * 2 + [0.0] * 20, [], id="a click is no voice"),
        pytest.param([0.0] * 5 + [0.9] * 3, [(True, 5, 7)],
         id="a voice began where it began, and is sure 3 windows on"),
        pytest.param([0.9, 0.4, 0.9], [(True, 0, 2)], id="wavering between the thresholds goes on"),
        pytest.param([0.4] * 9, [], id="wavering between the thresholds begins nothing"),
        pytest.param([0.9] * 5 + [0.1] * 8, [(True, 0, 2), (False, 5, 12)], id="the end is where the voice stopped"),
        pytest.param([0.9] * 5 + [0.1] * 7 + [0.9] * 5, [(True, 0, 2)], id="a short pause is bridged"),
        pytest.param([0.9] * 5 + [0.1] * 4 + [0.4] + [0.1] * 7, [(True, 0, 2)],
         id="any trace of voice restarts the hang-over"),
    ],
)  # fmt: skip
def test_edges(probabilities: list[float], expected: list[tuple[bool, int, int]]) -> None:
    """The gate finds each edge in its window, 3 windows after a voice begins and 8 windows after it ends."""
    assert edges(probabilities) == expected


def test_edge_confidence_is_highest_window_probability() -> None:
    """The confidence of an edge is the highest probability among its windows."""
    gate = VoiceGate(WINDOW, RULES)
    assert [gate.step(p) for p in (0.6, 0.9, 0.7)][-1] == VoiceEdge(speaking=True, offset=0, confidence=0.9)


@pytest.mark.parametrize(
    "options", [{"threshold": 0.0}, {"threshold": 1.0}, {"min_speech": -0.1}, {"min_silence": -1.0}]
)
def test_rules_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    """A threshold outside 0 to 1 or a negative duration raises ValueError that names the option."""
    with pytest.raises(ValueError, match=next(iter(options))):
        GateRules(**options)


@pytest.mark.parametrize("threshold", [0.001, 0.05, 0.15])
def test_voice_ends_at_any_threshold(threshold: float) -> None:
    """A voice ends in silence, however low the threshold is at which it begins."""
    rules = GateRules(threshold=threshold, min_speech=0.09, min_silence=0.25)
    assert edges([0.9] * 5 + [0.0] * 8, rules) == [(True, 0, 2), (False, 5, 12)]


probabilities_ = st.lists(
    st.one_of(st.sampled_from([0.0, 0.34, 0.35, 0.36, 0.5, 1.0]), st.floats(0.0, 1.0)), max_size=200
)
rules_ = st.builds(
    GateRules,
    threshold=st.floats(0.05, 0.95),
    min_speech=st.floats(0.0, 0.3),
    min_silence=st.floats(0.0, 0.6),
)


@given(probabilities_, rules_)
def test_edges_alternate_and_never_go_back_or_ahead(probabilities: list[float], rules: GateRules) -> None:
    """For any probabilities, edges alternate, are in order, and are never later than the window that confirms them."""
    found = edges(probabilities, rules)
    assert [speaking for speaking, _, _ in found] == [index % 2 == 0 for index in range(len(found))]
    assert all(earlier[1] <= later[1] for earlier, later in itertools.pairwise(found))
    assert all(where <= noticed for _, where, noticed in found)


@given(probabilities_, rules_)
def test_voice_and_silence_respect_their_minimums(probabilities: list[float], rules: GateRules) -> None:
    """No voice and no silence between two edges is shorter than its minimum duration."""
    for speaking, where, noticed in edges(probabilities, rules):
        needed = rules.min_speech if speaking else rules.min_silence
        windows = probabilities[where : noticed + 1]
        leaving = max(0.01, rules.threshold - 0.15)
        assert len(windows) * WINDOW >= round(needed * 8000)
        assert all((p >= leaving) is speaking for p in windows)
