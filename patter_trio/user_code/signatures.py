"""What the signatures of the application's functions say: their names, and which arguments they take."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

CONTROL_PARAMETER: Final = "call_control"
"""A second parameter of this name gets the control of the call also where it has a default."""


def name_of(function: object) -> str:
    """Return what to call the application's function in a log line."""
    return getattr(function, "__qualname__", None) or repr(function)


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Return what a function of the application's takes; None where it is built in, and has no signature."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def positional(parameters: Iterable[inspect.Parameter] | None) -> list[inspect.Parameter]:
    """Return those that may be given by position; ``*arguments`` is none."""
    return [p for p in parameters or () if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def takes_extra_argument(taken: Sequence[inspect.Parameter], name: str) -> bool:
    """Say whether the second positional parameter is ours to give.

    One with a default is the application's own and is left to it, unless it is called ``name``.
    """
    return len(taken) > 1 and (taken[1].default is inspect.Parameter.empty or taken[1].name == name)


def takes_call_control(function: Callable[..., Any]) -> bool:
    """Say whether a callback takes the call's control: whether its second positional parameter must be given.

    A parameter with a default is the application's own and is left to it, unless it is called ``call_control``. One
    that takes any number of arguments (``*arguments``) gets the event alone.
    """
    return takes_extra_argument(positional(parameters_of(function)), CONTROL_PARAMETER)
