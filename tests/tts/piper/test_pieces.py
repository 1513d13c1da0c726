"""The pieces of a reply for quick first audio, and the estimated times of its words."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.tts.piper._pieces import (
    MAX_PIECE_CHARACTERS,
    ends_sentence,
    first_pieces,
    later_pieces,
    parts_of,
    stretches,
    word_times,
)


@pytest.mark.parametrize(
    "pieces",
    [
        ("Yes, of course.",),
        ("We are open from noon,", "and the kitchen closes at ten."),
        ("We are open every day", "from five to eleven in the evening."),
        ("Internationalisation notwithstanding everything.",),
        ("hello hello hello hello hello hello hello", " ".join(["hello"] * 12)),
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
    assert later_pieces("we are here " * 30)[0] == "we are here " * 12 + "we are"
    joint = "we are there again " * 5
    assert later_pieces(f"{joint}and {joint}")[0] == joint.strip()
    assert later_pieces("We are open, or not.") == ("We are open, or not.",)


# Long words, words that are short in writing only, clauses and none.
LONG_TEXTS = st.lists(
    st.sampled_from(["hello", "we", "open,", "and", "x" * 200, "9" * 40, "1,234,567.89", "www.a-b.com"]), max_size=120
).map(" ".join)


def lengthened(written: str) -> str:
    """A spoken form: eight letters for a digit, and unchanged letters."""
    return "".join(" figures" if character.isdigit() else character for character in written).strip()


@given(LONG_TEXTS)
def test_only_a_single_word_exceeds_a_piece(sentence: str) -> None:
    """Every piece but a single long word has at most 150 characters, and the pieces, joined, are the sentence."""
    for pieces in (first_pieces(sentence), later_pieces(sentence)):
        assert " ".join(pieces) == sentence
        assert all(len(piece) <= MAX_PIECE_CHARACTERS or " " not in piece for piece in pieces)


@given(LONG_TEXTS)
def test_parts_are_bounded_as_they_are_spoken(sentence: str) -> None:
    """No part of any piece has more than 150 spoken characters, and no word is lost or doubled."""
    parts = [part for piece in later_pieces(sentence) for part in parts_of(piece, lengthened)]
    assert all(len(part.said) <= MAX_PIECE_CHARACTERS for part in parts)
    assert " ".join(part.text for part in parts if part.text) == sentence
    assert " ".join(part.words for part in parts if part.words) == sentence
    said = "".join(part.said for part in parts)
    assert "".join(said.split()) == "".join(lengthened(sentence).split())


def test_long_spoken_word_ends_with_last_part() -> None:
    """A number of 60 digits begins with its first part and ends with its last one."""
    parts = parts_of("9" * 60, lengthened)
    assert [(part.text, part.words) for part in parts] == [
        ("9" * 60, ""),
        *[("", "")] * (len(parts) - 2),
        ("", "9" * 60),
    ]
    assert len(parts) > 2


@given(st.text(alphabet="ab ", max_size=80), st.integers(1, 10))
def test_stretches_are_bounded_and_keep_the_text(text: str, limit: int) -> None:
    """The stretches of a text have at most ``limit`` characters, and lose nothing but spaces."""
    cut = list(stretches(text, limit))
    assert all(len(stretch) <= limit for stretch in cut)
    assert "".join("".join(cut).split()) == "".join(text.split())


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
