"""Types of the arguments of tools: for each its JSON Schema, and the way from JSON to its value.

What an LLM passes is fitted to the schema first (:mod:`patter_trio.agent.tool_arguments`), so the readers here get
values of the right JSON type only.
"""

import collections
import collections.abc as abstract
import dataclasses
import inspect
import json
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)
from uuid import UUID

import attrs
import msgspec

from patter_trio.agent.docstrings import described
from patter_trio.agent.field_facts import default_of_field, facts_of, is_pydantic_field, with_facts
from patter_trio.agent.pydantic_models import is_pydantic_model, read_by_model, schema_of_model
from patter_trio.agent.tool_arguments import Misfit, fit
from patter_trio.errors import ConfigurationError

Read = Callable[[Any, str], Any]
"""Returns the value for what JSON has, which fits the schema; the text is the argument's name for the LLM."""
Within = tuple[object, ...]
"""The classes that a type is within."""

NO_DEFAULT: Final[Any] = object()
"""The default of an argument that must be passed."""
ABSENT: Final[Any] = object()
"""The default of an argument that may be left out, where no value stands for that."""

_TAKEN: Final = (
    "str, int, float, bool, None, list, tuple, set, dict, Literal, Enum, date, datetime, time, Decimal, UUID, "
    "TypedDict, NamedTuple, a dataclass, a class of attrs, msgspec or pydantic, or made of these"
)
_SCALARS: Final[Mapping[Any, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}
_LISTS: Final[Mapping[Any, Callable[[Iterable[Any]], Any]]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.deque: collections.deque,
    abstract.Sequence: list,
    abstract.MutableSequence: list,
    abstract.Iterable: list,
    abstract.Collection: list,
    abstract.Set: frozenset,
    abstract.MutableSet: set,
}
_DICTS: Final[Mapping[Any, Callable[[Mapping[Any, Any]], Any]]] = {
    dict: dict,
    collections.OrderedDict: collections.OrderedDict,
    abstract.Mapping: dict,
    abstract.MutableMapping: dict,
}
_NULL: Final = {"type": "null"}


def _as_it_is(value: Any, where: str) -> Any:  # noqa: ARG001 (a reader has the name for its errors)
    return value


@attrs.frozen
class Shape:
    """A type as an LLM sees it."""

    schema: dict[str, Any]
    read: Read = _as_it_is


@attrs.frozen
class Argument:
    """A parameter of a function, or a field of a class."""

    name: str
    shape: Shape
    required: bool
    fill: Callable[[], Any] | None = None
    """Makes the default where the function has another one: pydantic's ``Field(default=2)`` is an object, not 2."""


def argument_of(
    name: str, hint: Any, where: str, *, default: Any = NO_DEFAULT, text: str = "", within: Within = ()
) -> Argument:
    """Return a parameter or a field.

    Args:
        name: its name.
        hint: its type.
        where: its name in errors.
        default: its default, :data:`NO_DEFAULT` or :data:`ABSENT`.
        text: its description; empty: that of the hint.
        within: the classes that it is within.

    Raises:
        ConfigurationError: JSON Schema cannot express the type.
    """
    shape = shape_of(hint, where, within)
    fill = None
    # ``Annotated[int, Field(default=2)]`` has the default there.
    fields = [fact for fact in getattr(hint, "__metadata__", ()) if is_pydantic_field(fact)]
    if is_pydantic_field(default):
        shape = Shape(with_facts(shape.schema, facts_of([default])), shape.read)
        fields, default = [default], NO_DEFAULT
    if default is NO_DEFAULT and fields and (fill := default_of_field(fields[0])):
        default = fill()
    schema = shape.schema
    if default is None:
        # To an LLM null means the same as to leave the argument out, and "string or null" is refused by some servers.
        schema = _without_null(schema)
    elif default is not NO_DEFAULT and (known := _json_of(default)) is not NO_DEFAULT:
        schema = {**schema, "default": known}
    schema = {**schema, "description": text} if text else schema
    return Argument(name, Shape(schema, shape.read), default is NO_DEFAULT, fill)


def object_of(arguments: Sequence[Argument], make: Callable[..., Any] = dict) -> Shape:
    """Return the type of an object with these fields; ``make`` gets them by name."""
    required = [argument.name for argument in arguments if argument.required]
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {argument.name: argument.shape.schema for argument in arguments},
        **({"required": required} if required else {}),
        # Closed, which lets an LLM invent fewer arguments.
        "additionalProperties": False,
    }

    def read(value: Any, where: str) -> Any:
        dot = f"{where}." if where else ""
        given = {a.name: a.shape.read(value[a.name], f"{dot}{a.name}") for a in arguments if a.name in value}
        filled = {a.name: a.fill() for a in arguments if a.fill is not None and a.name not in value}
        return _made(lambda fields: make(**fields), {**given, **filled}, where)

    return Shape(schema, read)


