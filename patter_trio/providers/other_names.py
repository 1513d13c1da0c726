"""Options by the names of getpatter, so that a program written for it needs no other keywords here.

The published names are those of getpatter 0.6 and 0.7 (https://pypi.org/project/getpatter/). An option with a meaning
here is passed on by our name; one without is accepted with one warning, because a program that was moved must run.
"""

import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final, TypeVar

from patter_trio.errors import did_you_mean

_PACKAGE: Final = __name__.partition(".")[0] + "."
# Judged: two lines of a terminal. phone.call has 10 options, phone.agent more than 40.
MAX_LISTED_OPTIONS: Final = 16
"""Most options that the error about an unknown one lists."""
Class = TypeVar("Class", bound=type)
Means = str | Callable[[Any], Mapping[str, Any]]
"""Our name of an option, or a function that returns our options from its value."""


def other_names(
    *,
    means: Mapping[str, Means] | None = None,
    no_effect: Mapping[str, str] | None = None,
    elsewhere: Mapping[str, str] | None = None,
) -> Callable[[Class], Class]:
    """Return a decorator for a class that accepts options by other names, too.

    Args:
        means: what each other name stands for. A value of None, getpatter's default, leaves our default.
        no_effect: why each further option changes nothing here.
        elsewhere: where each option belongs that is not one of this class.
    """
    translated, ignored, foreign = dict(means or {}), dict(no_effect or {}), dict(elsewhere or {})

    def decorate(cls: Class) -> Class:
        own: Callable[..., None] = cls.__dict__["__init__"]
        known = keywords_of(own)

        # The signature stays that of the class: help() and the reference show our names only.
        @wraps(own)
        def init(self: Any, *arguments: Any, **options: Any) -> None:
            if translated.keys() & options.keys() or ignored.keys() & options.keys():
                options = _translated(cls.__name__, options, translated, ignored)
            if options.keys() - known:
                check_keywords(cls.__name__, options, known, foreign)
            own(self, *arguments, **options)

        # ``setattr``, because a type checker knows that a class of attrs has another ``__init__``.
        setattr(cls, "__init__", init)  # noqa: B010 (see above)
        return cls

    return decorate


def keywords_of(function: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the parameters that a function takes by keyword."""
    return frozenset(inspect.signature(function).parameters) - {"self"}


def check_keywords(owner: str, options: Mapping[str, Any], known: frozenset[str], elsewhere: Mapping[str, str]) -> None:
    """Check that ``known`` has the names of all options.

    Args:
        owner: name of the class or function that gets the options.
        options: the options.
        known: the names that it takes.
        elsewhere: where each option belongs that another class or function takes.

    Raises:
        TypeError: an option is unknown; the message says where it belongs, or which name was probably meant.
    """
    for name in options:
        if name in known:
            continue
        # Python's own words, which programs and their authors know; its hint exists for names in code only.
        hint = f": it belongs to {elsewhere[name]}" if name in elsewhere else did_you_mean(name, sorted(known))
        # A word of another library resembles none of ours: then all are shown, where they fit into a few lines.
        if not hint and len(known) <= MAX_LISTED_OPTIONS:
            hint = f"; it takes {', '.join(f'{one}=' for one in sorted(known))}"
        raise TypeError(f"{owner}() got an unexpected keyword argument {name!r}{hint}")


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the program that calls into this package, however deep below it the reason is found."""
    # A frame without a module's name is an ``__init__`` that attrs has made.
    frame, level = sys._getframe(), 1  # noqa: SLF001 (warnings has skip_file_prefixes from Python 3.12 on only)
    while frame.f_back is not None and frame.f_globals.get("__name__", _PACKAGE).startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _translated(
    owner: str, options: Mapping[str, Any], means: Mapping[str, Means], ignored: Mapping[str, str]
) -> dict[str, Any]:
    ours = {name: value for name, value in options.items() if name not in means and name not in ignored}
    for name in means.keys() & options.keys():
        value, meaning = options[name], means[name]
        if value is None:
            continue
        found = {meaning: value} if isinstance(meaning, str) else meaning(value)
        twice = sorted(found.keys() & ours.keys() - {"extra"})
        if twice:
            raise TypeError(f"{owner}: {twice[0]}= and {name}= must not both be given, for they mean the same")
        # Options that a server of one's own knows are collected, whichever way they are given.
        ours |= found if "extra" not in found else {"extra": {**ours.get("extra", {}), **found["extra"]}}
    reasons: dict[str, list[str]] = {}
    for name in ignored:
        # Not for None and False, with which getpatter leaves an option out.
        if options.get(name):
            reasons.setdefault(ignored[name], []).append(f"{name}=")
    for why, names in reasons.items():
        have = "has" if len(names) == 1 else "have"
        warn(f"{owner}: {', '.join(names)} {have} no effect: {why}")
    return ours
