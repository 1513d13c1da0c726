"""The arguments of a tool as an LLM writes them, fitted to the tool's JSON Schema; pure functions.

LLMs write what means the same in different ways: ``2.0`` for 2, ``null`` for an argument that they leave out, an
argument that does not exist. Whatever has one meaning is corrected here, so that no caller waits for a second attempt.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

Schema = Mapping[str, Any]

# Judged: "roomNumber" is close to "room_number" (0.86), "reason" is close to nothing that a tool calls an argument.
CLOSE_NAMES: Final = 0.75
"""Similarity, from 0 to 1, from which an unknown argument counts as another one misspelt."""

_KINDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}
# The keyword, the comparison that must hold between value and limit, and the words for it.
_LIMITS: Final[tuple[tuple[str, Callable[[Any, Any], bool], str], ...]] = (
    ("minimum", lambda value, limit: value >= limit, "at least"),
    ("maximum", lambda value, limit: value <= limit, "at most"),
    ("exclusiveMinimum", lambda value, limit: value > limit, "more than"),
    ("exclusiveMaximum", lambda value, limit: value < limit, "less than"),
)
_SIZES: Final[Mapping[type, tuple[str, str, str]]] = {
    str: ("minLength", "maxLength", "characters"),
    list: ("minItems", "maxItems", "items"),
}


class Misfit(ValueError):
    """A value does not fit; the text says why, for the LLM."""


def fitted(schema: Schema, arguments: Mapping[str, Any], *, closed: bool) -> dict[str, Any]:
    """Return arguments as the schema has them.

    Args:
        schema: the schema of an object.
        arguments: what the LLM wrote.
        closed: leave out arguments that the schema does not know, whether it forbids them or not.

    Raises:
        Misfit: they do not fit.
    """
    return _object({**schema, "additionalProperties": False} if closed else schema, arguments, "")


def fit(schema: Any, value: Any, where: str) -> Any:
    """Return a value as the schema has it; ``where``: the value's name for the LLM.

    Raises:
        Misfit: it does not fit.
    """
    # A schema may also be True, and one that the application wrote may be anything: what is not understood allows all.
    if not isinstance(schema, Mapping):
        return value
    if branches := _branches(schema):
        value = _one_of(branches, value, where)
    value = _of_kind(schema, value, where)
    value = _chosen(schema, value, where)
    _check_limits(schema, value, where)
    if isinstance(value, dict):
        return _object(schema, value, where)
    if isinstance(value, list) and "items" in schema:
        return [fit(schema["items"], item, f"{where}[{place}]") for place, item in enumerate(value)]
    return value


def _kinds_of(schema: Schema) -> list[str]:
    kinds = schema.get("type")
    return [kinds] if isinstance(kinds, str) else [kind for kind in _list(kinds) if isinstance(kind, str)]


def _branches(schema: Schema) -> Sequence[Any]:
    return _list(schema.get("anyOf")) or _list(schema.get("oneOf"))


def _list(value: Any) -> Sequence[Any]:
    """Return a keyword's list; an empty one for anything else that an application may have written there."""
    return value if isinstance(value, list | tuple) else ()


def is_of_type(value: object, kind: str) -> bool:
    """Return True if a value has a type of JSON Schema; a type that JSON Schema does not have is everything's."""
    # First, because bool is a subclass of int: true is not a number in JSON.
    if isinstance(value, bool):
        return kind == "boolean"
    # JSON Schema counts 2.0 as an integer, and some LLMs write it.
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    # Python reads NaN and Infinity, which are not JSON.
    if kind == "number" and isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, _KINDS.get(kind, object))


def _of_kind(schema: Schema, value: Any, where: str) -> Any:
    kinds = _kinds_of(schema)
    if kinds and not any(is_of_type(value, kind) for kind in kinds):
        raise Misfit(f"{where} must be of type {' or '.join(kinds)}")
    # ``range(2.0)`` raises, so an integer becomes an int.
    if isinstance(value, float) and "integer" in kinds and "number" not in kinds and value.is_integer():
        return int(value)
    return value


def _chosen(schema: Schema, value: Any, where: str) -> Any:
    choices = _list(schema.get("enum")) or ([schema["const"]] if "const" in schema else [])
    if not choices:
        return value
    for choice in choices:
        # 1 equals True for Python. The choice itself is returned: 2.0 is 2.
        if choice == value and isinstance(choice, bool) == isinstance(value, bool):
            return choice
    raise Misfit(f"{where} must be one of {', '.join(map(str, choices))}")


