"""JSON Schema from type hints, and descriptions from Google-style docstrings."""

import inspect
import json
import re
import types
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from patter_trio.errors import ConfigurationError

_SCALARS: Final[Mapping[Any, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}
# Only the headings of Google style, each alone on its line: a sentence may begin with one of these words.
_SECTION: Final = re.compile(
    r"(Args|Arguments|Parameters|Returns|Yields|Raises|Examples?|Notes?|Attributes|Warnings?|See Also|Todo):\s*"
)
# With an optional type in brackets, which is ignored: the hint is the truth.
_ARGUMENT: Final = re.compile(r"(?P<name>\*{0,2}\w+)\s*(\([^)]*\))?:\s*(?P<text>.*)")


def described(docstring: str) -> tuple[str, dict[str, str]]:
    """Return the text of a docstring before its sections, and its description of each argument."""
    text: list[str] = []
    about: dict[str, str] = {}
    section, indent, name = "", 0, ""
    for line in docstring.splitlines():
        stripped = line.strip()
        # A heading is not indented; the same word in an argument's description is.
        if line == line.lstrip() and _SECTION.fullmatch(stripped):
            section, indent, name = stripped.rstrip(":"), 0, ""
        elif not section:
            text.append(stripped)
        elif section in ("Args", "Arguments", "Parameters") and stripped:
            depth = len(line) - len(line.lstrip())
            # The first argument sets the indentation; deeper lines continue its text.
            indent = indent or depth
            found = _ARGUMENT.fullmatch(stripped) if depth <= indent else None
            if found:
                # ``*rest`` and ``**options`` are documented with their stars.
                name = found["name"].lstrip("*")
                about[name] = found["text"]
            elif name:
                about[name] = f"{about[name]} {stripped}".strip()
    # Paragraphs stay apart and lines are joined: docstrings are wrapped, an LLM's description is not.
    paragraphs = "\n".join(text).strip().split("\n\n")
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs), about


def schema_of_parameters(function: Callable[..., Any], about: Mapping[str, str], *, leave_out: str) -> dict[str, Any]:
    """Return the schema of a function's parameters, without the one named ``leave_out``.

    Raises:
        ConfigurationError: a parameter has no type hint that JSON Schema can express, or cannot be passed by name.
    """
    name = getattr(function, "__qualname__", repr(function))
    try:
        # ``include_extras``: the text in ``Annotated`` is a description.
        hints = get_type_hints(function, include_extras=True)
    # ``NameError``: a hint as text that names something imported only for type checking.
    except (NameError, TypeError) as error:
        raise ConfigurationError(f"the type hints of {name} cannot be read: {error}") from error
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == leave_out:
            continue
        where = f"{name}({parameter.name})"
        # Arguments arrive as a JSON object, so each needs a name.
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigurationError(
                f"{where}: a tool's parameters must allow passing by name, got {parameter.kind.description}"
            )
        if parameter.name not in hints:
            raise ConfigurationError(f"{where} must have a type hint, which tells the LLM what to pass")
        schema = schema_of(hints[parameter.name], where)
        if about.get(parameter.name):
            schema["description"] = about[parameter.name]
        if parameter.default is parameter.empty:
            required.append(parameter.name)
        # None is left out: for an LLM it means the same as omitting the argument.
        elif parameter.default is not None and _is_json(parameter.default):
            schema["default"] = parameter.default
        properties[parameter.name] = schema
    whole: dict[str, Any] = {"type": "object", "properties": properties}
    # Closed: a model that invents an argument gets an error that it can correct, and the handler a TypeError never.
    return {**whole, **({"required": required} if required else {}), "additionalProperties": False}


def schema_of(hint: Any, where: str) -> dict[str, Any]:
    """Return the schema of a type.

    Raises:
        ConfigurationError: JSON Schema cannot express the type.
    """
    # Special cases first: a TypedDict is a dict, an Enum of texts is a str, and a str is a sequence.
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        schema = schema_of(arguments[0], where)
        # The first text; other annotations are of other libraries.
        text = next((more for more in arguments[1:] if isinstance(more, str)), "")
        return {**schema, "description": text} if text else schema
    if origin in (Required, NotRequired):
        return schema_of(arguments[0], where)
    if hint is Any:
        # An empty schema allows anything.
        return {}
    # By equality with the type, not by ``issubclass``: a bool is an int.
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    if origin is Literal:
        return _choice(list(arguments), where)
    if isinstance(hint, type) and issubclass(hint, Enum):
        # The values, because JSON has no enum members.
        return _choice([member.value for member in hint], where)
    if origin in (Union, types.UnionType):
        # None in a union is the type "null".
        return _union([schema_of(argument, where) for argument in arguments])
    kind = origin or hint
    if is_typeddict(hint):
        return _typed_dict(hint, where)
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return {"type": "object", **({"additionalProperties": schema_of(arguments[1], where)} if arguments else {})}
    # Bytes are sequences of numbers for Python; JSON has no bytes.
    if isinstance(kind, type) and issubclass(kind, Sequence) and kind not in (bytes, bytearray, memoryview):
        return {"type": "array", **({"items": schema_of(arguments[0], where)} if arguments else {})}
    raise ConfigurationError(
        f"{where}: the type must be str, int, float, bool, list, dict or Literal, or made of these, got {hint!r}"
    )


def _choice(values: list[Any], where: str) -> dict[str, Any]:
    # With the type, which some vendors require beside the values.
    kinds = {_SCALARS.get(type(value)) for value in values}
    if None in kinds or not values:
        raise ConfigurationError(f"{where}: the choices must be strings, numbers, booleans or None, got {values!r}")
    return {"type": kinds.pop() if len(kinds) == 1 else sorted(str(kind) for kind in kinds), "enum": values}


def _union(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    # One list of types is shorter, and every vendor understands it; ``anyOf`` is not understood by all.
    if all(set(schema) == {"type"} and isinstance(schema["type"], str) for schema in schemas):
        return {"type": [schema["type"] for schema in schemas]}
    return {"anyOf": schemas}


def _typed_dict(hint: Any, where: str) -> dict[str, Any]:
    fields = get_type_hints(hint, include_extras=True)
    properties = {name: schema_of(field, f"{where}.{name}") for name, field in fields.items()}
    # From the class: ``total=False`` and ``NotRequired`` are both in it.
    required = [name for name in fields if name in hint.__required_keys__]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    # A default that JSON cannot express is left out of the schema; the function still has it.
    except (TypeError, ValueError):
        return False
    return True
