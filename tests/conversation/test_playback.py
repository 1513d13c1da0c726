"""The playback ledger: what is sent when, and what counts as heard."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.abc import Word
from patter_trio.conversation.playback import (
    LOST_MARK_GRACE_S,
    MARK_GRACE_S,
    MARK_INTERVAL_SAMPLES,
    MAX_UNRETURNED_MARKS,
    SEND_AHEAD_S,
    Clear,
    Close,
    Mark,
    Media,
    Playback,
)
from patter_trio.conversation.playout import MESSAGE_SAMPLES, MIN_MESSAGE_SAMPLES, HeardSpeech, PlayoutQueue

SECOND = b"\x00" * 8000


class Carrier:
    """Plays what it gets, and sends marks back, with a delay each way; the other end of the ledger.

    Within ``stall`` the network carries nothing, either way; everything arrives at its end.
    """

    def __init__(
        self, delay: float = 0.0, *, echoes: bool = True, stall: tuple[float, float] = (math.inf, math.inf)
    ) -> None:
        self.delay = delay
        self.echoes = echoes
        self.stall = stall
        self.sent: list[tuple[float, object]] = []
        self.end = 0.0
        self.marks: list[tuple[float, str]] = []
        self.round_trips: list[float] = []
        """Of each clear, as the ledger reports them."""
        self.heard: list[tuple[float, float]] = []

    def carried(self, at: float) -> float:
        begin, end = self.stall
        return end if begin <= at < end else at

    def take(self, item: object, now: float) -> None:
        self.sent.append((round(now, 6), item))
        arrives = self.carried(now + self.delay)
        if isinstance(item, Media):
            self.end = max(self.end, arrives) + len(item.audio) / 8000
            self.heard.append((self.end - len(item.audio) / 8000, self.end))
        elif isinstance(item, Mark) and self.echoes:
            self.marks.append((self.carried(max(self.end, arrives) + self.delay), item.name))
        elif isinstance(item, Clear):
            self.end = now + self.delay
            self.marks = [(min(at, now + 2 * self.delay), name) for at, name in self.marks]

    def played(self, now: float) -> float:
        """Seconds of audio that the caller has heard."""
        return sum(max(0.0, min(end, now) - begin) for begin, end in self.heard)


def run(playback: Playback, carrier: Carrier, start: float, until: float) -> float:
    """Let ledger and carrier go on from ``start`` to ``until``."""
    now = start
    while True:
        item = playback.next_message(now)
        if not isinstance(item, float):
            carrier.take(item, now)
            playback.sent()
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


@given(sizes=st.lists(st.integers(160, 3000), min_size=1, max_size=5))
def test_no_message_is_shorter_than_20_ms(sizes: list[int]) -> None:
    """However long the sentences of a reply are, each message has 20 to 100 ms, and all audio is sent."""
    playout = PlayoutQueue(1)
    for index, size in enumerate(sizes):
        playout.put(bytes(size), f"Sentence {index}.")
    playout.end()
    playback, carrier = Playback(), Carrier()
    playback.open(playout)
    run(playback, carrier, 0.0, 100.0)
    lengths = [length for _, length in media_times(carrier)]
    assert sum(lengths) == sum(sizes)
    assert all(MIN_MESSAGE_SAMPLES <= length <= MESSAGE_SAMPLES for length in lengths)


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
    """A carrier that stops returning marks gets no more than about a second of speech before the grace is over."""
    playback, carrier = Playback(), Carrier(stall=(1.0, 100.0))
    playback.open(playout_with(("Long.", 30.0)))
    run(playback, carrier, 0.0, 1.0)
    before = sum(size for _, size in media_times(carrier))
    run(playback, carrier, 1.0, 3.4)
    assert sum(size for _, size in media_times(carrier)) <= 8000 + 8000 + 800
    assert before == 11_200


def test_lost_marks_fall_back_to_the_clock() -> None:
    """When a carrier returns no marks, the playout counts as drained by the clock after the grace."""
    playback, carrier = Playback(), Carrier(echoes=False)
    playback.open(playout_with(("Short.", 0.5)))
    run(playback, carrier, 0.0, 0.5 + MARK_GRACE_S + 0.01)
    assert playback.drained
    assert playback.marks_lost


def test_without_marks_the_clock_sends_the_rest() -> None:
    """A carrier that returns no marks and is alive hears a reply without a gap, and the clock says what it heard."""
    playback, carrier = Playback(), Carrier(echoes=False)
    playback.open(playout_with(("Long.", 30.0)))
    for frame in range(1590):
        run(playback, carrier, frame * 0.02, frame * 0.02 + 0.02)
        playback.alive(frame * 0.02 + 0.02)
        if 25 < frame < 1500:
            assert playback.played(frame * 0.02 + 0.02) == pytest.approx(160 * frame + 160, abs=1)
    assert playback.drained
    assert carrier.played(100.0) == pytest.approx(30.0)
    assert not any(begin > end + 1e-6 for (_, end), (begin, _) in pairwise(carrier.heard))


def test_network_that_ceases_costs_one_gap() -> None:
    """When nothing comes from the carrier any more, it hears the rest after one gap of 1.5 s."""
    playback, carrier = Playback(), Carrier()
    playback.open(playout_with(("Long.", 30.0)))
    run(playback, carrier, 0.0, 5.0)
    carrier.echoes = False
    run(playback, carrier, 5.0, 31.5 + LOST_MARK_GRACE_S + 0.01)
    assert playback.drained
    assert carrier.played(100.0) == pytest.approx(30.0)
    (gap,) = [begin - end for (_, end), (begin, _) in pairwise(carrier.heard) if begin > end + 1e-6]
    assert gap == pytest.approx(MARK_GRACE_S)


def test_unsent_message_is_not_heard() -> None:
    """Audio in a message that the writer is still sending does not count as heard, whatever the clock says."""
    playback = Playback()
    playback.open(playout_with(("Long.", 30.0)))
    assert isinstance(playback.next_message(0.0), Media)
    playback.sent()
    assert isinstance(playback.next_message(0.0), Media)
    assert playback.cut(5.0).seconds == 0.1


def test_marks_that_never_return_are_bounded() -> None:
    """The ledger remembers a bounded number of marks that the carrier does not return."""
    playback, carrier = Playback(), Carrier(echoes=False)
    playback.open(playout_with(("Long.", 600.0)))
    run(playback, carrier, 0.0, 700.0)
    assert playback.drained
    assert len(playback._marks) == MAX_UNRETURNED_MARKS


def test_old_mark_shows_where_a_late_carrier_is() -> None:
    """Marks from before a long stall return after it, and then it is known that little was heard meanwhile."""
    playback, carrier = Playback(), Carrier(stall=(2.0, 7.0))
    playback.open(playout_with(("Long.", 30.0)))
    run(playback, carrier, 0.0, 6.99)
    assert playback.marks_lost
    run(playback, carrier, 6.99, 7.01)
    assert not playback.marks_lost
    assert carrier.played(7.01) == pytest.approx(2.31)
    assert playback.cut(7.01).seconds == pytest.approx(2.21)  # up to the mark, and what can have been played since


@given(
    pieces=st.lists(st.integers(1, 40_000), min_size=1, max_size=8),
    delay=st.floats(0.0, 0.3),
    begin=st.floats(0.0, 5.0),
    lasts=st.floats(0.0, 12.0),
    cut_at=st.floats(0.0, 30.0),
)
def test_stalled_network_loses_no_speech_and_invents_none(
    pieces: list[int], delay: float, begin: float, lasts: float, cut_at: float
) -> None:
    """Whatever the stall, all of the reply is sent; what counts as heard was played, or is before the next mark."""
    samples = sum(pieces)
    playout = PlayoutQueue(1)
    for size in pieces:
        playout.put(bytes(size), "A sentence.")
    playout.end()
    playback, carrier = Playback(), Carrier(delay, stall=(begin, begin + lasts))
    playback.open(playout)
    run(playback, carrier, 0.0, cut_at)
    if not playback.marks_lost:
        # Nothing reports a stall before the next mark is late: until then the clock counts, up to that mark.
        unproved = (MARK_INTERVAL_SAMPLES + MESSAGE_SAMPLES) / 8000 if cut_at >= begin else 0.0
        assert playback.played(cut_at) / 8000 <= carrier.played(cut_at) + delay + unproved + 1e-6
    now = run(playback, carrier, cut_at, cut_at + 60.0)
    assert playback.drained
    assert playback.close().seconds == pytest.approx(samples / 8000)
    assert carrier.played(now) == pytest.approx(samples / 8000)


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


JAPANESE = "本日は午前九時から午後五時まで営業しております。"
UNSPACED = [
    JAPANESE,
    "我们今天上午九点到下午五点营业。",
    "วันนี้เราเปิดให้บริการตั้งแต่เก้าโมงเช้าถึงห้าโมงเย็น",
    "ພວກເຮົາເປີດແຕ່ເກົ້າໂມງເຊົ້າ",
]


@pytest.mark.parametrize("text", UNSPACED)
@pytest.mark.parametrize("eighths", range(9))
def test_unspaced_text_is_heard_in_proportion(text: str, eighths: int) -> None:
    """Without word times, as much of a text without spaces counts as heard as of its sound was played."""
    playout = playout_with((text, 4.0))
    heard = playout.heard(eighths * 4000).text
    assert text.startswith(heard)
    assert len(text) * eighths / 8 - 4 <= len(heard) <= len(text) * eighths / 8


@pytest.mark.parametrize("size", [1, 3, 5, 24])
def test_unspaced_text_is_heard_by_word_times(size: int) -> None:
    """Timed words of a text without spaces count by their own letters, however many the vendor times at once."""
    each = 4.0 / len(JAPANESE)
    words = tuple(
        Word(JAPANESE[begin : begin + size], begin * each, min(begin + size, len(JAPANESE)) * each)
        for begin in range(0, len(JAPANESE), size)
    )
    playout = PlayoutQueue(1)
    playout.put(bytes(32_000), JAPANESE, words)
    playout.end()
    assert playout.heard(24_000).text == JAPANESE[:18] if size < len(JAPANESE) else JAPANESE[:17]


def test_growing_unspaced_sentence_counts_syllables() -> None:
    """While more audio of a sentence may come, a character of Japanese takes the time of three letters."""
    playout = PlayoutQueue(1)
    playout.put(SECOND, JAPANESE)
    assert playout.heard(8000).text == JAPANESE[:5]


def test_times_of_other_words_do_not_count() -> None:
    """Times of words that are not in a text without spaces are ignored; with spaces, the n-th word is the n-th."""
    playout = PlayoutQueue(1)
    playout.put(SECOND, "三時です", (Word("san", 0.0, 0.1), Word("ji", 0.1, 0.2), Word("desu", 0.2, 0.3)))
    playout.put(SECOND, "It is 3 o'clock", (Word("it", 0.0, 0.2), Word("is", 0.2, 0.4), Word("three", 0.4, 0.7)))
    playout.end()
    assert playout.heard(4000).text == "三時"
    assert playout.heard(8000 + 5000).text == "三時です It is"
    assert playout.heard(8000 + 5600).text == "三時です It is 3"


def test_two_words_with_one_time_are_both_heard() -> None:
    """A time that covers two words, or a word in two parts, counts by letters."""
    playout = PlayoutQueue(1)
    words = (Word("To be", 0.0, 0.5), Word("extraordi", 0.5, 0.7), Word("narily", 0.7, 0.9), Word("so.", 0.9, 1.0))
    playout.put(SECOND, "To be extraordinarily so.", words)
    playout.end()
    assert [playout.heard(round(at * 8000)).text for at in (0.5, 0.7, 0.9)] == [
        "To be",
        "To be",
        "To be extraordinarily",
    ]


def test_rest_without_times_is_spread_evenly() -> None:
    """Words behind the last timed one share the rest of the sound."""
    playout = PlayoutQueue(1)
    playout.put(SECOND, "One two three four", (Word("One", 0.0, 0.4),))
    playout.end()
    assert playout.heard(round(0.4 * 8000)).text == "One"
    assert playout.heard(round(0.58 * 8000)).text == "One two"
    assert playout.heard(7999).text == "One two three"


@pytest.mark.parametrize(
    ("sentences", "expected"),
    [
        (("かしこまりました。", "少々お待ちください。"), "かしこまりました。少々お待ちください。"),
        (("สวัสดีค่ะ", "ยินดีค่ะ"), "สวัสดีค่ะยินดีค่ะ"),
        (("안녕하세요.", "네."), "안녕하세요. 네."),
        (("One.", "Two."), "One. Two."),
    ],
)
def test_sentences_are_joined_by_their_script(sentences: tuple[str, str], expected: str) -> None:
    """Sentences whose gap is unknown are joined without a space in scripts that have none between words."""
    playout = playout_with(*((sentence, 1.0) for sentence in sentences))
    assert playout.heard(16_000).text == expected


@given(
    text=st.text("ab ,.本日は、。สวัดีเ3", min_size=1, max_size=40).map(lambda text: " ".join(text.split())),
    cuts=st.lists(st.floats(0.0, 1.0), max_size=8).map(sorted),
    respelled=st.booleans(),
    finished=st.booleans(),
)
def test_heard_text_only_grows(text: str, cuts: list[float], respelled: bool, finished: bool) -> None:
    """Whatever is timed, the heard text is a beginning of the sentence, and grows with the sound to all of it."""
    words = tuple(
        Word(
            f"x{number}" if respelled else text[round(begin * len(text)) : round(end * len(text))], begin, min(end, 1.0)
        )
        for number, (begin, end) in enumerate(pairwise([0.0, *cuts, 1.0]))
    )
    playout = PlayoutQueue(1)
    playout.put(SECOND, text, words if cuts else ())
    if finished:
        playout.end()
    heard = [playout.heard(samples).text for samples in range(0, 8001, 250)]
    assert all(text.startswith(one) for one in heard)
    assert [len(one) for one in heard] == sorted(len(one) for one in heard)
    assert not finished or heard[-1] == text


# A stream that is lost ------------------------------------------------------------------------------------------------
def sent_queue(*sentences: tuple[str, float], words: bool = False) -> PlayoutQueue:
    """Return a complete queue of which all was sent; each sentence has its seconds."""
    queue = PlayoutQueue(1)
    for text, seconds in sentences:
        parts = text.split()
        each = seconds / len(parts)
        timed = tuple(Word(part, place * each, (place + 1) * each) for place, part in enumerate(parts)) if words else ()
        queue.put(bytes(round(seconds * 8000)), text, timed)
    queue.end()
    while queue.waiting:
        queue.take()
    return queue


@pytest.mark.parametrize(
    ("heard", "goes_on"),
    [
        (0.0, 0.0),
        (1.5, 0.0),  # within the first sentence
        (2.0, 2.0),  # between the two
        (3.9, 2.0),
        (5.0, 5.0),  # all of it
    ],
)
def test_lost_reply_repeats_its_sentence(heard: float, goes_on: float) -> None:
    """A queue goes on with the sentence that was broken off, and repeats nothing that was complete."""
    queue = sent_queue(("One two.", 2.0), ("Three four five.", 3.0))
    queue.rewind(round(heard * 8000))
    assert (queue.sent_samples, queue.waiting) == (round(goes_on * 8000), round((5.0 - goes_on) * 8000))
    sent = 0
    while queue.waiting:
        audio, _ = queue.take()
        sent += len(audio)
    assert sent == round((5.0 - goes_on) * 8000)


@pytest.mark.parametrize(("words", "goes_on"), [(True, 8.0), (False, 8.7)])
def test_lost_long_sentence_repeats_a_word(words: bool, goes_on: float) -> None:
    """A sentence that began more than 5 s before goes on with its last word, or where it broke off without times."""
    queue = sent_queue(("a b c d e f g h i j", 10.0), words=words)
    queue.rewind(round(8.7 * 8000))
    assert queue.sent_samples == round(goes_on * 8000)


def test_lost_stream_counts_what_was_heard_before() -> None:
    """A reply that is cut before it goes on counts as heard up to the loss; its marks and clears are forgotten."""
    ledger, queue = Playback(), PlayoutQueue(1)
    queue.put(bytes(8000), "One two three four.")
    queue.end()
    ledger.open(queue)
    now = 0.0
    for _ in range(6):
        while not isinstance(ledger.next_message(now), float):
            ledger.sent()
        now += 0.1
    assert ledger.played_of_queue(now) == pytest.approx(0.2 * 8000, abs=1600)
    ledger.lose_stream(now)
    assert ledger.played_of_queue(now + 1.0) == 0
    heard = ledger.cut(now + 1.0)
    assert heard.seconds == pytest.approx(0.2, abs=0.2)
    ledger.begin_stream(now + 2.0)
    assert ledger.next_message(now + 2.0) == math.inf
