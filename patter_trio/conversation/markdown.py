"""Markdown and HTML removed from a streamed text, so that it can be spoken. Pure.

A mark is judged by what surrounds it, which may not have arrived. So the filter holds back what is undecided: a mark
until the next character, a link until it is closed, a line of marks until its end. What it gives does not depend on how
the text was cut into pieces.
"""

import html
import re
from typing import Final

# Judged: the longest link or row of a table that a caller should have to wait for.
MAX_HELD_CHARACTERS: Final = 600
"""Characters that are held back at most; a link, a row of a table or a line of marks that is longer is plain text."""
# Judged: a lone backtick must not hold up a sentence for long.
MAX_CODE_CHARACTERS: Final = 120
"""Characters of code between backticks, whose marks are text."""
MAX_LINK_TEXT_CHARACTERS: Final = 200
"""Characters of the text of a link."""

_FENCE: Final = re.compile(r"[ \t]*(?:`{3,}|~{3,})[ \t]*[\w+#.-]*[ \t]*")
_RULE: Final = re.compile(r"[ \t]*(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,}|={3,}[ \t]*)")
_TABLE_RULE: Final = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_MAYBE_ONLY_MARKS: Final = re.compile(r"[ \t]*(?:[*_=|:\- \t]*|(?:`+|~+)[ \t]*[\w+#.-]*[ \t]*)")
"""The begin of a line that may turn out to consist of marks only."""
_PREFIX: Final = re.compile(
    r"[ \t]*(?:>[ \t]?)+|[ \t]*(?P<heading>#{1,6})(?=[ \t]|$)[ \t]*|[ \t]*[-*+•][ \t]+(?:\[[ xX]\][ \t]+)?"
)
_MAYBE_PREFIX: Final = re.compile(r"[ \t>#*+•-]*(?:\[[ xX]?(?:\][ \t]*)?)?")
"""The begin of a line whose prefix may go on."""
_SPECIAL: Final = re.compile(r"[\\`!\[<&*_~]")
_SPECIAL_IN_HEADING: Final = re.compile(rf"{_SPECIAL.pattern}|[ \t]+(?:#+[ \t]*|$)")
"""The same, and white space with the marks that may close a heading."""
_LAST_MARKS: Final = re.compile(r"[!*_~`]{1,3}")
"""Marks behind a word that are held back only to see the next character."""
_LINK: Final = re.compile(r"!?\[(?P<link>(?:[^\[\]]|\[[^\[\]]*\])*)\](?:\((?:[^()]|\([^()]*\))*\)|\[[^\[\]]*\])")
_MAYBE_LINK: Final = re.compile(
    r"!?\[(?:[^\[\]]|\[[^\[\]]*\])*(?:\[[^\[\]]*|\](?:\((?:[^()]|\([^()]*\))*(?:\([^()]*)?|\[[^\[\]]*)?)?"
)
_MAYBE_TAG: Final = re.compile(r"<(?:[a-zA-Z/!][^<>]*)?")
_ESCAPED: Final = re.compile(r"\\([!-/:-@\[-`{-~])")
_MARKS: Final = re.compile(r"\*+|_+|~{2,}|`+")
_ADDRESS: Final = re.compile(r"<((?:https?|mailto|tel):[^<>\s]+)>")
_INLINE_TAGS: Final = (
    "a abbr b big cite code del dfn em emphasis font i img ins kbd mark phoneme prosody q s samp say-as small span "
    "speak "
    "strike strong sub sup time tt u var voice"
)
_BLOCK_TAGS: Final = (
    "article blockquote body br break button caption center dd details div dl dt figcaption figure footer h1 h2 h3 h4 "
    "h5 h6 "
    "head header hr html label li main nav ol p pre section summary table tbody td tfoot th thead title tr ul wbr"
)
_TAG: Final = re.compile(
    rf"</?(?:{'|'.join(_INLINE_TAGS.split())}|(?P<block>{'|'.join(_BLOCK_TAGS.split())}))(?:\s[^<>]*)?/?>|<!--[^<>]*-->",
    re.IGNORECASE,
)
_ENTITY: Final = re.compile(r"&(?:[a-zA-Z]{2,8}|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});")
_MAYBE_ENTITY: Final = re.compile(r"&#?[0-9a-zA-Z]{0,8}")


