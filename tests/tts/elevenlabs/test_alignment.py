"""Words and sentences from the times of characters, for every chunking of the audio."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from patter_trio.abc import SpeechChunk
from patter_trio.tts.elevenlabs._alignment import SpokenText
from patter_trio.wire.elevenlabs import Character

EACH = 0.05
SAMPLES = 400  # of each character


def characters(text: str) -> list[Character]:
    return [Character(letter, n * EACH, (n + 1) * EACH) for n, letter in enumerate(text)]


def moved(given: list[Character], by: float) -> list[Character]:
    return [Character(c.text, c.start - by, c.end - by) for c in given]


def cut_up(text: str, sentences: list[str], cuts: list[int]) -> list[SpeechChunk]:
    spoken = SpokenText()
    for sentence in sentences:
        spoken.add(sentence)
    times, chunks = characters(text), []
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        chunks += spoken.chunks(bytes((end - begin) * SAMPLES), moved(times[begin:end], begin * EACH))
    assert spoken.complete
    assert not spoken.rest()
    return chunks


def positions(chunks: list[SpeechChunk]) -> tuple[list[tuple[str, float]], list[tuple[str, float, float]]]:
    """Return where each sentence begins and each word lies, in seconds since the beginning of the reply."""
    at, sentences, words = 0.0, [], []
    for chunk in chunks:
        if chunk.text:
            sentences.append((chunk.text, round(at, 3)))
        words += [(word.text, round(at + word.start, 3), round(at + word.end, 3)) for word in chunk.words]
        at += len(chunk.audio) / 8000
    return sentences, words


SENTENCES = ["Yes, we are.", "From nine to five.", "Bye!"]
TEXT = " ".join(SENTENCES) + " "


@given(st.lists(st.integers(1, len(TEXT) - 1), unique=True).map(sorted))
def test_any_audio_chunking_keeps_word_times(cuts: list[int]) -> None:
    """Every chunking of the audio yields the same words at the same times."""
    sentences, words = positions(cut_up(TEXT, SENTENCES, cuts))
    assert sentences[0] == ("Yes, we are.", 0.0)
    assert [text for text, _ in sentences] == SENTENCES
    expected, begin = [], 0
    for word in TEXT.split():
        begin = TEXT.index(word, begin)
        expected.append((word, round(begin * EACH, 3), round((begin + len(word)) * EACH, 3)))
        begin += len(word)
    assert words == expected


def test_chunk_across_sentences_is_cut_between_them() -> None:
    """SpokenText cuts a chunk between the end of one sentence and the start of the next."""
    chunks = cut_up("Yes. No. ", ["Yes.", "No."], [])
    assert [(chunk.text, len(chunk.audio)) for chunk in chunks] == [("Yes.", 5 * SAMPLES), ("No.", 4 * SAMPLES)]


def test_unspaced_sentences_keep_separate_words() -> None:
    """Two sentences without white space between them keep their words separate."""
    _, words = positions(cut_up("Yes.No.", ["Yes.", "No."], [4]))
    assert [word for word, _, _ in words] == ["Yes.", "No."]


def test_respelled_word_counts_as_given_word() -> None:
    """A word that ElevenLabs spells differently counts as the given word."""
    spoken = SpokenText()
    spoken.add("Tom & Eve")
    [chunk] = spoken.chunks(bytes(SAMPLES * 13), characters("Tom and Eve  "))
    assert [word.text for word in chunk.words] == ["Tom", "&", "Eve"]


@pytest.mark.parametrize("given", [None, []])
def test_chunk_without_alignment_carries_given_text(given: list[Character] | None) -> None:
    """The first chunk without alignment carries the whole given text."""
    spoken = SpokenText()
    spoken.add("One.")
    spoken.add("Two.")
    assert spoken.chunks(b"abc", given) == [SpeechChunk(b"abc", "One. Two.")]
    assert spoken.chunks(b"abc", given) == [SpeechChunk(b"abc")]


def test_times_that_go_backwards_double_nothing() -> None:
    """A sentence that claims to begin before the one before it gets no audio twice."""
    spoken = SpokenText()
    for sentence in ("One.", "Two.", "Three."):
        spoken.add(sentence)
    times = [Character("One.", 0.0, 0.01), Character("Two.", 0.03, 0.04), Character("Three.", 0.01, 0.02)]
    chunks = spoken.chunks(b"a" * 240 + b"b" * 160, times)
    assert [(chunk.text, chunk.audio) for chunk in chunks] == [
        ("One.", b"a" * 240),
        ("Two.", b""),
        ("Three.", b"b" * 160),
    ]


def test_sentences_without_words_are_not_spoken() -> None:
    """Empty sentences get no chunk, and no text of them is left over."""
    spoken = SpokenText()
    for sentence in ("One.", "", " ", "Two."):
        spoken.add(sentence)
    chunks = spoken.chunks(bytes(160), [Character("One.", 0.0, 0.01), Character("Two.", 0.01, 0.02)])
    assert [(chunk.text, len(chunk.audio)) for chunk in chunks] == [("One.", 80), ("Two.", 80)]
    assert spoken.rest() == ""


SECONDS = st.floats() | st.floats(-1, 9) | st.sampled_from([0.0, 1.0, -0.0, 1e-4])
"""Any number at all, and those that lie about a chunk's length."""
MADE = st.tuples(
    st.binary(max_size=400),
    st.none() | st.lists(st.builds(Character, st.text(max_size=2), SECONDS, SECONDS), max_size=20),
)


@given(st.lists(st.text(), max_size=4), st.lists(MADE, max_size=6))
@example(
    ["0", "0", ""],
    [(b"0", [Character("0", 0.0, 0.0), Character("0", 1.0, 0.0), Character("0", 0.0, 0.0)])],
)
@example(["0", "0"], [(b"00", [Character("0", math.nan, math.nan), Character("0", math.inf, -math.inf)])])
@example(["0", "0"], [(b"00", [Character("0", -1.0, math.inf), Character("0", -math.inf, math.nan)])])
def test_any_times_keep_audio_and_order(sentences: list[str], made: list[tuple[bytes, list[Character] | None]]) -> None:
    """For any times, no audio is lost or doubled, and the word times are finite and in order."""
    spoken = SpokenText()
    for sentence in sentences:
        spoken.add(sentence)
    at, begun = 0.0, -math.inf
    for audio, times in made:
        chunks = spoken.chunks(audio, times)
        assert b"".join(chunk.audio for chunk in chunks) == audio
        for chunk in chunks:
            for word in chunk.words:
                assert word.start <= word.end < math.inf
                assert at + word.start >= begun - 1e-9
                begun = at + word.start
            at += len(chunk.audio) / 8000
