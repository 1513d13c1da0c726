"""The playback ledger: what is sent when, and what counts as heard."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.abc import Word
from patter_trio.conversation.playback import (
    MARK_GRACE_S,
    SEND_AHEAD_S,
    Clear,
    Close,
    HeardSpeech,
    Mark,
    Media,
    Playback,
    PlayoutQueue,
)

SECOND = b"\x00" * 8000


class Carrier:
    """Plays what it gets, and sends marks back, with a delay each way; the other end of the ledger."""

    def __init__(self, delay: float = 0.0, *, echoes: bool = True) -> None:
        self.delay = delay
        self.echoes = echoes
        self.sent: list[tuple[float, object]] = []
        self.end = 0.0
        self.marks: list[tuple[float, str]] = []
        self.round_trips: list[float] = []
        """Of each clear, as the ledger reports them."""

    def take(self, item: object, now: float) -> None:
        self.sent.append((round(now, 6), item))
        if isinstance(item, Media):
            self.end = max(self.end, now + self.delay) + len(item.audio) / 8000
        elif isinstance(item, Mark) and self.echoes:
            self.marks.append((max(self.end, now + self.delay) + self.delay, item.name))
        elif isinstance(item, Clear):
            self.end = now + self.delay
            self.marks = [(min(at, now + 2 * self.delay), name) for at, name in self.marks]


def run(playback: Playback, carrier: Carrier, start: float, until: float) -> float:
    """Let ledger and carrier go on from ``start`` to ``until``."""
    now = start
    while True:
        item = playback.next_message(now)
        if not isinstance(item, float):
            carrier.take(item, now)
            continue
        due = min([now + item, *(at for at, _ in carrier.marks)])
        if due > until:
            return until
        now = max(now, due)
        for at, name in list(carrier.marks):
            if at <= now:
                carrier.marks.remove((at, name))
                if (round_trip := playback.reached(name, now)) is not None:
                    carrier.round_trips.append(round_trip)


def media_times(carrier: Carrier) -> list[tuple[float, int]]:
    return [(at, len(item.audio)) for at, item in carrier.sent if isinstance(item, Media)]


def playout_with(*sentences: tuple[str, float]) -> PlayoutQueue:
    playout = PlayoutQueue(1)
    for text, seconds in sentences:
        playout.put(b"\x00" * round(seconds * 8000), text)
    playout.end()
    return playout


def test_playout_sends_at_once_then_400_ms_ahead() -> None:
    """The first audio goes out at once, and the rest in 100 ms messages up to 400 ms ahead."""
    playback, carrier = Playback(), Carrier()
    playback.open(playout_with(("Hello.", 1.0)))
    run(playback, carrier, 2.0, 5.0)
    expected = [2.0, 2.0, 2.0, 2.0, 2.1, 2.2, 2.3, 2.4, 2.5, 2.6]
    assert media_times(carrier) == [(at, 800) for at in expected]


def test_marks_follow_200_ms_and_sentences() -> None:
    """A mark follows every 200 ms of audio and every sentence."""
    playback, carrier = Playback(), Carrier()
    playback.open(playout_with(("One.", 0.3), ("Two.", 0.5)))
    run(playback, carrier, 0.0, 5.0)
    kinds = [len(item.audio) // 800 if isinstance(item, Media) else "mark" for _, item in carrier.sent]
    assert kinds == [1, 1, "mark", 1, "mark", 1, 1, "mark", 1, 1, "mark", 1, "mark"]
    assert playback.drained
    assert playback.close() == HeardSpeech(0.8, "One. Two.")


def test_cut_sends_clear_and_swallows_the_rest() -> None:
    """A cut sends Clear before anything else, and the playout queue discards later audio."""
    playback, carrier = Playback(), Carrier()
    playout = playout_with(("One two three four five.", 5.0))
    playback.open(playout)
    run(playback, carrier, 0.0, 2.0)
    heard = playback.cut(2.0)
    sent = len(carrier.sent)
    playout.put(SECOND, "Too late.")
    run(playback, carrier, 2.0, 9.0)
    assert [type(item) for _, item in carrier.sent[sent:]] == [Clear, Mark]
    assert heard == HeardSpeech(2.0, "One two")
    assert carrier.round_trips == [0.0]


def test_marks_returned_by_clear_are_not_heard() -> None:
    """Marks that a Clear brings back do not count as heard audio."""
    playback, carrier = Playback(), Carrier(delay=0.05)
    playback.open(playout_with(("A long sentence that is cut.", 4.0)))
    run(playback, carrier, 0.0, 1.0)
    heard = playback.cut(1.0)
    run(playback, carrier, 1.0, 3.0)
    next_playout = PlayoutQueue(2)
    next_playout.put(SECOND, "Next.")
    playback.open(next_playout)
    run(playback, carrier, 3.0, 3.5)
    assert heard.seconds == pytest.approx(1.0, abs=0.1)
    assert playback.cut(3.5).seconds == pytest.approx(0.5, abs=0.1)


def test_stalled_carrier_gets_one_second_at_most() -> None:
    """A carrier that returns no marks gets no more than about a second of speech."""
    playback, carrier = Playback(), Carrier(echoes=False)
    playback.open(playout_with(("Long.", 30.0)))
    run(playback, carrier, 0.0, 1.9)
    assert sum(size for _, size in media_times(carrier)) <= 8000 + 800


def test_lost_marks_fall_back_to_the_clock() -> None:
    """When a carrier returns no marks, the playout counts as drained by the clock after the grace."""
    playback, carrier = Playback(), Carrier(echoes=False)
    playback.open(playout_with(("Short.", 0.5)))
    run(playback, carrier, 0.0, 0.5 + MARK_GRACE_S + 0.01)
    assert playback.drained
    assert playback.marks_lost


def test_a_lost_mark_is_covered_by_the_next() -> None:
    """The return of the last mark ends the playback even if the marks before it are lost."""
    playback = Playback()
    playback.open(playout_with(("One.", 0.2), ("Two.", 0.2)))
    marks = []
    while not isinstance(item := playback.next_message(0.0), float):
        if isinstance(item, Mark):
            marks.append(item.name)
    playback.reached(marks[-1], 0.5)
    assert playback.drained


def test_word_timings_beat_proportion() -> None:
    """Words with known times count as heard by their times and not in proportion to their letters."""
    playout = PlayoutQueue(1)
    playout.put(SECOND, "Aaaaaaaaaa b.", (Word("Aaaaaaaaaa", 0.0, 0.1), Word("b.", 0.1, 1.0)))
    playout.end()
    assert playout.heard(1600).text == "Aaaaaaaaaa"


def test_partial_sentence_is_heard_in_proportion() -> None:
    """Of a partly synthesised sentence, only as many words count as heard as the audio can hold."""
    playout = PlayoutQueue(1)
    playout.put(b"\x00" * 4000, "A sentence of which only the first half second has been synthesised so far.")
    assert playout.heard(4000).text == "A"


def test_partial_sentence_is_heard_by_word_timings() -> None:
    """Of a partly synthesised sentence, words with known times count as heard by those times."""
    playout = PlayoutQueue(1)
    playout.put(bytes(8000), "No, extraordinarily so.", (Word("No,", 0.0, 0.3),))
    assert playout.heard(2000).text == ""
    assert playout.heard(2400).text == "No,"
    assert playout.heard(8000).text == "No,"
    playout.put(bytes(8000), "", (Word("extraordinarily", -0.6, 0.2),))  # begun in the chunk before
    assert playout.heard(9500).text == "No,"
    assert playout.heard(9600).text == "No, extraordinarily"


def test_nothing_to_send_is_nothing_to_wait_for() -> None:
    """An empty ledger gives the writer an infinite wait."""
    assert Playback().next_message(0.0) == math.inf


def test_hanging_up_goes_before_waiting_audio() -> None:
    """A hang-up sends Close before audio that waits."""
    playback = Playback()
    playback.open(playout_with(("Hello.", 1.0)))
    playback.hang_up()
    assert playback.next_message(0.0) == Close()


@given(
    pieces=st.lists(st.tuples(st.integers(1, 5000), st.booleans()), min_size=1, max_size=12),
    delay=st.floats(0.0, 0.3),
    cut_at=st.floats(0.0, 4.0),
)
def test_heard_never_exceeds_what_the_carrier_played(
    pieces: list[tuple[int, bool]], delay: float, cut_at: float
) -> None:
    """Heard speech never exceeds what the carrier has played by more than the carrier's delay."""
    playout = PlayoutQueue(1)
    for index, (samples, begins) in enumerate(pieces):
        playout.put(b"\x00" * samples, f"Sentence {index}." if begins or not index else "")
    playout.end()
    playback, carrier = Playback(), Carrier(delay)
    playback.open(playout)
    run(playback, carrier, 0.0, cut_at)
    sent = sum(size for _, size in media_times(carrier))
    really = max(0.0, sent / 8000 - max(0.0, carrier.end - cut_at))
    heard = playback.cut(cut_at)
    assert heard.seconds <= min(sent / 8000, cut_at) + 1e-6
    # Echo delay makes us believe up to one way more was played than really was; marks bound it.
    assert heard.seconds <= really + delay + 1e-6
    assert sent / 8000 <= cut_at + SEND_AHEAD_S + 1e-6


