"""The arguments and results of tools, as an LLM writes and reads them; pure functions."""

import json
import logging
from typing import Any, Final

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
    """Return a result as text for the LLM."""
    if result is None:
        return "Done."
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)
    return (
        text
        if len(text) <= MAX_RESULT_CHARACTERS
        else f"{text[:MAX_RESULT_CHARACTERS]} [cut: it has {len(text)} characters]"
    )


def is_deeper(value: Any, levels: int = MAX_NESTING_LEVELS) -> bool:
    """Return True if a value has more than ``levels`` levels of lists and dicts."""
    # Level by level instead of recursively, so that no depth can exhaust Python's stack.
    layer = [value]
    for _ in range(levels + 1):
        layer = [item for item in layer if isinstance(item, list | dict)]
        if not layer:
            return False
        layer = [inner for item in layer for inner in (item.values() if isinstance(item, dict) else item)]
    return True