def shape_of(hint: Any, where: str, within: Within = ()) -> Shape:
    """Return a type as an LLM sees it.

    Raises:
        ConfigurationError: JSON Schema cannot express the type.
    """
    # Special cases first: a TypedDict is a dict, an Enum of texts is a str, and a datetime is a date.
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        shape = shape_of(arguments[0], where, within)
        return Shape(with_facts(shape.schema, facts_of(arguments[1:])), shape.read)
    if origin in (Required, NotRequired):
        return shape_of(arguments[0], where, within)
    if isinstance(hint, NewType):
        return shape_of(hint.__supertype__, where, within)
    # ``type Day = str``, which Python has from 3.12 on.
    if type(hint).__name__ == "TypeAliasType":
        return shape_of(hint.__value__, where, within)
    if hint is Any or hint is object:
        # An empty schema allows anything.
        return Shape({})
    # By equality with the type, not by ``issubclass``: a bool is an int.
    if hint in _SCALARS:
        return Shape({"type": _SCALARS[hint]}, _to_float if hint is float else _as_it_is)
    if hint in _READ_TEXTS:
        return _READ_TEXTS[hint]
    if origin is Literal:
        return _choice(arguments, where)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _choice(list(hint), where)
    if origin in (Union, types.UnionType):
        return _union([shape_of(argument, where, within) for argument in arguments])
    kind = origin or hint
    if kind in _DICTS:
        return _dict(_DICTS[kind], arguments, where, within)
    if kind in _LISTS:
        return _list(_LISTS[kind], arguments, where, within)
    if isinstance(hint, type):
        if hint in within:
            raise ConfigurationError(f"{where}: {hint.__name__} must not contain itself")
        if is_pydantic_model(hint):
            return Shape(schema_of_model(hint, where), lambda value, name: read_by_model(hint, value, name))
        if (found := _class(hint, where, (*within, hint))) is not None:
            return found
        for scalar in (str, int, float):
            if issubclass(hint, scalar):
                return Shape({"type": _SCALARS[scalar]}, lambda value, name: _made(hint, value, name))
    raise ConfigurationError(f"{where}: the type must be {_TAKEN}, got {hint!r}")


# Texts and numbers ----------------------------------------------------------------------------------------------------
def _made(make: Callable[[Any], Any], value: Any, where: str) -> Any:
    try:
        return make(value)
    except Misfit:
        raise
    # What a constructor raises for a value that it does not take; the text is not for the LLM.
    except (ValueError, TypeError, ArithmeticError) as error:
        raise Misfit(f"{where or 'the arguments'}: it is not valid") from error


