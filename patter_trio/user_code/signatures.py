"""Signatures of the application's functions: their names, and the arguments they take."""

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

CONTROL_PARAMETER: Final = "call_control"
"""Name of the second parameter that receives the call's control even if it has a default."""


def name_of(function: object) -> str:
    """Return the name of the application's function for log lines."""
    # A functools.partial, or an object with __call__, has no name of its own.
    return getattr(function, "__qualname__", None) or repr(function)


def is_plain(function: object) -> bool:
    """Return True if calling the function runs all of it: it is not a coroutine or an async generator function."""
    return not is_of_kind(function, inspect.iscoroutinefunction, inspect.isasyncgenfunction)


def is_of_kind(function: object, *kinds: Callable[[object], bool]) -> bool:
    """Return True if one of the tests, such as :func:`inspect.isgeneratorfunction`, holds for what a call would run."""
    while isinstance(function, functools.partial):
        function = function.func
    # An object that can be called is what the method of its class is.
    method = None if inspect.isroutine(function) else inspect.getattr_static(type(function), "__call__", None)
    return any(is_kind(one) for is_kind in kinds for one in (function, method))


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Return the parameters of the application's function; None for a built-in function without a signature."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        # What inspect raises for built-ins without a signature; nothing is wrong with them.
        return None


def positional(parameters: Iterable[inspect.Parameter] | None) -> list[inspect.Parameter]:
    """Return the parameters that can be given by position; ``*arguments`` is not included."""
    return [p for p in parameters or () if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def takes_extra_argument(taken: Sequence[inspect.Parameter], name: str) -> bool:
    """Return True if the second positional parameter is the framework's to fill.

    A parameter with a default belongs to the application and keeps the default, unless its name is ``name``.
    """
    return len(taken) > 1 and (taken[1].default is inspect.Parameter.empty or taken[1].name == name)


def takes_call_control(function: Callable[..., Any]) -> bool:
    """Return True if a callback takes the call's control: if it has a second positional parameter that must be given.

    A parameter with a default belongs to the application and keeps the default, unless its name is ``call_control``. A
    function that takes any number of arguments (``*arguments``) gets only the event.
    """
    return takes_extra_argument(positional(parameters_of(function)), CONTROL_PARAMETER)


def takes_at_most_one(function: Callable[..., Any]) -> bool:
    """Return True if a function can be called with no argument or with one by position, as its signature wants.

    A built-in function without a signature counts as one that can.
    """
    must = [
        one
        for one in parameters_of(function) or ()
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    return len(must) <= 1 and all(one.kind is not one.KEYWORD_ONLY for one in must)