class MarkdownFilter:
    """Removes Markdown and HTML from a streamed text: headings, lists, quotes, tables, emphasis, code, links, tags.

    Args:
        within_line: the text begins within a line.
    """

    def __init__(self, *, within_line: bool = False) -> None:
        self._within_line = within_line
        self._begin_text()

    def __repr__(self) -> str:
        return f"<MarkdownFilter, {len(self._text)} characters held>"

    def _begin_text(self) -> None:
        self._text = ""  # what is not decided yet
        self._at_begin = not self._within_line  # it is at the begin of a line
        self._first = True  # no line was kept before it
        self._heading = False
        self._before = " "  # the character before it, as it was written

    def push(self, text: str) -> str:
        """Take a piece of text; return as much of it, without marks, as is decided."""
        self._text += text
        return self._decided(final=False)

    def pause(self) -> str:
        """Return marks or a line break at the end of the text so far, because no more text comes for a moment."""
        if self._at_begin:
            return "" if self._text or self._first else "\n"
        return self._decided(final=True) if _LAST_MARKS.fullmatch(self._text) else ""

    def flush(self) -> str:
        """Return the rest of the text, which is complete, and begin anew."""
        rest = self._decided(final=True)
        if self._at_begin:  # an empty last line
            rest += self._line_break()
        self._begin_text()
        return rest

    def _decided(self, *, final: bool) -> str:
        said: list[str] = []
        place = 0
        while place < len(self._text):
            window = self._text[place : place + MAX_HELD_CHARACTERS]
            end = window.find("\n")
            line = window if end < 0 else window[:end]
            ended = end >= 0 or (final and place + len(window) == len(self._text))
            # A line that is longer than the window is decided by what is in it.
            decidable = ended or len(line) == MAX_HELD_CHARACTERS
            if self._at_begin:
                taken = self._take_begin(line, said, ended=ended, decidable=decidable)
                if taken is not None and self._at_begin:  # all of the line
                    self._at_begin = end >= 0
                    taken += self._at_begin
            elif not line:
                self._at_begin, taken = True, 1
            else:
                taken = self._take_inline(line, said, decidable=decidable)
            if taken is None:
                break
            place += taken
        self._text = self._text[place:]
        return "".join(said)

    # Lines ------------------------------------------------------------------------------------------------------------
    def _take_begin(self, line: str, said: list[str], *, ended: bool, decidable: bool) -> int | None:
        """Take what begins a line, or all of it; return how many characters, or None if that is not decided."""
        if not decidable and (_MAYBE_ONLY_MARKS.fullmatch(line) or _MAYBE_PREFIX.fullmatch(line)):
            return None
        if ended and _is_only_marks(line):
            return len(line)
        start, heading = 0, False
        # Prefixes nest: a list in a quote has two.
        while (prefix := _PREFIX.match(line, start)) is not None and prefix.end() > start:
            start, heading = prefix.end(), heading or prefix["heading"] is not None
        row = line[start:].strip()
        if row.startswith("|"):
            if not decidable:
                return None
            if ended and len(row) > 1 and row.endswith("|"):
                cells = ", ".join(cell.strip() for cell in row[1:-1].split("|") if cell.strip())
                said.append(self._line_break() + filter_inline(cells))
                return len(line)
        said.append(self._line_break())
        self._at_begin, self._heading, self._before = False, heading, " "
        return start

    def _line_break(self) -> str:
        # Before a line, not behind it: a line of marks has none.
        line_break, self._first = "" if self._first else "\n", False
        return line_break

    # Within a line ----------------------------------------------------------------------------------------------------
    def _take_inline(self, line: str, said: list[str], *, decidable: bool) -> int | None:
        """Take the next stretch of a line: plain text, or a mark and what belongs to it."""
        special = (_SPECIAL_IN_HEADING if self._heading else _SPECIAL).search(line)
        if special is None or special.start():
            return self._plain(line[: None if special is None else special.start()], said)
        if line[0] in " \t":  # in a heading
            if special.end() < len(line) or (decidable and "#" not in line):
                return self._plain(line[: special.end()], said)
            return len(line) if decidable else None
        taken = self._mark(line, ended=decidable)
        if taken is None:
            return None
        length, text = taken
        said.append(text)
        self._before = line[length - 1]
        return length

    def _plain(self, text: str, said: list[str]) -> int:
        said.append(text)
        self._before = text[-1]
        return len(text)

    def _mark(self, line: str, *, ended: bool) -> tuple[int, str] | None:
        """Return the length of the mark with which a line begins, and what is said for it.

        None if that is not decided.
        """
        match line[0]:
            case "\\":
                if len(line) == 1 and not ended:
                    return None
                escaped = _ESCAPED.match(line)
                return (1, "\\") if escaped is None else (2, escaped[1])
            case "!" | "[":
                return _link(line, ended=ended)
            case "<":
                return _tag(line, ended=ended)
            case "&":
                return _entity(line, ended=ended)
            case "`":
                return _code(line, ended=ended)
            case _:
                return self._emphasis(line, ended=ended)

    def _emphasis(self, line: str, *, ended: bool) -> tuple[int, str] | None:
        marks = _MARKS.match(line)
        run = line[:1] if marks is None else marks[0]
        if len(run) == len(line) and not ended:
            return None
        kept = marks is None or _is_text(run, self._before, line[len(run) : len(run) + 1] or " ")
        return len(run), run if kept else ""


