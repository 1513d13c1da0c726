"""What goes into tools and what comes out of them, as a model writes and reads it; no clock and no socket."""

import json
from collections.abc import Mapping
from typing import Any, Final

from patter_trio.agent.tools import Tool
from patter_trio.user_code import invoke

MAX_RESULT_CHARACTERS: Final = 16_384
"""Characters of a result that the model is shown."""
MAX_NESTING_LEVELS: Final = 64
"""Levels of lists and dicts in what goes in or comes out: more than data has, and few enough for all who walk through
it, which is copied for each callback. Python itself reads some 990."""
_TYPES: Final[Mapping[str, type | tuple[type, ...]]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}


def arguments_of(text: str) -> tuple[Any, str]:
    """Return the arguments that a model wrote, and what is wrong with them."""
    try:
        arguments = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text, "the arguments are no JSON"
    if not isinstance(arguments, dict):
        return text, "the arguments are no JSON object"
    if is_deeper(arguments):
        return text, f"the arguments have more than {MAX_NESTING_LEVELS} levels"
    return arguments, ""


def mismatch(tool: Tool | None, arguments: Any) -> str:
    """Return what a model should have written instead; nothing beyond the outermost level is looked at."""
    if tool is None or not isinstance(arguments, dict):
        return ""
    known = tool.parameters.get("properties", {})
    missing = [name for name in tool.parameters.get("required", ()) if name not in arguments]
    if missing:
        return f"missing: {', '.join(missing)}"
    unknown = [name for name in arguments if name not in known]
    if unknown and (tool.form == "keywords" or tool.parameters.get("additionalProperties") is False):
        return f"unknown: {', '.join(unknown)}"
    for name, value in arguments.items():
        schema = known.get(name, {})
        kinds = schema.get("type", ()) if isinstance(schema, Mapping) else ()
        kinds = [kinds] if isinstance(kinds, str) else list(kinds)
        if kinds and not any(_is(value, kind) for kind in kinds):
            return f"{name} must be of type {' or '.join(kinds)}"
        if "enum" in schema and value not in schema["enum"]:
            return f"{name} must be one of {', '.join(map(str, schema['enum']))}"
    return ""


def unwanted(tool: Tool | None, arguments: Any) -> str:
    """Return what the tool itself says is wrong with arguments that are formally right."""
    if tool is None or tool.check is None:
        return ""
    try:
        with invoke.isolate(f"the check of {tool.name}", "check less"):
            return tool.check(arguments)
    except invoke.ApplicationError as failed:
        return str(failed)


def _is(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(kind, object))


def shown(result: Any) -> str:
    """Return a result as the model is shown it."""
    if result is None:
        return "Done."
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)
    return (
        text
        if len(text) <= MAX_RESULT_CHARACTERS
        else f"{text[:MAX_RESULT_CHARACTERS]} [cut: it has {len(text)} characters]"
    )


def is_deeper(value: Any, levels: int = MAX_NESTING_LEVELS) -> bool:
    """Say whether a value has more levels of lists and dicts than that."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [item for item in layer if isinstance(item, list | dict)]
        if not layer:
            return False
        layer = [inner for item in layer for inner in (item.values() if isinstance(item, dict) else item)]
    return True
