"""Text made fit to be spoken: tables of what goes and what stays, and what holds for any text."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patter_trio import filter_emoji, filter_for_tts, filter_markdown
from patter_trio.conversation.markdown import MarkdownFilter
from patter_trio.conversation.text import SpeechFilter
from tests.kit.counted_work import calls_of
from tests.kit.depth import few


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
        ("Hello <b>world</b>, <i>all</i> of <STRONG class='x'>you</STRONG>", "Hello world, all of you"),
        ("Wait<br>for it.<br/>Now<p>go</p>", "Wait for it. Now go "),
        ("<ul><li>eggs</li><li>milk</li></ul>", "  eggs  milk  "),
        ("Tom &amp; Jerry&nbsp;&lt;3 &#39;now&#x27; &copy; AT&T &unknown;", "Tom & Jerry <3 'now' © AT&T &unknown;"),
        ("List<String> and <name> and <3", "List<String> and <name> and <3"),
        ("a <!-- note --> b", "a  b"),
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
        ("Wait<br>for it.", "Wait for it."),
        ("一\n二", "一。 二"),
        ("<think>The caller wants hours.</think> We open at nine.", "We open at nine."),
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
def test_filters_change_nothing_the_second_time(text: str) -> None:
    """The emoji filter changes nothing the second time, and the TTS filter leaves one trimmed line."""
    once = filter_emoji(text)
    assert filter_emoji(once) == once
    line = filter_for_tts(text)
    assert line == line.strip()
    assert "\n" not in line
    assert "  " not in line


@pytest.mark.parametrize(
    "unit",
    few(
        [
            "*",
            "_",
            "`",
            "[",
            "](",
            "![",
            "😀 ",
            "\\",
            "> ",
            "- ",
            "|",
            "[a](",
            "<http:",
            "# ",
            " ",
            "#",
            "~",
            "[a",
            "` ",
        ],
        5,
    ),
)
@pytest.mark.no_coverage
def test_no_text_takes_long(unit: str) -> None:
    """The filters take linear time for 200,000 characters of marks; quadratic time would exceed the suite's limit."""
    text = "# " + unit * (200_000 // len(unit)) + "x"
    assert filter_markdown(text).endswith("x")
    assert filter_emoji(text).endswith("x")
    assert filter_for_tts(text).endswith("x")


# Streams --------------------------------------------------------------------------------------------------------------
def streamed(text: str, size: int) -> str:
    speech = SpeechFilter()
    return "".join(speech.push(text[start : start + size]) for start in range(0, len(text), size)) + speech.flush()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("**Opening hours**\n- Mon: 9-5\n- Tue: 9-5 😊", "Opening hours. Mon: 9-5. Tue: 9-5"),
        ("| Day | Open |\n|-----|------|\n| Mon | 9-5 |\n", "Day, Open. Mon, 9-5"),
        ("Run this:\n```python\nprint('hi')\n```", "Run this: print('hi')"),
        ("# Our cakes\n1. Apple\n2. Plum\n\n> Try them.\n", "Our cakes. 1. Apple. 2. Plum. Try them."),
        ("- rye\n* oat\n- [ ] cake", "rye. oat. cake"),
        ("See [our page](https://example.com/a_(b)?c=d) or ![it](x.png)!", "See our page or it!"),
        ("Use `a*b` or ``c`", "Use a*b or c"),
        ("a ❤️ b 👨‍👩‍👧 c 1️⃣", "a b c 1"),
        ("营业时间\n- 周一\n- 周二", "营业时间。 周一。 周二"),
    ],
)  # fmt: skip
def test_stream_is_filtered_like_the_whole(written: str, said: str) -> None:
    """The filter of a stream gives what it gives for the whole text, however the text is cut."""
    assert filter_for_tts(written) == said
    for size in range(1, 9):
        assert streamed(written, size) == said


PARTS = [
    "word", "two words", " ", "\n", "\n\n", "**", "*", "_", "__", "~~", "`", "```", "```json\n", "# ", "## ", " ##",
    "- ", "* ", "> ", "1. ",
    "[ ] ", "[x] ", "[a](http://b.c/d)", "![", "[", "](", ")", "]", "|", "| a | b |", "|---|---|", "---", "===",
    "<b>", "</b>", "<br>", "<", ">",
    "<!-- x -->", "&amp;", "&", "\\", "\\*", "!", ".", ",", "9-5", "😀", "\ufe0f", "\u200d", "👍🏽", "🇫🇷", "1️⃣", "#",
    "我们", "。", "\u00ad", "\r\n", "\t",
    "<think>", "</think>", "<tool_call>", "</tool_call>", '{"name": "f", "arguments": {}}', '{"name": "f"}', "{", "}",
    "[TOOL_CALLS]", "[TO",
    "<|im_end|>", "<|channel|>", "analysis", "final", "<|message|>", "<function=f>", "</function>", '"', "🇫", "©", "https://a.b",
]  # fmt: skip
MIXED = st.lists(st.sampled_from(PARTS), max_size=30).map("".join) | WILD


@settings(max_examples=400)
@given(MIXED, st.lists(st.integers(0, 300), max_size=12))
def test_filters_do_not_depend_on_token_boundaries(text: str, places: list[int]) -> None:
    """Wherever a text is cut into pieces, the filters of a stream give the same."""
    bounds = sorted({0, len(text), *(min(place, len(text)) for place in places)})
    pieces = [text[start:stop] for start, stop in pairwise(bounds)]
    for make, whole in ((SpeechFilter, filter_for_tts), (MarkdownFilter, filter_markdown)):
        stream = make()
        assert "".join(map(stream.push, pieces)) + stream.flush() == whole(text)
        assert "".join(map(stream.push, text)) + stream.flush() == whole(text)


@given(MIXED)
def test_filtered_text_is_one_clean_line(text: str) -> None:
    """What the TTS filter gives has single spaces only, and none at its ends."""
    said = filter_for_tts(text)
    assert said == " ".join(said.split())


def test_plain_text_passes_at_once() -> None:
    """Of a plain text, only a mark at the end is held back."""
    speech = SpeechFilter()
    assert [speech.push(token) for token in ("We", " are", " open.", " Yes", "!")] == [
        "We",
        " are",
        " open",
        ". Yes",
        "",
    ]
    assert speech.pause() == "!"
    assert speech.push(" Bye\n") == " Bye"
    assert (speech.pause(), speech.pause()) == ("\n", "")
    assert speech.push("Now") + speech.flush() == " Now"


@pytest.mark.parametrize(
    "unit",
    few([*PARTS, "a.", "[(", "* ", "**a", "`a", "<a", "[a]", '{"name":', "<think>a</think>", ":- |", "a\n", "1 "], 12),
)
@pytest.mark.no_coverage
def test_filters_take_time_in_proportion(unit: str) -> None:
    """Twice the text takes at most 2.5 times the function calls, in tokens of four characters."""
    work = [calls_of(SpeechFilter(), unit * (size // len(unit)), 4) for size in (4_000, 8_000)]
    assert work[1] <= 2.5 * work[0]
