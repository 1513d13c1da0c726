"""The marks of all scripts, as each rule that looks at them sees them."""

# ruff: noqa: RUF001 - marks of other scripts are what the tests are about.

import pytest

from patter_trio import SentenceChunker, filter_emoji, filter_for_tts
from patter_trio.call.engine_guard import ENDS_SENTENCE
from patter_trio.conversation.farewells import is_farewell
from patter_trio.conversation.marks import GOING_ON

# A sentence of each script with its mark at the end.
SENTENCES = {
    "latin": "We are open.",
    "question": "Are you there?",
    "german-quote": "Er sagte: „Ja.“",
    "danish-quote": "Han sagde: »Ja.«",
    "french-quote": "Il a dit : « Oui. »",
    "single-quote": "She said: ‘Yes.’",
    "arabic": "هل أنت هنا؟",
    "urdu": "ہم کھلے ہیں۔",
    "armenian": "Մենք բաց ենք։",
    "ethiopic": "ክፍት ነን።",
    "ethiopic-question": "ክፍት ናችሁ፧",
    "hindi": "हम खुले हैं।",
    "hindi-verse": "हम खुले हैं॥",
    "greek": "Είστε ανοιχτά\u037e",
    "chinese": "我们开门。",
    "chinese-question": "你在吗？",
    "japanese": "「はい。」",
    "halfwidth": "ﾊｲ｡",
    "fullwidth": "Ｙｅｓ．",
    "burmese": "ဖွင့်ပါသည်။",
    "khmer": "យើងបើក។",
    "tibetan": "ང་ཚོ་སྒོ་ཕྱེ་ཡོད།",
    "interrobang": "Really\u2049",
}


@pytest.mark.parametrize("sentence", SENTENCES.values(), ids=SENTENCES.keys())
def test_line_that_ends_gets_no_stop(sentence: str) -> None:
    """A line with the mark of its script at its end gets no second one before the next line."""
    assert filter_for_tts(f"{sentence}\n{sentence}").replace(" ", "") == (sentence * 2).replace(" ", "")


@pytest.mark.parametrize("sentence", SENTENCES.values(), ids=SENTENCES.keys())
def test_engine_sentence_ends_in_each_script(sentence: str) -> None:
    """The guard of an engine's audio sees the end of a sentence in each script, and none within it."""
    assert ENDS_SENTENCE.search(sentence)
    assert not ENDS_SENTENCE.search(sentence.rstrip("".join(GOING_ON) + "\"'“‘«‹ "))


@pytest.mark.parametrize(
    "sentence",
    [text for name, text in SENTENCES.items() if not name.endswith("-quote")],
    ids=[name for name in SENTENCES if not name.endswith("-quote")],
)
def test_sentences_are_cut_in_each_script(sentence: str) -> None:
    """The chunker releases the first of two sentences as soon as the second begins."""
    gap = " " if sentence[-1] != "」" else ""
    assert SentenceChunker().push(f"{sentence}{gap}{sentence}"[: len(sentence) + 2]) == [sentence]


@pytest.mark.parametrize("mark", ["?", "？", "؟", "\u037e", "՞", "፧"])
def test_question_is_no_farewell(mark: str) -> None:
    """A farewell with the question mark of any script asks something."""
    assert is_farewell("Thank you!")
    assert not is_farewell(f"Thank you{mark}")


def test_emoji_before_marks_leaves_no_space() -> None:
    """An emoji before a mark is dropped with the space before it, in each script."""
    for mark in GOING_ON:
        assert filter_emoji(f"ہاں \U0001f600 {mark}") == f"ہاں{mark}"


def test_marks_that_begin_something_part_words() -> None:
    """A straight quote and a dash may begin something, so they do not belong to the word before them."""
    assert not set("\"'–—“„«(") & set(GOING_ON)
