"""The arguments and results of tools, as an LLM writes and reads them; pure functions."""

import json
import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

from patter_trio.agent.tool_arguments import Misfit, fitted
from patter_trio.agent.tools import Tool
from patter_trio.user_code import invoke
from patter_trio.user_code.context import current_call

# Judged: about 4000 tokens at four characters each (metrics/bill.py), which every later request of the call repeats.
MAX_RESULT_CHARACTERS: Final = 16_384
"""Characters of a result that the LLM gets."""
# Judged. The figure for Python is that of its JSON parser with the default recursion limit of 1000.
MAX_NESTING_LEVELS: Final = 64
"""Levels of lists and dicts in arguments and results.

That is more than real data has, and few enough for code that walks through it recursively: it is copied for each
callback. Python itself reads about 990 levels.
"""

T = TypeVar("T")

_log = logging.getLogger("patter_trio.events")


def arguments_of(text: str) -> tuple[Any, str]:
    """Return the arguments that an LLM wrote, and an error message for the LLM, empty if they are valid."""
    try:
        arguments = json.loads(text if text.strip() else "{}")
        # Some models encode their arguments twice.
        if isinstance(arguments, str):
            arguments = json.loads(arguments if arguments.strip() else "{}")
        # What servers write for a tool without parameters, besides an object: nothing, or the empty array of languages
        # that have no other.
        if arguments is None or arguments == []:
            arguments = {}
    except (ValueError, RecursionError):
        # RecursionError: an LLM, or what it quotes, may nest deeper than Python's parser can follow.
        return text, "the arguments are not valid JSON"
    if not isinstance(arguments, dict):
        return text, "the arguments are not a JSON object"
    if is_deeper(arguments):
        return text, f"the arguments have more than {MAX_NESTING_LEVELS} levels"
    return arguments, ""


def prepared(tool: Tool, arguments: dict[str, Any]) -> tuple[Any, str]:
    """Return what the handler gets for the arguments of an LLM, and an error message for the LLM, empty if they fit."""
    try:
        # As keywords, unknown arguments would make the call itself fail.
        fits = fitted(tool.parameters, arguments, closed=tool.form == "keywords")
        if problem := unwanted(tool, fits):
            return arguments, problem
        # Constructors and validators of the application's own classes run here.
        with invoke.isolate(f"the arguments of {tool.name}", "do less in constructors"):
            return tool.read(fits), ""
    except Misfit as misfit:
        return arguments, str(misfit)
    except invoke.ApplicationError as failed:
        if isinstance(failed.__cause__, Misfit):
            return arguments, str(failed.__cause__)
        _log.warning("call %s: tool %s: %s", current_call.get(), tool.name, failed, exc_info=failed.__cause__)
        return arguments, f"there was an error in the arguments of {tool.name}"


def unwanted(tool: Tool, arguments: Any) -> str:
    """Return the error message of the tool's own check for arguments that fit the schema; empty if it accepts them."""
    if tool.check is None:
        return ""
    try:
        # The check is the application's code: a bug in it refuses this one call of the tool, and the LLM gets an error.
        with invoke.isolate(f"the check of {tool.name}", "check less"):
            return tool.check(arguments)
    except invoke.ApplicationError as failed:
        # Logged and not shown: an exception may quote what the LLM must not say.
        _log.warning("call %s: tool %s: %s", current_call.get(), tool.name, failed, exc_info=failed.__cause__)
        return f"there was an error in the check of {tool.name}"


def shown(result: Any) -> str:
    """Return a result as text for the LLM; of a long one the begin, at the cost of a short one."""
    if result is None:
        return "Done."
    if isinstance(result, str):
        size = len(result)
        cut = "" if size <= MAX_RESULT_CHARACTERS else f" [cut: it has {size} characters]"
        return f"{result[:MAX_RESULT_CHARACTERS]}{cut}"
    # The begin of its JSON is that of the whole, because what is left out lies behind.
    text = json.dumps(_Begin(MAX_RESULT_CHARACTERS).of(result), ensure_ascii=False, default=_leaf)
    if len(text) <= MAX_RESULT_CHARACTERS:
        return text
    return f"{text[:MAX_RESULT_CHARACTERS]} [cut: it has more than {MAX_RESULT_CHARACTERS} characters]"


class _Begin:
    """The begin of a value, with at least as many characters of JSON as a result may have, if the whole has as many.

    The copy holds little more: what a part adds to the JSON is counted low, but never as nothing.

    Args:
        characters: the characters of JSON that are wanted.
    """

    def __init__(self, characters: int) -> None:
        self._room = characters

    def of(self, value: Any, levels: int = MAX_NESTING_LEVELS) -> Any:
        """Return the begin of a value; what lies deeper than ``levels`` is returned as it is."""
        self._room -= 1
        if isinstance(value, str):
            begin = value[: max(0, self._room) + 1]
            self._room -= len(begin)
            return begin
        if isinstance(value, int):
            # Ten bits have three decimal digits; the first one is counted already.
            self._room -= max(0, value.bit_length() - 1) * 3 // 10
        elif levels and isinstance(value, list | tuple):
            return [self.of(item, levels - 1) for item in self._while_room(value)]
        elif levels and isinstance(value, dict):
            return {self._key(key): self.of(item, levels - 1) for key, item in self._while_room(value.items())}
        return value

    def _key(self, key: Any) -> Any:
        # Whole: a part of it could be another key.
        self._room -= len(key) if isinstance(key, str) else 1
        return key

    def _while_room(self, items: Iterable[T]) -> Iterator[T]:
        for item in items:
            # One more than fits: the JSON then shows that something follows.
            yield item
            if self._room < 0:
                return


def _leaf(value: Any) -> str:
    """Return what JSON has no form for as text; of a large set or of bytes the begin."""
    if isinstance(value, set | frozenset) and len(value) > MAX_RESULT_CHARACTERS:
        # Each item has a character at least.
        begin = ", ".join(map(repr, islice(value, MAX_RESULT_CHARACTERS)))
        return f"{{{begin}" if type(value) is set else f"{type(value).__name__}({{{begin}"
    if isinstance(value, bytes | bytearray):
        return str(value[:MAX_RESULT_CHARACTERS])
    return str(value)


def deep_items(value: Any, levels: int) -> Iterator[bool]:
    """Yield for each item of a value, at each level, whether it is a list or dict below ``levels``."""
    # By hand instead of recursively, so that no depth can exhaust Python's stack; depth first, so that the memory does
    # not grow with the levels, and one that contains itself ends.
    open_items = [iter((value,))]
    while open_items:
        for item in open_items[-1]:
            is_container = isinstance(item, list | dict)
            yield is_container and len(open_items) > levels
            if is_container:
                # A copy: the dict may be the application's own, and change while others run (``levels.py``). That ends
                # the iteration of a dict with an error, but not that of a list.
                open_items.append(iter(tuple(item.values()) if isinstance(item, dict) else item))
                break
        else:
            open_items.pop()


def is_deeper(value: Any, levels: int = MAX_NESTING_LEVELS) -> bool:
    """Return True if a value has more than ``levels`` levels of lists and dicts."""
    return any(deep_items(value, levels))
