"""Words and gaps in scripts with and without spaces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.scripts import gap_between, join, solid, solid_prefix, units, weight, whole_units

LETTERS = "ab é,.(本日はーっ、。（สวัดีเไ้าລາ안녕 \u1019\u1004\u103a\u1039\u1782\u17d2\u178f3…"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("We don't know,  Anna.", ["We", "don't", "know,", "Anna."]),
        ("東京都（渋谷）です。", ["東", "京", "都", "（渋", "谷）", "で", "す。"]),
        ("ラーメンちょっと", ["ラー", "メ", "ン", "ちょっ", "と"]),
        ("สวัสดีค่ะ เก้าโมง", ["ส", "วั", "ส", "ดี", "ค่ะ", "เก้า", "โม", "ง"]),
        ("안녕하세요 여러분", ["안녕하세요", "여러분"]),
        ("OKです3時", ["OK", "で", "す", "3", "時"]),
        ("", []),
    ],
)
def test_units_are_words_or_characters(text: str, expected: list[str]) -> None:
    """A unit is a word, or a character with the signs that belong to it where there are no spaces."""
    assert units(text) == expected


@given(st.text(LETTERS, max_size=30), st.integers(0, 35))
def test_units_make_up_the_text(text: str, reached: int) -> None:
    """The units of a text lose no character, and whole units are always the first of them."""
    line = " ".join(text.split())
    assert "".join(units(text)) == solid(text)
    heard = whole_units(line, reached)
    assert line.startswith(heard)
    assert len(heard) <= reached
    assert units(heard) == units(line)[: len(units(heard))]
    assert whole_units(line, len(line)) == line


@pytest.mark.parametrize(
    ("left", "right", "gap"),
    [
        ("Yes.", "We are.", " "),
        ("かしこまりました。", "少々お待ちください。", ""),
        ("让我想想…", "好的。", ""),
        ("”您好。”", "“请问”", ""),
        ("สวัสดี", "ครับ", ""),
        ("안녕하세요.", "네.", " "),
        ("Hello.", "您好。", " "),
        ("電話は", "03", ""),
        ("You owe", "5", " "),
        ("", "Yes.", ""),
        ("Yes.", "", ""),
        ("...", "...", " "),
    ],
)
def test_gap_follows_script_on_both_sides(left: str, right: str, gap: str) -> None:
    """Two texts are joined without a space where both are written without spaces."""
    assert gap_between(left, right) == gap


@given(st.text(LETTERS, max_size=20), st.integers(0, 25))
def test_solid_prefix_counts_visible_characters(text: str, count: int) -> None:
    """The prefix has the given number of characters that are not white space, or is the whole text."""
    prefix = text[: solid_prefix(text, count)]
    assert solid(prefix) == solid(text)[:count]


def test_syllables_weigh_more_than_letters() -> None:
    """A character of Han, kana or Hangul takes as long to speak as three letters."""
    assert (weight("abc"), weight("本日は"), weight("안녕"), weight("สวัส")) == (3, 9, 6, 4)


@pytest.mark.parametrize(
    ("texts", "whole"),
    [
        (["Yes.", "", "We are."], "Yes. We are."),
        (["もしもし", "聞こえますか"], "もしもし聞こえますか"),
        (["ขอโทษ", "ครับ", "OK"], "ขอโทษครับ OK"),
        ([], ""),
        (["", ""], ""),
    ],
)
def test_join_follows_each_script(texts: list[str], whole: str) -> None:
    """Texts are joined with a space where their script has spaces, and empty ones leave no gap."""
    assert join(texts) == whole
