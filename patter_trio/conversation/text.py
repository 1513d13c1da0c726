"""Filters that make written text fit to be spoken: without Markdown, without emoji. Pure functions.

The three filters take and return text; they are meant for ``phone.agent(text_transforms=[...])``. They never lose a
word. They drop markup, the addresses behind links, and emoji. They also drop marks that have lost their partner,
because text is filtered sentence by sentence, and bold type may span several sentences.
"""

import re
from typing import Final

_HALF_A_CHARACTER: Final = re.compile("[\ud800-\udfff]")
"""A lone surrogate."""


def is_sayable(text: str) -> bool:
    """Return True if the text has no lone surrogates, which no TTS and no history could encode.

    ``json.loads`` makes them of an emoji that was cut in two.
    """
    return text.isascii() or not _HALF_A_CHARACTER.search(text)


# Markdown -------------------------------------------------------------------------------------------------------------
_FENCE: Final = re.compile(r"[ \t]*(?:`{3,}|~{3,})[ \t]*[\w+#.-]*[ \t]*")
_RULE: Final = re.compile(r"[ \t]*(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,}|={3,}[ \t]*)")
_TABLE_RULE: Final = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_PREFIX: Final = re.compile(r"[ \t]*(?:>[ \t]?)+|[ \t]*#{1,6}(?=[ \t]|$)[ \t]*|[ \t]*[-*+•][ \t]+(?:\[[ xX]\][ \t]+)?")
_INLINE: Final = re.compile(
    r"""
    \\(?P<escaped>[!-/:-@\[-`{-~])
    | (?P<ticks>`+)(?P<code>[^`]+)(?P=ticks)(?!`)
    | !?\[(?P<link>(?:[^\[\]]|\[[^\[\]]*\])*)\](?:\((?:[^()]|\([^()]*\))*\)|\[[^\[\]]*\])
    | <(?P<address>(?:https?|mailto|tel):[^<>\s]+)>
    | (?P<marks>\*+|_+|~{2,}|`+)
    """,
    re.VERBOSE,
)


def filter_markdown(text: str) -> str:
    """Return the text without Markdown: headings, lists, quotes, tables, emphasis, code, links.

    A link keeps its text, and a table keeps its cells, with commas between them. White space at either end stays, so
    that pieces of a streamed text can be filtered, too.
    """
    lines = text.split("\n")
    kept = [_line(line) for line in lines if not _is_only_marks(line)]
    return "\n".join(kept)


def _is_only_marks(line: str) -> bool:
    return bool(
        _FENCE.fullmatch(line) or _RULE.fullmatch(line) or ("|" in line and "-" in line and _TABLE_RULE.fullmatch(line))
    )


def _line(line: str) -> str:
    heading = line.lstrip().startswith("#")
    # Prefixes nest: a list in a quote has two.
    while (prefix := _PREFIX.match(line)) is not None and prefix.end():
        line = line[prefix.end() :]
    if heading:
        bare = line.rstrip(" \t").rstrip("#")
        # Closing marks of a heading follow a space; "C#" keeps its sign.
        line = bare.rstrip(" \t") if bare[-1:] in (" ", "\t") else line
    row = line.strip()
    if len(row) > 1 and row.startswith("|") and row.endswith("|"):
        line = ", ".join(cell.strip() for cell in row[1:-1].split("|") if cell.strip())
    return _INLINE.sub(_without_marks, line)


def _without_marks(match: re.Match[str]) -> str:
    if match["marks"] is not None:
        return match["marks"] if _is_no_mark(match) else ""
    if match["link"] is not None:
        return _INLINE.sub(_without_marks, match["link"])
    return match["escaped"] or match["address"] or match["code"] or ""


def _is_no_mark(match: re.Match[str]) -> bool:
    """Return True if an asterisk or underscore is part of the text: ``2 * 3``, ``first_name``."""
    marks, text = match["marks"], match.string
    before = text[match.start() - 1] if match.start() else " "
    after = text[match.end()] if match.end() < len(text) else " "
    if marks[0] == "_":
        return before.isalnum() and after.isalnum()
    if marks != "*":
        return False
    return (before.isspace() and after.isspace()) or (before.isdigit() and after.isdigit())


# Emoji ----------------------------------------------------------------------------------------------------------------
# Unicode's emoji (UTS #51) by block, without the letters, numbers and musical signs in these blocks: they are text.
_PICTURE: Final = (
    "[\U0001f000-\U0001f0ff\U0001f10d-\U0001f10f\U0001f12f\U0001f16c-\U0001f171\U0001f17e\U0001f17f\U0001f18e"
    "\U0001f191-\U0001f1e5\U0001f201-\U0001f64f\U0001f680-\U0001f6ff\U0001f700-\U0001f7ff\U0001f90c-\U0001faff"
    "\u2600-\u266c\u2670-\u2767\u2794-\u27bf\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa\u25fb-\u25fe"
    "\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55]"
)
_EMOJI: Final = (
    f"(?:[\U0001f1e6-\U0001f1ff]|{_PICTURE}|[^\\w\\s#*]\ufe0f)"  # a flag's letter, a picture, a sign shown as one
    "(?:[\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"  # how it is shown: colour of skin, of flag
    f"|\u200d(?:{_PICTURE}|[^\\w\\s]\ufe0f))*"  # joined to another one
)
_KEYCAP: Final = re.compile("([0-9#*])\ufe0f?\u20e3")
_EMOJIS: Final = re.compile(f"(?<![ \t])(?P<before>[ \t]*){_EMOJI}(?:[ \t]*{_EMOJI})*(?P<after>[ \t]*)")
_EMOJI_REMAINS: Final = re.compile("[\ufe0e\ufe0f\u20e3]")
_CLOSING_MARKS: Final = ".,;:!?…)]}\"'”\u2019»"


def filter_emoji(text: str) -> str:
    """Return the text without emoji, and without the white space around them. A keycap keeps its key."""
    return _EMOJI_REMAINS.sub("", _EMOJIS.sub(_gap, _KEYCAP.sub(r"\1", text)))


def _gap(match: re.Match[str]) -> str:
    """Return what replaces a run of emoji: a space where two words would otherwise touch."""
    text = match.string
    before = text[match.start() - 1] if match.start() else "\n"
    after = text[match.end()] if match.end() < len(text) else "\n"
    if "\n" in (before, after) or after in _CLOSING_MARKS:
        return ""
    apart = match["before"] or match["after"] or (before.isalnum() and after.isalnum())
    return " " if apart else ""


# All of it ------------------------------------------------------------------------------------------------------------
_INVISIBLE: Final = re.compile("[\u0000-\u0008\u000b-\u001f\u007f\u00ad\u200b\u2060\ufeff]")
"""Control characters, soft hyphens, zero-width characters."""
_ENDS: Final = tuple(".!?…:;,。।؟،\uff01\uff1f")
_BEHIND_ENDS: Final = "\"'”\u2019»)]}"


def filter_for_tts(text: str) -> str:
    """Return the text as one line to be spoken: no Markdown, no emoji, no invisible characters.

    A line that ends without punctuation gets a full stop, because its end means a pause.
    """
    lines = filter_emoji(filter_markdown(_INVISIBLE.sub("", text.replace("\r", "\n")))).split("\n")
    said = [" ".join(line.split()) for line in lines]
    said = [line for line in said if line]
    last = len(said) - 1
    stopped = [
        line if place == last or line.rstrip(_BEHIND_ENDS).endswith(_ENDS) else f"{line}."
        for place, line in enumerate(said)
    ]
    return " ".join(stopped)