def _is_only_marks(line: str) -> bool:
    return bool(
        _FENCE.fullmatch(line) or _RULE.fullmatch(line) or ("|" in line and "-" in line and _TABLE_RULE.fullmatch(line))
    )


def _is_text(marks: str, before: str, after: str) -> bool:
    """Return True if asterisks or underscores are part of the text: ``2 * 3``, ``first_name``."""
    if marks[0] == "_":
        return before.isalnum() and after.isalnum()
    if marks != "*":
        return False
    return (before.isspace() and after.isspace()) or (before.isdigit() and after.isdigit())


def _code(line: str, *, ended: bool) -> tuple[int, str] | None:
    ticks = len(line) - len(line.lstrip("`"))
    close = line.find("`", ticks, MAX_CODE_CHARACTERS)
    if close < 0:
        return (ticks, "") if ended or len(line) >= MAX_CODE_CHARACTERS else None
    end = close
    while end < len(line) and line[end] == "`":
        end += 1
    if end == len(line) and not ended:
        return None
    if end - close != ticks:
        return ticks, ""
    return end, line[ticks:close]


def _link(line: str, *, ended: bool) -> tuple[int, str] | None:
    if line[0] == "!" and line[1:2] != "[":
        return (1, "!") if len(line) > 1 or ended else None
    link = _LINK.match(line)
    if link is not None:
        return link.end(), filter_inline(link["link"])
    closed = line.find("]", 0, MAX_LINK_TEXT_CHARACTERS) >= 0
    undecided = not ended and (closed or len(line) < MAX_LINK_TEXT_CHARACTERS)
    return None if undecided and _MAYBE_LINK.fullmatch(line) else (1, line[0])


def _tag(line: str, *, ended: bool) -> tuple[int, str] | None:
    address = _ADDRESS.match(line)
    if address is not None:
        return address.end(), address[1]
    tag = _TAG.match(line)
    if tag is not None:
        return tag.end(), " " if tag["block"] else ""
    return None if not ended and _MAYBE_TAG.fullmatch(line) else (1, "<")


def _entity(line: str, *, ended: bool) -> tuple[int, str] | None:
    entity = _ENTITY.match(line)
    if entity is not None:
        said = html.unescape(entity[0])
        # White space and letters only as they are: an entity must not become a line break or half a character.
        return entity.end(), " " if said.isspace() else said if said.isprintable() else ""
    return None if not ended and _MAYBE_ENTITY.fullmatch(line) else (1, "&")


def filter_inline(text: str) -> str:
    """Return a part of a line without the marks within it."""
    inner = MarkdownFilter(within_line=True)
    return inner.push(text) + inner.flush()


def filter_markdown(text: str) -> str:
    """Return the text without Markdown and HTML: headings, lists, quotes, tables, emphasis, code, links, tags.

    A link keeps its text, and a table keeps its cells, with commas between them. Numbers of lists stay, because they
    are useful when they are heard. White space at either end stays.
    """
    whole = MarkdownFilter()
    return whole.push(text) + whole.flush()
