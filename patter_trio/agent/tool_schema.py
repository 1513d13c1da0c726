"""Signatures of tools: JSON Schema from type hints, and the way from JSON back to the types that the hints name."""

import inspect
import types
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, get_type_hints

import attrs

from patter_trio.agent.argument_types import NO_DEFAULT, Argument, Shape, argument_of, object_of
from patter_trio.agent.tool_arguments import is_of_type
from patter_trio.errors import ConfigurationError

_RECEIVERS: Final = ("self", "cls")
_VALUES: Final = frozenset({"enum", "const", "default", "examples", "required"})
_BY_NAME: Final = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_ABOUT: Final = frozenset({"description", "title", "default", "examples"})


@attrs.frozen
class Signature:
    """The part of a function's signature that an LLM fills."""

    schema: Mapping[str, Any]
    read: Callable[[Mapping[str, Any]], dict[str, Any]]
    """Returns the keyword arguments for what an LLM passed, if that fits ``schema``.

    It raises :class:`~patter_trio.agent.tool_arguments.Misfit` for what no schema can tell, such as 30 February.
    """


def function_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that has name, docstring and hints: within a partial, or an object's ``__call__``."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    # What functools.cache returns is an object, and has the function.
    if hasattr(function, "__wrapped__"):
        unwrapped: Callable[..., Any] = inspect.unwrap(function)
        return unwrapped
    # The class's: its ``__call__`` has the hints, and the instance is callable by it alone.
    return getattr(type(function), "__call__", function)  # noqa: B004 (not a test whether it can be called)


def is_of_method(function: Callable[..., Any]) -> bool:
    """Return True for a function in a class body: its first parameter is the object, which no LLM can pass."""
    if not isinstance(function, types.FunctionType):
        return False
    first = next(iter(inspect.signature(function).parameters.values()), None)
    return first is not None and first.name in _RECEIVERS and first.annotation is first.empty


def signature_of(function: Callable[..., Any], about: Mapping[str, str], *, leave_out: str) -> Signature:
    """Return what an LLM may pass to a function, which is everything but the parameter named ``leave_out``.

    Args:
        function: the function.
        about: descriptions of parameters, by name.
        leave_out: the parameter that the LLM does not see.

    Raises:
        ConfigurationError: a parameter has no type hint that JSON Schema can express, or cannot be passed by name.
    """
    source = function_of(function)
    name = getattr(source, "__qualname__", repr(source))
    try:
        # ``include_extras``: the text in ``Annotated`` is a description.
        hints = get_type_hints(source, include_extras=True)
    # ``NameError``: a hint as text that names something imported only for type checking.
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise ConfigurationError(f"the type hints of {name} cannot be read: {error}") from error
    # What a partial passes is decided, and not for the LLM to change.
    decided = {leave_out, *(function.keywords if isinstance(function, partial) else ())}
    arguments: list[Argument] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in decided:
            continue
        where = f"{name}({parameter.name})"
        # Arguments arrive as a JSON object, so each needs a name.
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigurationError(
                f"{where}: a tool's parameters must allow passing by name, got {parameter.kind.description}"
            )
        if parameter.name not in hints:
            raise ConfigurationError(f"{where} must have a type hint, which tells the LLM what to pass")
        default = NO_DEFAULT if parameter.default is parameter.empty else parameter.default
        text = about.get(parameter.name, "")
        arguments.append(argument_of(parameter.name, hints[parameter.name], where, default=default, text=text))
    shape: Shape = object_of(arguments)
    return Signature(shape.schema, lambda given: shape.read(given, ""))


def without_type_lists(schema: Any) -> Any:
    """Return a schema in which each ``"type"`` is one type: strict servers refuse ``["string", "null"]``.

    What it allows stays the same. It is for schemas that an application wrote; ours have no such list.
    """
    if isinstance(schema, list | tuple):
        return [without_type_lists(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    plain = {key: _plain(key, item) for key, item in schema.items()}
    kinds = plain.get("type")
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds) or "anyOf" in plain:
        return plain
    about = {key: item for key, item in plain.items() if key in _ABOUT}
    rules = {key: item for key, item in plain.items() if key not in _ABOUT and key != "type"}
    branches = [branch for kind in kinds if (branch := _of_type(kind, rules))]
    if not branches:
        return plain
    return {**branches[0], **about} if len(branches) == 1 else {"anyOf": branches, **about}


def _plain(key: str, item: Any) -> Any:
    if key in _VALUES:
        return item
    # Names of properties are not keywords: one may be "type".
    if key in _BY_NAME and isinstance(item, Mapping):
        return {name: without_type_lists(inner) for name, inner in item.items()}
    return without_type_lists(item)


def _of_type(kind: str, rules: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of one type of a list; an empty one if the choices have none of this type."""
    if isinstance(rules.get("enum"), list | tuple):
        choices = [choice for choice in rules["enum"] if is_of_type(choice, kind)]
        if not choices:
            return {}
        rules = {**rules, "enum": choices}
    # Rules for other types do not apply: a minLength says nothing about null.
    return {"type": kind} if kind == "null" else {"type": kind, **rules}
