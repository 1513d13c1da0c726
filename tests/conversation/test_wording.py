"""The words of transcripts: their number, and what differs between an interim and a final result."""

# ruff: noqa: RUF001 (other scripts have their own punctuation)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.conversation.wording import count_words, divided, same_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("please wait a moment", 4),
        ("don't – please!", 2),
        ("Straße's ok", 2),
        ("請等一下我想問別的事情", 6),
        ("好的", 1),
        ("嗯。", 1),
        ("等一下", 2),
        ("ちょっと待ってください", 5),
        ("はい", 1),
        ("うん、うん", 2),
        ("ขอโทษครับรอสักครู่", 4),
        ("ครับ", 1),
        ("ขอโทษ ครับ", 2),
        ("잠깐만 기다려 주세요", 3),
        ("OK好的 thanks", 3),
        ("...", 0),
        ("", 0),
    ],
)
def test_words_are_counted_in_every_script(text: str, words: int) -> None:
    """A short sentence has several words in any script, and a short remark has one."""
    assert count_words(text) == words


@pytest.mark.parametrize(
    ("one", "other", "language"),
    [
        ("i want to cancel", "I want to cancel.", "en"),
        ("well yes", "Well, yes!", "en"),
        ("i'd re book it", "I'd re-book it.", "en"),
        ("twenty five", "25.", "en"),
        ("call five five five one two three four", "Call 555 1234.", "en"),
        ("call 5 5 5", "Call 555", "en"),
        ("at five thirty pm", "At 5:30 p.m.", "en"),
        ("at five o'clock", "At 5:00.", "en"),
        ("it is twenty dollars", "It is $20.", "en"),
        ("three point five percent", "3.5%", "en"),
        ("one thousand two hundred", "1,200", "en"),
        ("a hundred and five", "105", "en"),
        ("fünfundzwanzig euro", "25 Euro.", "de"),
        ("zweihundert fünf", "205", "de-AT"),
        ("vingt et un", "21", "fr"),
        ("quatre vingt dix sept", "97", "fr"),
        ("treinta y cinco", "35", "es"),
        ("vinte e cinco", "25", "pt-BR"),
        ("ventotto", "28", "it"),
        ("vijfentwintig", "25", "nl"),
        ("二十五分", "25分。", "zh"),
        ("二十五番です", "２５番です。", "ja"),
        ("이십오 번", "25번", "ko"),
        ("привет", "Привет!", "ru"),
        ("on the twenty first of may", "On the 21st of May.", "en"),
        ("the third floor", "the 3rd floor", "en"),
        ("five pm", "5pm", "en"),
        ("555.123.4567", "5551234567", "en"),
        ("drei komma fünf", "3,5", "de"),
        ("σοφός", "Σοφός;", "el"),
        ("สวัสดี ครับ", "สวัสดีครับ", "th"),
    ],
)
def test_the_same_words_in_another_form(one: str, other: str, language: str) -> None:
    """Case, punctuation, spacing and the format of numbers make no difference."""
    assert same_words(one, other, language)
    assert same_words(other, one, language)
    assert divided(one, other, language) == (other, "")


@pytest.mark.parametrize(
    ("one", "other", "language"),
    [
        ("elf on", "alpha one", "en"),
        ("I want to cancel", "I want to cancel, my order.", "en"),
        ("twenty five", "52", "en"),
        ("25", "26", "en"),
        ("call Bob", "call 5551234", "en"),
        ("3.5", "35", "en"),
        ("fünfundzwanzig", "52", "de"),
        ("twenty five", "25", "fi"),
        ("他们", "她们", "zh"),
        ("ครับ", "ค่ะ", "th"),
        ("", "yes", "en"),
    ],
)
def test_other_words_are_not_the_same(one: str, other: str, language: str) -> None:
    """Another word, another number or an additional word is a difference."""
    assert not same_words(one, other, language)
    assert not same_words(other, one, language)


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [
        ("I want to cancel", "I want to cancel, my order.", ("I want to cancel,", "my order.")),
        ("elf on", "alpha one", ("alpha one", "")),
        ("elf on", "alpha one two three", ("alpha one", "two three")),
        ("b c", "a b c d", ("a b c", "d")),
        ("I have twenty five", "I have 25 apples.", ("I have 25", "apples.")),
        ("at five thirty", "At 5:30 tomorrow", ("At 5:30", "tomorrow")),
        ("我想取消", "我想取消，我的订单。", ("我想取消，", "我的订单。")),
        ("a b c", "a b", ("a b", "")),
        ("a b", "", ("", "")),
        ("", "a b", ("", "a b")),
    ],
)
def test_additional_words_are_divided_off(earlier: str, later: str, expected: tuple[str, str]) -> None:
    """What stands for the earlier words is corrected, and what was said behind them is additional."""
    assert divided(earlier, later) == expected


WORDS = st.lists(st.sampled_from(["yes", "no", "two", "2", "Tuesday", "好的", "ครับ"]), max_size=6)


@given(WORDS, WORDS)
def test_no_word_is_lost_between_the_parts(said: list[str], more: list[str]) -> None:
    """The two parts of a text are the whole text, and a continuation is divided where it begins."""
    whole = " ".join([*said, *more])
    first, rest = divided(" ".join(said), whole)
    assert "".join((first + rest).split()) == "".join(whole.split())
    if said and more and said[-1] != more[0]:
        assert (first, rest) == (" ".join(said), " ".join(more)) or "two" in said or "2" in said


@pytest.mark.parametrize("text", ["word " * 5_000, "123,456 " * 3_000, "好" * 20_000, "9" * 20_000])
def test_long_texts_are_compared_by_length(text: str) -> None:
    """A text of tens of thousands of characters is divided by the number of its words."""
    assert same_words(text, text.upper().strip() + ".")
    assert divided(text, f"{text} more")[1] in ("more", "")


@pytest.mark.parametrize("language", ["de", "de-DE", "de_DE", "DE"])
def test_language_is_known_by_each_spelling(language: str) -> None:
    """Numbers of a language are compared whether its tag has a region, an underscore or capitals."""
    assert same_words("um fünfundzwanzig", "um 25", language)
