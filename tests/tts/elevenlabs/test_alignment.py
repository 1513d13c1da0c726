"""Words and sentences from the times of characters, for every chunking of the audio."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from patter_trio.abc import SpeechChunk
from patter_trio.conversation.playout import PlayoutQueue
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


REPEATING = ["One moment please.", "I will check that for you.", "本日は午前九時から営業しております。"]


@given(cuts=st.lists(st.integers(1, 40), unique=True, min_size=1).map(sorted), repeated=st.integers(2, 30))
@example(cuts=[13], repeated=13)
def test_repeated_characters_are_not_counted(cuts: list[int], repeated: int) -> None:
    """Characters that a chunk repeats from the chunk before move no word and no sentence."""
    text = " ".join(REPEATING[:2])
    plain, again = SpokenText(), SpokenText()
    for sentence in REPEATING[:2]:
        plain.add(sentence)
        again.add(sentence)
    without, repeats = list[SpeechChunk](), list[SpeechChunk]()
    times = characters(text)
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        audio, mine = bytes((end - begin) * SAMPLES), moved(times[begin:end], begin * EACH)
        without += plain.chunks(audio, mine)
        before = text[max(0, begin - repeated) : begin]
        squeezed = [Character(letter, 0.0, 0.0) for letter in before if len(before.replace(" ", "")) > 1]
        repeats += again.chunks(audio, squeezed + mine)
    assert positions(repeats) == positions(without)


def test_repeated_beginning_moves_no_word() -> None:
    """A chunk that begins with the 13 characters of the one before times the words behind them rightly."""
    spoken = SpokenText()
    for sentence in REPEATING[:2]:
        spoken.add(sentence)
    first, second = "One moment pl", "ease. "
    chunks = spoken.chunks(bytes(4800), [Character(c, n * 0.045, (n + 1) * 0.045) for n, c in enumerate(first)])
    again = [Character(c, 0.0, 0.01) for c in first]
    rest = [Character(c, 0.01 + n * 0.06, 0.07 + n * 0.06) for n, c in enumerate(second)]
    chunks += spoken.chunks(bytes(3200), again + rest)
    chunks += spoken.chunks(bytes(10400), [Character(c, n * 0.05, (n + 1) * 0.05) for n, c in enumerate(REPEATING[1])])
    playout = PlayoutQueue(0)
    for chunk in chunks:
        playout.put(chunk.audio, chunk.text, chunk.words)
    assert [playout.heard(round(at * 8000)).text for at in (0.95, 1.35, 1.65)] == [
        "One moment please.",
        "One moment please. I will",
        "One moment please. I will check",
    ]


@pytest.mark.parametrize(
    "sentence",
    ["本日は午前九時から午後五時まで営業しております。", "您好，请问需要什么服务？", "สวัสดีค่ะ ยินดีให้บริการ", "ຍິນດີຕ້ອນຮັບ"],
)
def test_characters_without_spaces_are_words(sentence: str) -> None:
    """In a script without spaces, the part of a sentence that has sounded counts, character by character."""
    for seconds in range(len(sentence) + 1):
        spoken, playout = SpokenText(), PlayoutQueue(0)
        spoken.add(sentence)
        for chunk in spoken.chunks(bytes(len(sentence) * SAMPLES), characters(sentence)):
            playout.put(chunk.audio, chunk.text, chunk.words)
        heard = playout.heard(seconds * SAMPLES).text
        assert sentence.startswith(heard)
        assert seconds - 4 <= len(heard) <= seconds  # a character and the signs that belong to it