def _one_of(branches: Sequence[Any], value: Any, where: str) -> Any:
    # A branch that takes the value as it is comes first: 2.0 is a number before it is an integer.
    found, problems = [], []
    for branch in branches:
        try:
            fits = fit(branch, value, where)
        except Misfit as problem:
            if not isinstance(branch, Mapping) or any(is_of_type(value, kind) for kind in _kinds_of(branch)):
                problems.append(problem)
        else:
            if type(fits) is type(value) and fits == value:
                return fits
            found.append(fits)
    if found:
        return found[0]
    # The branch of the right type says what is wrong; without one, the types are what is wrong.
    if len(problems) == 1:
        raise problems[0]
    kinds = {kind: None for branch in branches if isinstance(branch, Mapping) for kind in _kinds_of(branch)}
    raise Misfit(f"{where} must be of type {' or '.join(kinds)}" if kinds and not problems else f"{where} does not fit")


def _check_limits(schema: Schema, value: Any, where: str) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        for keyword, holds, words in _LIMITS:
            limit = schema.get(keyword)
            # Draft 4 had true and false here.
            if isinstance(limit, int | float) and not isinstance(limit, bool) and not holds(value, limit):
                raise Misfit(f"{where} must be {words} {limit:g}")
    least, most, unit = _SIZES.get(type(value), ("", "", ""))
    if unit and len(value) < _limit(schema, least, 0):
        raise Misfit(f"{where} must have at least {schema[least]} {unit}")
    if unit and len(value) > _limit(schema, most, math.inf):
        raise Misfit(f"{where} must have at most {schema[most]} {unit}")
    if isinstance(value, str) and not _matches(schema.get("pattern"), value):
        raise Misfit(f"{where} must match {schema['pattern']}")


def _limit(schema: Schema, keyword: str, otherwise: float) -> float:
    limit = schema.get(keyword, otherwise)
    return limit if isinstance(limit, int | float) else otherwise


def _matches(pattern: Any, value: str) -> bool:
    try:
        return not isinstance(pattern, str) or re.search(pattern, value) is not None
    # JSON Schema has the regular expressions of JavaScript; one that Python cannot read is not checked.
    except re.error:
        return True


def _object(schema: Schema, value: Mapping[str, Any], where: str) -> dict[str, Any]:
    known = schema.get("properties")
    known = known if isinstance(known, Mapping) else {}
    required = [name for name in _list(schema.get("required")) if isinstance(name, str)]
    value = {
        name: item
        for name, item in value.items()
        # Null for an argument that may be absent means that it is, unless null is one of its values.
        if item is not None or name in required or name not in known or _takes_null(known[name])
    }
    rest = schema.get("additionalProperties", True)
    unknown = [] if rest is not False else [name for name in value if name not in known]
    within = f"{where}." if where else ""
    missing = [f"{within}{name}" for name in required if name not in value and not _may_lack(known.get(name))]
    if missing:
        also = f"; unknown: {', '.join(unknown)}" if unknown else ""
        raise Misfit(f"missing: {', '.join(missing)}{also}")
    absent = [name for name in known if name not in value]
    for name in unknown:
        # What is meant for another argument must not be lost. What means nothing, such as a reason for the end of the
        # call, is left out: the call need not wait until the LLM has left it out itself.
        if meant := get_close_matches(name, absent, 1, CLOSE_NAMES):
            raise Misfit(f"unknown: {within}{name}; did you mean {meant[0]}?")
    fits = {
        name: fit(known.get(name, rest), item, f"{within}{name}") for name, item in value.items() if name not in unknown
    }
    # Required, and left out by an LLM for which that is the same as null.
    return {**fits, **{name: None for name in required if name not in fits}}


def _takes_null(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return True
    if branches := _branches(schema):
        return any(_takes_null(branch) for branch in branches)
    if choices := _list(schema.get("enum")):
        return None in choices
    kinds = _kinds_of(schema)
    return not kinds or "null" in kinds


def _may_lack(schema: Any) -> bool:
    """Return True if a required argument may be absent, which then means null."""
    branches = _branches(schema) if isinstance(schema, Mapping) else ()
    return any(isinstance(branch, Mapping) and _kinds_of(branch) == ["null"] for branch in branches)