@given(sizes=st.lists(st.integers(0, 3000), max_size=20))
def test_everything_put_is_sent_once_and_in_order(sizes: list[int]) -> None:
    """The ledger sends all audio exactly once and in order, whatever the sizes of the pieces."""
    playout = PlayoutQueue(1)
    audio = [bytes([index % 251]) * size for index, size in enumerate(sizes)]
    for index, piece in enumerate(audio):
        playout.put(piece, f"Sentence {index}.")
    playout.end()
    playback, carrier = Playback(), Carrier()
    playback.open(playout)
    run(playback, carrier, 0.0, 100.0)
    assert b"".join(item.audio for _, item in carrier.sent if isinstance(item, Media)) == b"".join(audio)


@given(start=st.floats(0.0, 1e5), size=st.integers(1, 799))
def test_playout_wait_always_advances_the_clock(start: float, size: int) -> None:
    """Each wait that the ledger asks for moves the clock, so the writer does not spin."""
    playout, now = PlayoutQueue(1), start
    playback = Playback()
    playout.put(b"\x00" * 4000, "A sentence.")
    playout.put(b"\x00" * size)
    playback.open(playout)
    while now < start + 4.0:
        item = playback.next_message(now)
        if isinstance(item, float):
            assert now + item > now
            now += item


def test_timed_sentence_played_whole_is_heard_whole() -> None:
    """A sentence with word times counts as heard whole at its last sample, and not one sample before."""
    for first in range(160, 8000, 160):
        playout, seconds = PlayoutQueue(1), (first + 2400) / 8000
        playout.put(b"\x00" * first, "One two three four.", (Word("One", 0.0, first / 8000),))
        rest = [(word, number * 0.1, number * 0.1 + 0.1) for number, word in enumerate(("two", "three", "four."))]
        playout.put(b"\x00" * 2400, words=tuple(Word(word, start, end) for word, start, end in rest))
        assert playout.heard(first + 2400) == HeardSpeech(seconds, "One two three four.")
        assert playout.heard(first + 2399) == HeardSpeech((first + 2399) / 8000, "One two three")


def test_playout_queue_without_text_has_no_words() -> None:
    """Audio that arrives before its text counts as heard without words."""
    playout = PlayoutQueue(1)
    playout.put(b"\xff" * 800)
    assert playout.heard(400) == HeardSpeech(0.05, "")
