"""Methods that show the parameters of what they make, and that say where an option belongs which they do not take."""

import inspect
import math
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from patter_trio.providers.other_names import check_keywords, keywords_of

_P = ParamSpec("_P")
_R = TypeVar("_R")


def with_parameters_of(
    make: Callable[_P, _R],
) -> Callable[[Callable[..., _R]], Callable[Concatenate[Any, _P], _R]]:
    """Give a method the parameters of ``make``, and append their descriptions to its docstring.

    Type checkers and editors read the parameters from ``_P``; ``help`` and :func:`inspect.signature` read them from the
    attributes set here.
    """

    def decorate(method: Callable[..., _R]) -> Callable[Concatenate[Any, _P], _R]:
        myself, *_ = inspect.signature(method).parameters.values()
        taken = inspect.signature(make)
        method.__signature__ = taken.replace(  # type: ignore[attr-defined]
            parameters=[myself, *taken.parameters.values()], return_annotation=make
        )
        _, heading, options = inspect.cleandoc(make.__doc__ or "").partition("\n\nArgs:")
        method.__doc__ = f"{method.__doc__}{heading}{options}"
        return method

    return decorate


def with_hints(
    places: Callable[[], Mapping[str, str]] = dict,
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Let a function say where an unknown option belongs, or which one was probably meant.

    Args:
        places: returns where each option of a method's class and of its neighbours belongs.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        known = keywords_of(function)
        owner = function.__qualname__.removesuffix(".__init__")
        most, by_name = _places_of(function)

        # Not ``async`` for ``serve``: an unknown option is an error of the call, as Python's own is, and not of its
        # await.
        @wraps(function)
        def checked(*arguments: _P.args, **options: _P.kwargs) -> _R:
            if options.keys() - known:
                check_keywords(owner, options, known, places())
            if len(arguments) > most and by_name:
                # Python's own words, and the names that it leaves out.
                raise TypeError(
                    f"{owner}() takes {most} positional arguments but {len(arguments)} were given; these must be given "
                    f"by name: {', '.join(f'{name}=' for name in by_name)}"
                )
            return function(*arguments, **options)

        return checked

    return decorate


def _places_of(function: Callable[..., Any]) -> tuple[float, list[str]]:
    """Return how many arguments a function takes by position at most, and the names of those that it takes by name."""
    taken = inspect.signature(function).parameters.values()
    by_name = [one.name for one in taken if one.kind is one.KEYWORD_ONLY]
    if any(one.kind is one.VAR_POSITIONAL for one in taken):
        return math.inf, by_name
    return sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in taken), by_name
