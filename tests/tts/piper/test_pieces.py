"""The pieces of a reply for quick first audio, and the estimated times of its words."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.tts.piper._pieces import ends_sentence, first_pieces, later_pieces, word_times


@pytest.mark.parametrize(
    "pieces",
    [
        ("Yes, of course.",),
        ("We are open from noon,", "and the kitchen closes at ten."),
        ("We are open every day", "from five to eleven in the evening."),
        ("Internationalisation notwithstanding everything.",),
    ],
)
def test_long_first_sentence_is_cut_at_first_clause(pieces: tuple[str, ...]) -> None:
    """The splitter cuts a long first sentence at its first clause."""
    assert first_pieces(" ".join(pieces)) == pieces


sentences_ = st.lists(
    st.sampled_from(["we", "open,", "and", "from", "Saturday", "12:30;", "x", "evening."]), max_size=30
)


@given(sentences_)
def test_the_pieces_are_the_sentence(words: list[str]) -> None:
    """The pieces of any sentence, joined, are the sentence."""
    sentence = " ".join(words)
    assert " ".join(first_pieces(sentence)) == sentence
    assert " ".join(later_pieces(sentence)) == sentence


def test_long_later_sentence_is_cut_at_last_fit() -> None:
    """The splitter cuts a long later sentence at the last clause that fits."""
    clause = "we are open from noon to midnight,"
    assert later_pieces(" ".join([clause] * 4)) == (f"{clause} {clause}", f"{clause} {clause}")
    assert later_pieces("x" * 200) == ("x" * 200,)
    assert later_pieces("We are open, or not.") == ("We are open, or not.",)


@given(sentences_, st.floats(0, 1), st.floats(0.1, 10))
def test_piper_word_times_are_contiguous_and_fill_voice(words: list[str], start: float, seconds: float) -> None:
    """The word times follow each other without gaps and fill the duration of the voice."""
    times = list(word_times(" ".join(words), start, seconds))
    assert [word.text for word in times] == words
    assert all(word.start < word.end for word in times)
    assert all(earlier.end == pytest.approx(later.start) for earlier, later in itertools.pairwise(times))
    if times:
        assert (times[0].start, times[-1].end) == (pytest.approx(start), pytest.approx(start + seconds))


def test_a_digit_takes_longer_than_a_letter() -> None:
    """Four digits are estimated at more than twice the time of four letters."""
    letters, digits = word_times("abcd 1234", 0, 1)
    assert digits.end - digits.start > 2 * (letters.end - letters.start)


def test_quotes_after_punctuation_still_end_sentence() -> None:
    """A sentence ends with its punctuation mark, also when quotes follow it."""
    assert ends_sentence(["Hello,", 'he said "hi."'])
    assert not ends_sentence(["Hello,"])
    assert not ends_sentence([])
