"""Text for programs, not for the caller, removed from a model's answer: reasoning, leaked tool calls. Pure.

Servers should take both out of the text. Many do not: a reasoning parser is not configured, or a model writes the call
of a tool in a syntax that its server does not know.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

# Judged: the arguments of a call are shorter.
MAX_CALL_CHARACTERS: Final = 4000
"""Characters of what may be a tool call in JSON that are held back at most; a longer one is spoken."""
MAX_JSON_WORD_CHARACTERS: Final = 5
"""Characters of the longest word of JSON: ``false``."""
# Judged: several times as long as any of those below.
MAX_TAG_CHARACTERS: Final = 100
"""Characters of a tag or a special token."""

_REASONING: Final = "think|thinking|thoughts?|reasoning|reflection"
_TOOLS: Final = (
    r"tool_calls?|toolcalls?|function_calls?|functioncalls?|tool_use|tool_code|tool_results?|"
    r"tool_response|tools?|invoke"
)
_TAGS: Final = rf"(?:\w+:)?(?:{_REASONING}|{_TOOLS})"

_MARK: Final = re.compile("[<\u25c1\\[{]|```")
_HIDDEN: Final = re.compile(
    rf"""
    <(?P<tag>{_TAGS})(?:\s[^<>]*)?(?<!/)>
    | <(?P<function>function)=[^<>]*>
    | (?P<channel><\|channel\|>\s*(?:analysis|commentary))
    | <[|\uff5c]tool(?P<section>[^|\uff5c<>]*)begin[|\uff5c]>
    | (?P<rest><\|(?:python_tag|tool_calls?)\|>|\[TOOL_CALLS\])
    | (?P<bracket>\[THINK\]) | (?P<triangle>\u25c1think\u25b7)
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""The begin of a hidden text, by how it ends."""
_ALONE: Final = re.compile(
    rf"""
    </?(?:{_TAGS}|function|parameter)(?:\s[^<>]*)?/?>
    | \u25c1/think\u25b7 | \[/THINK\] | \[/?INST\] | \[/?TOOL_RESULTS\]
    | <\|channel\|>\s*final\s*<\|message\|>
    | <\|(?:im_)?start\|>\s*(?:assistant\b)? | <[|\uff5c][^|\uff5c<>\s]+[|\uff5c]>
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Tags without what they belong to, and special tokens; they are removed alone."""
_MAYBE: Final = re.compile(
    r"<[^<>\n]*\Z|<\|(?:channel|start|im_start)\|>\s*\w*(?:\s*<\|?\w*\|?)?\Z|\u25c1[^\u25b7\n]*\Z", re.IGNORECASE
)
"""The begin of a tag or a special token whose end has not arrived."""
_BRACKETS: Final = ("[TOOL_CALLS]", "[THINK]", "[/THINK]", "[INST]", "[/INST]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]")
_FENCE: Final = re.compile(r"```[ \t]*(?P<language>\w*)[ \t]*\n\s*")
# Judged: no language that models write code in has a name of more than 20 characters.
_MAYBE_FENCE: Final = re.compile(r"```[ \t]*\w{0,20}[ \t]*(?:\n\s*)?\Z")
_FENCE_END: Final = re.compile(r"\s*```")
_CALL_LANGUAGES: Final = frozenset(["tool_call", "tool_calls", "tool_code", "function_call", "tool_outputs"])
_KEYS: Final = (
    "name|tool|tool_name|function|function_name|type|id|action|arguments|parameters|tool_calls|tool_uses|recipient_name"
)
_CALL: Final = re.compile(rf"\[?\s*\{{\s*\"(?:{_KEYS})\"\s*:")
_MAYBE_CALL: Final = re.compile(r"\[?\s*(?:\{\s*(?:\"\w{0,20}(?:\"\s*)?)?)?\Z")
_NAMES: Final = ("name", "tool", "tool_name", "function", "function_name", "action", "recipient_name")
_ARGUMENTS: Final = ("arguments", "parameters", "args", "params", "input", "tool_input", "action_input", "function")
_DECODER: Final = json.JSONDecoder()


@attrs.frozen
class _Stretch:
    """A stretch of text that begins with a mark."""

    length: int
    hidden: bool


_MARK_ALONE: Final = _Stretch(0, hidden=False)
"""A mark that begins nothing."""


class HiddenTextFilter:
    """Removes reasoning, tool calls and special tokens from a streamed text.

    Hidden are ``<think>`` and its kin, ``<tool_call>``, ``<function=...>``, ``[TOOL_CALLS]``, the sections of special
    tokens, and JSON with the name and the arguments of a call, alone or in a block of code. A hidden text without an
    end goes on to the end of the answer; of an end without a begin only the tag is removed, since the text before it
    has been spoken.
    """

    def __init__(self) -> None:
        self._text = ""  # what is not decided yet
        self._closer: re.Pattern[str] | None = None  # the end of the hidden text that it is in

    def __repr__(self) -> str:
        return f"<HiddenTextFilter, {len(self._text)} characters held, {'hiding' if self._closer else 'open'}>"

    def push(self, text: str) -> str:
        """Take a piece of text; return as much of it as is known to be for the caller."""
        self._text += text
        return self._shown(text, final=False)

    def pause(self) -> str:
        """Return nothing: what is held back may be the begin of a hidden text."""
        return ""

    def flush(self) -> str:
        """Return the rest of the text, which is complete, and begin anew."""
        rest = self._shown("", final=True)
        self._text, self._closer = "", None
        return rest

    def _shown(self, new: str, *, final: bool) -> str:
        shown: list[str] = []
        place = 0
        while place < len(self._text):
            if self._closer is not None:
                end = self._closer.search(self._text, place)
                if end is None:
                    # The last characters may be the begin of its end.
                    place = len(self._text) if final else max(place, len(self._text) - MAX_TAG_CHARACTERS)
                    break
                place, self._closer = end.end(), None
                continue
            mark = _MARK.search(self._text, place)
            if mark is None:
                # A block of code begins with three of them.
                stop = len(self._text) if final else len(self._text.rstrip("`"))
                shown.append(self._text[place : max(place, stop)])
                place = max(place, stop)
                break
            shown.append(self._text[place : mark.start()])
            place = mark.start()
            stretch = self._stretch(place, new, final=final)
            if stretch is None:
                break
            stop = place + (stretch.length or len(mark[0]))
            if not stretch.hidden:
                shown.append(self._text[place:stop])
            place = stop
        self._text = self._text[place:]
        return "".join(shown)

    def _stretch(self, place: int, new: str, *, final: bool) -> "_Stretch | None":
        """Return what the text is from a mark on; None if that is not decided."""
        text = self._text
        if text[place] in "`{":
            return _code(text, place, new, final=final)
        if (hidden := _HIDDEN.match(text, place)) is not None:
            self._closer = _closer_of(hidden)
            return _Stretch(hidden.end() - place, hidden=True)
        # Before what is removed alone: "<|channel|>" may go on.
        window = text[place : place + MAX_TAG_CHARACTERS]
        if not final and len(window) < MAX_TAG_CHARACTERS and (_MAYBE.match(window) or _is_begin_of_bracket(window)):
            return None
        if (alone := _ALONE.match(text, place)) is not None:
            return _Stretch(alone.end() - place, hidden=True)
        return _code(text, place, new, final=final) if text[place] == "[" else _MARK_ALONE


def _is_begin_of_bracket(text: str) -> bool:
    return any(bracket.startswith(text) for bracket in _BRACKETS)


def _closer_of(hidden: re.Match[str]) -> re.Pattern[str]:
    if name := hidden["tag"] or hidden["function"]:
        closer = f"</{re.escape(name)}>"
    elif hidden["channel"]:
        closer = r"<\|(?:end|call|return)\|>|<\|channel\|>\s*final\s*<\|message\|>"
    elif hidden["section"] is not None:
        closer = f"<[|\uff5c]tool{re.escape(hidden['section'])}end[|\uff5c]>"
    elif hidden["bracket"]:
        closer = r"\[/THINK\]"
    elif hidden["triangle"]:
        closer = "\u25c1/think\u25b7"
    else:
        closer = r"\Z(?!)"  # nothing: these calls are the last thing in an answer
    return re.compile(closer, re.IGNORECASE)


def _code(text: str, place: int, new: str, *, final: bool) -> "_Stretch | None":
    """Return the tool call or the other text that begins at a mark; None if that is not decided."""
    start = place
    if text[place] == "`":
        fence = _FENCE.match(text, place)
        if fence is None or fence.end() == len(text):
            return None if not final and _MAYBE_FENCE.match(text, place) else _MARK_ALONE
        start = fence.end()
        if fence["language"].lower() in _CALL_LANGUAGES:
            end = text.find("```", start)
            if end < 0 and not final:
                return None
            return _Stretch((len(text) if end < 0 else end + 3) - place, hidden=True)
    if _CALL.match(text, start) is None:
        return None if not final and _MAYBE_CALL.match(text, start) else _MARK_ALONE
    window = text[start : start + MAX_CALL_CHARACTERS]
    waits = not final and len(window) < MAX_CALL_CHARACTERS
    # The end of JSON is a bracket: while none comes, nothing is new.
    if waits and new and "}" not in new and "]" not in new and "`" not in new:
        return None
    length = _json_length(window, complete=not waits)
    if length is None:
        return None
    if length < 0:
        return _Stretch(start - place - length, hidden=False)
    if start == place:
        return _Stretch(length, hidden=True)
    fence_end = _FENCE_END.match(text, start + length)
    if fence_end is None and waits:
        return None
    return _Stretch((start + length if fence_end is None else fence_end.end()) - place, hidden=True)


def _json_length(text: str, *, complete: bool) -> int | None:
    """Return the length of a tool call in JSON, or minus that of other text; None if the end has not arrived."""
    try:
        value, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        # What is wrong in the middle stays wrong; at the end, or within a string, the rest may be missing.
        if not error.msg.startswith("Unterminated string") and error.pos < len(text) - MAX_JSON_WORD_CHARACTERS:
            return -max(1, error.pos)
        return -len(text) if complete else None
    # Nested more deeply than Python's parser goes, which no call of a tool is.
    except RecursionError:
        return -len(text) if complete else None
    return end if _is_call(value) else -end


def _is_call(value: Any) -> bool:
    """Return True if decoded JSON is a tool call in one of the forms that models write, or a list of them."""
    if isinstance(value, list):
        return bool(value) and all(map(_is_call, value))
    if not isinstance(value, Mapping):
        return False
    if calls := value.get("tool_calls") or value.get("tool_uses"):
        return _is_call(calls)
    return any(name in value for name in _NAMES) and any(name in value for name in _ARGUMENTS)
