"""Announcements that are heard again."""

from __future__ import annotations

import pytest

from patter_trio.conversation.repetition import MAX_TEXTS, Repetitions

MENU = "For sales, press one. For support, press two. To hear this again, press nine."


@pytest.mark.parametrize(
    "again",
    [
        MENU,
        "for sales press 1 for support press 2 to hear this again press 9",
        "For sales, press one. For support, press two. To hear it again, press nine.",
    ],
    ids=["same", "numbers", "misheard"],
)
def test_same_announcement_is_recognised(again: str) -> None:
    """An announcement is heard again in other spelling, and with a word or two of difference."""
    heard = Repetitions()
    assert [heard.hear(MENU), heard.hear("All our lines are busy at the moment."), heard.hear(again)] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (MENU, "For sales in Spain, press four. For support in French, press five. Or hold the line."),
        ("Please hold.", "Please hold."),
        ("", ""),
    ],
    ids=["other-menu", "short", "empty"],
)
def test_other_announcement_counts_as_new(first: str, second: str) -> None:
    """Another menu counts as new, and so does each remark of a few words."""
    heard = Repetitions()
    assert [heard.hear(first), heard.hear(second)] == [False, False]


def test_old_announcements_are_forgotten() -> None:
    """Only the last eight are remembered, so that memory has a bound."""
    heard = Repetitions()
    heard.hear(MENU)
    for number in range(MAX_TEXTS):
        name = "abcdefgh"[number] * 5
        assert not heard.hear(f"{name}a {name}b {name}c {name}d {name}e")
    assert not heard.hear(MENU)


def test_long_texts_are_compared_in_bounded_time() -> None:
    """Texts of any length are compared by their first words."""
    heard = Repetitions()
    text = "one two three four five six " * 5000
    assert [heard.hear(text), heard.hear(text + "seven")] == [False, True]