def _to_float(value: Any, where: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise Misfit(f"{where} must be a smaller number") from error


def _text_of(make: Callable[[str], Any], schema: dict[str, Any], what: str) -> Shape:
    def read(value: Any, where: str) -> Any:
        try:
            return make(value)
        except (ValueError, ArithmeticError) as error:
            raise Misfit(f"{where} must be {what}") from error

    return Shape(schema, read)


def _to_datetime(text: str) -> datetime:
    # A day alone would be read as midnight, which nobody has said.
    if not text[10:].strip():
        raise ValueError(text)
    return datetime.fromisoformat(text)


_READ_TEXTS: Final[Mapping[Any, Shape]] = {
    date: _text_of(date.fromisoformat, {"type": "string", "format": "date"}, "a date as YYYY-MM-DD"),
    datetime: _text_of(
        _to_datetime, {"type": "string", "format": "date-time"}, "a date and time as YYYY-MM-DDTHH:MM:SS"
    ),
    time: _text_of(time.fromisoformat, {"type": "string", "format": "time"}, "a time as HH:MM"),
    # By its digits: ``Decimal(0.1)`` is not a tenth.
    Decimal: _text_of(lambda value: Decimal(str(value)), {"type": "number"}, "a number"),
    UUID: _text_of(UUID, {"type": "string", "format": "uuid"}, "a UUID"),
}


# Choices --------------------------------------------------------------------------------------------------------------
def _choice(members: Iterable[Any], where: str) -> Shape:
    members = list(members)
    # The values, because JSON has no enum members.
    values = [member.value if isinstance(member, Enum) else member for member in members]
    by_kind: dict[str | None, list[Any]] = {}
    for value in values:
        by_kind.setdefault(_SCALARS.get(type(value)), []).append(value)
    if None in by_kind or not values:
        raise ConfigurationError(f"{where}: the choices must be strings, numbers, booleans or None, got {values!r}")
    # With the type, because True equals 1.
    of_value = {(type(value), value): member for value, member in zip(values, members, strict=True)}
    # With their type, which some vendors require beside the values; with one each, as in any union.
    schemas = [_NULL if kind == "null" else {"type": kind, "enum": some} for kind, some in by_kind.items()]
    return Shape(_any_of(schemas), lambda value, _: of_value[type(value), value])


def _any_of(schemas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    # A list of types would be shorter, and strict servers answer 400 to it.
    return dict(schemas[0]) if len(schemas) == 1 else {"anyOf": [dict(schema) for schema in schemas]}


def _union(shapes: Sequence[Shape]) -> Shape:
    flat = [branch for shape in shapes for branch in (shape.schema.get("anyOf") or [shape.schema])]

    def read(value: Any, where: str) -> Any:
        problems = []
        for shape in shapes:
            # What would have to be changed is meant for another one of the types.
            if _fits_as_it_is(shape.schema, value):
                try:
                    return shape.read(value, where)
                except Misfit as misfit:
                    problems.append(misfit)
        raise problems[0] if problems else Misfit(f"{where} does not fit")

    return Shape(_any_of(flat), read)


def _fits_as_it_is(schema: Mapping[str, Any], value: Any) -> bool:
    try:
        fits = fit(schema, value, "")
    except Misfit:
        return False
    return type(fits) is type(value) and fits == value


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    if "anyOf" not in schema:
        return schema
    rest = [branch for branch in schema["anyOf"] if branch != _NULL]
    return {**_any_of(rest), **{key: value for key, value in schema.items() if key != "anyOf"}} if rest else schema


# Collections ----------------------------------------------------------------------------------------------------------
def _list(make: Callable[[Iterable[Any]], Any], arguments: Sequence[Any], where: str, within: Within) -> Shape:
    if make is tuple and arguments and arguments[-1] is not Ellipsis:
        return _tuple([shape_of(argument, where, within) for argument in arguments])
    # With ``items`` in any case: OpenAI refuses a whole request for an array without them.
    item = shape_of(arguments[0], f"{where}[]", within) if arguments else Shape({})

    def read(value: Any, where: str) -> Any:
        return _made(make, [item.read(one, f"{where}[{place}]") for place, one in enumerate(value)], where)

    return Shape({"type": "array", "items": item.schema}, read)


def _tuple(shapes: Sequence[Shape]) -> Shape:
    schemas: list[dict[str, Any]] = []
    for shape in shapes:
        schemas += [shape.schema] if shape.schema not in schemas else []
    # ``prefixItems`` would be exact, and few vendors know it.
    size = {"minItems": len(shapes), "maxItems": len(shapes)}

    def read(value: Any, where: str) -> Any:
        pairs = enumerate(zip(shapes, value, strict=True))
        return tuple(s.read(fit(s.schema, one, f"{where}[{n}]"), f"{where}[{n}]") for n, (s, one) in pairs)

    return Shape({"type": "array", "items": _any_of(schemas), **size}, read)


def _dict(make: Callable[[Mapping[Any, Any]], Any], arguments: Sequence[Any], where: str, within: Within) -> Shape:
    key_hint, value_hint = arguments or (str, Any)
    # The names in a JSON object are strings; a key of another type is read from one.
    if key_hint is int:
        key = _text_of(int, {"type": "string"}, "an integer")
    else:
        key = shape_of(key_hint, f"the keys of {where}", within)
    if key.schema and key.schema.get("type") != "string":
        raise ConfigurationError(
            f"{where}: the keys must be strings or int, because JSON has no other, got {key_hint!r}"
        )
    item = shape_of(value_hint, where, within)

    def read(value: Any, where: str) -> Any:
        pairs = {
            key.read(fit(key.schema, name, f"a key of {where}"), f"a key of {where}"): item.read(one, f"{where}.{name}")
            for name, one in value.items()
        }
        return make(pairs)

    return Shape({"type": "object", **({"additionalProperties": item.schema} if item.schema else {})}, read)


# Classes --------------------------------------------------------------------------------------------------------------
def _class(hint: Any, where: str, within: Within) -> Shape | None:
    """Return the type of a class with fields; None if it is not such a class."""
    if not (is_typeddict(hint) or dataclasses.is_dataclass(hint) or attrs.has(hint) or _is_named_tuple(hint)) and not (
        issubclass(hint, msgspec.Struct)
    ):
        return None
    try:
        hints = get_type_hints(hint, include_extras=True)
    except (NameError, TypeError) as error:
        raise ConfigurationError(f"{where}: the type hints of {hint.__name__} cannot be read: {error}") from error
    # Not an inherited one; a dataclass and a NamedTuple without a docstring get their signature as one.
    doc = hint.__dict__.get("__doc__") or ""
    text, about = ("", {}) if doc.startswith(f"{hint.__name__}(") else described(inspect.cleandoc(doc))
    arguments = [
        argument_of(
            field.name,
            hints.get(field.attribute, Any),
            f"{where}.{field.name}",
            default=field.default,
            text=about.get(field.attribute, ""),
            within=within,
        )
        for field in _fields(hint, hints)
    ]
    shape = object_of(arguments, hint)
    return Shape({**shape.schema, "description": text} if text else shape.schema, shape.read)


class _Field(NamedTuple):
    name: str
    """The name by which the constructor takes it."""
    attribute: str
    default: Any


def _is_named_tuple(hint: type) -> bool:
    return issubclass(hint, tuple) and hasattr(hint, "_field_defaults")


def _fields(hint: Any, hints: Mapping[str, Any]) -> list[_Field]:
    if is_typeddict(hint):
        # From the class: ``total=False`` and ``NotRequired`` are both in it.
        return [_Field(name, name, NO_DEFAULT if name in hint.__required_keys__ else ABSENT) for name in hints]
    if dataclasses.is_dataclass(hint):
        fields = [field for field in dataclasses.fields(hint) if field.init]
        return [_Field(f.name, f.name, _default(f.default, f.default_factory, dataclasses.MISSING)) for f in fields]
    if attrs.has(hint):
        return [
            _Field(f.alias or f.name, f.name, ABSENT if isinstance(f.default, attrs.Factory) else _default(f.default))  # type: ignore[arg-type]
            for f in attrs.fields(hint)
            if f.init
        ]
    if issubclass(hint, msgspec.Struct):
        return [
            _Field(f.name, f.name, _default(f.default, f.default_factory, msgspec.NODEFAULT))
            for f in msgspec.structs.fields(hint)
        ]
    return [_Field(name, name, hint._field_defaults.get(name, NO_DEFAULT)) for name in hint._fields]


def _default(default: Any, factory: Any = attrs.NOTHING, none: Any = attrs.NOTHING) -> Any:
    """Return a field's default, where a library has ``none`` for a field without one."""
    if default is none:
        return NO_DEFAULT if factory is none else ABSENT
    return default


def _json_of(value: Any) -> Any:
    """Return a default as JSON has it.

    :data:`NO_DEFAULT` if JSON has nothing for it: only the function knows it then.
    """
    if isinstance(value, Enum):
        return _json_of(value.value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal):
        return float(value)
    if _is_named_tuple(type(value)):
        return {name: _json_of(item) for name, item in value._asdict().items()}
    try:
        # Decoded again, so that a list of the function's is not shared with the schema.
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return NO_DEFAULT
