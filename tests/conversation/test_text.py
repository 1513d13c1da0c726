"""Text made fit to be spoken: tables of what goes and what stays, and what holds for any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio import filter_emoji, filter_for_tts, filter_markdown


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", ""),
        ("Nothing to do here.", "Nothing to do here."),
        ("This is **bold** and *italic* and ***both***.", "This is bold and italic and both."),
        ("This is __bold__ and _italic_ and ~~gone~~.", "This is bold and italic and gone."),
        ("**Bold. And on", "Bold. And on"),
        ("it goes.** Then not.", "it goes. Then not."),
        ("2 * 3 is 6, and 2*3 too.", "2 * 3 is 6, and 2*3 too."),
        ("Write to first_name.last_name@example.com", "Write to first_name.last_name@example.com"),
        ("un*believ*able", "unbelievable"),
        ("# Menu", "Menu"),
        ("### The menu ###", "The menu"),
        ("#1 is the best, C# is a key.", "#1 is the best, C# is a key."),
        ("- eggs\n- milk\n* bread\n+ tea", "eggs\nmilk\nbread\ntea"),
        ("  - [x] paid\n  - [ ] sent", "paid\nsent"),
        ("• one\n• two", "one\ntwo"),
        ("1. Open the door.\n2. Go in.", "1. Open the door.\n2. Go in."),
        ("> Quoted.\n> > Twice.", "Quoted.\nTwice."),
        ("above\n---\nbelow\n* * *\nend", "above\nbelow\nend"),
        ("Title\n=====\nText", "Title\nText"),
        ("-5 degrees, or - well - cold", "-5 degrees, or - well - cold"),
        ("Use `pip install x` now.", "Use pip install x now."),
        ("Use ``a`b`` or `c", "Use ab or c"),
        ("```python\nprint(1)\n```", "print(1)"),
        ('See [our page](https://example.com/a_(b)?c=d "Title").', "See our page."),
        ("See [**our** page][1] and ![a cat](cat.png)!", "See our page and a cat!"),
        ("See <https://example.com/a_b>.", "See https://example.com/a_b."),
        ("[not a link] and (not one)", "[not a link] and (not one)"),
        ("| Day | Open |\n|-----|:----:|\n| Mon | 9-5 |", "Day, Open\nMon, 9-5"),
        (r"5 \* 3 \_ \# \[x\]", "5 * 3 _ # [x]"),
        (" *piece* ", " piece "),
        ("a < b > c & d", "a < b > c & d"),
        ("Ωmega **βeta** 我们**九点**开门。", "Ωmega βeta 我们九点开门。"),
    ],
)  # fmt: skip
def test_markdown_loses_its_marks_and_keeps_its_words(written: str, said: str) -> None:
    """The Markdown filter removes marks, links and rules and keeps all words."""
    assert filter_markdown(written) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", ""),
        ("Nothing here.", "Nothing here."),
        ("Great! 🎉", "Great!"),
        ("Great 🎉!", "Great!"),
        ("🎉 Great", "Great"),
        ("Hi 😀 there", "Hi there"),
        ("Hi😀there", "Hi there"),
        ("Hi 😀😀 😀 there", "Hi there"),
        ("Thanks 👍🏽, bye 👋", "Thanks, bye"),
        ("A family 👨‍👩‍👧‍👦 and a flag 🇫🇷 and 🏴󠁧󠁢󠁳󠁣󠁴󠁿.", "A family and a flag and."),
        ("I ❤️ you and ☀️", "I you and"),
        ("Press 1️⃣ or #️⃣", "Press 1 or #"),
        ("C♯ and B♭, 5 ❶, © 2026, ® and ™", "C♯ and B♭, 5 ❶, © 2026, ® and ™"),
        ("copyright ©️ shown as a picture", "copyright shown as a picture"),
        ("a → b, 10 ° C, ½, №, €5", "a → b, 10 ° C, ½, №, €5"),
        ("नमस्ते क्‍ष", "नमस्ते क्‍ष"),
        ("line one 😀\nline two", "line one\nline two"),
        ("(😀)", "()"),
    ],
)
def test_emoji_filter_removes_surrounding_space(written: str, said: str) -> None:
    """The emoji filter removes each emoji together with the space that belongs to it."""
    assert filter_emoji(written) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", ""),
        (" \n ", ""),
        ("**Great!** 🎉\n\nWe have:\n\n- eggs\n- milk", "Great! We have: eggs. milk"),
        ("# Menu\nPizza costs *5* euros.\r\nWine", "Menu. Pizza costs 5 euros. Wine"),
        ('He said "yes."\nThen left', 'He said "yes." Then left'),
        ("soft\u00adhyphen, zero\u200bwidth \ufeffmark", "softhyphen, zerowidth mark"),
        ("No. 5 is free.", "No. 5 is free."),
        ("我们九点开门。\n再见", "我们九点开门。 再见"),
        ("👍", ""),
        ("---", ""),
    ],
)  # fmt: skip
def test_tts_filter_gives_one_speakable_line(written: str, said: str) -> None:
    """The TTS filter turns a text into one line that can be spoken."""
    assert filter_for_tts(written) == said


WORDS = st.lists(st.text(alphabet="abcXYZäé我0123", min_size=1, max_size=6), min_size=1, max_size=8).map(" ".join)
WILD = st.text(alphabet=st.sampled_from("ab 1*_~`#>-+|[]()<>!\\\n\t.,:😀🎉\ufe0f\u200d👍🏽🇫é我")) | st.text()


@given(WORDS)
def test_words_without_marks_stay_as_they_are(text: str) -> None:
    """The three filters leave a text without marks as it is."""
    assert filter_markdown(text) == filter_emoji(text) == filter_for_tts(text) == text


@given(WORDS, st.sampled_from(["**{}**", "*{}*", "_{}_", "~~{}~~", "`{}`", "# {}", "> {}", "- {}", "[{}](http://a.b)"]))
def test_words_within_marks_are_what_is_left(text: str, marks: str) -> None:
    """The Markdown filter leaves the words within any kind of mark."""
    assert filter_markdown(marks.format(text)) == text


@given(WILD)
def test_filters_preserve_letters_and_digits(text: str) -> None:
    """The filters add no letter or digit, and lose none in a text without links and code."""
    for filtered in (filter_markdown(text), filter_emoji(text), filter_for_tts(text)):
        kept = iter(text)
        assert all(char in kept for char in filtered if char.isalnum())
    if not set("[<`~") & set(text):
        plain = "".join(char for char in text if char.isascii() and char.isalnum())
        said = filter_for_tts(text)
        assert "".join(char for char in said if char.isascii() and char.isalnum()) == plain


@given(WILD)
def test_what_was_filtered_has_nothing_left_to_filter(text: str) -> None:
    """The emoji filter changes nothing the second time, and the TTS filter leaves one trimmed line."""
    once = filter_emoji(text)
    assert filter_emoji(once) == once
    line = filter_for_tts(text)
    assert line == line.strip()
    assert "\n" not in line
    assert "  " not in line


@pytest.mark.parametrize(
    "unit",
    ["*", "_", "`", "[", "](", "![", "😀 ", "\\", "> ", "- ", "|", "[a](", "<http:", "# ", " ", "#", "~", "[a", "` "],
)
def test_no_text_takes_long(unit: str) -> None:
    """The filters take linear time for 200,000 characters of marks; quadratic time would exceed the suite's limit."""
    text = "# " + unit * (200_000 // len(unit)) + "x"
    assert filter_markdown(text).endswith("x")
    assert filter_emoji(text).endswith("x")
    assert filter_for_tts(text).endswith("x")
