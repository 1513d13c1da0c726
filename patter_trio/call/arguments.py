"""The arguments of a tool's call, as a model wrote them: read, and held against what the tool asks for."""

import json
from collections.abc import Mapping
from typing import Any, Final

from patter_trio.tools import Tool

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


def _is(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(kind, object))
