"""Validators of providers' options; each error names the class, the argument and the valid values."""

from typing import Any

from patter_trio.errors import ConfigurationError
from patter_trio.net.urls import checked_url


def in_range(least: float, most: float, *, optional: bool = True) -> Any:
    """Return an attrs validator that accepts numbers from ``least`` to ``most``, and with ``optional`` also None."""

    def check(owner: object, attribute: Any, value: object) -> None:
        if value is None and optional:
            return
        # A bool is an int for Python. NaN fails the comparison.
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ConfigurationError(
                f"{type(owner).__name__}: {attribute.name}= must be from {least:g} to {most:g}, got {value!r}"
            )

    return check


def positive(*, none: str = "") -> Any:
    """Return an attrs validator that accepts numbers above 0, and None if ``none`` says what that means."""

    def check(owner: object, attribute: Any, value: object) -> None:
        if value is None and none:
            return
        if not is_number_above_zero(value):
            instead = f", or None for {none}" if none else ""
            raise ConfigurationError(
                f"{type(owner).__name__}: {attribute.name}= must be a number above 0{instead}, got {value!r}"
            )

    return check


def is_number_above_zero(value: object) -> bool:
    """Return True for a finite or infinite number above 0."""
    # A bool is an int for Python. NaN fails the comparison.
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def one_of(*allowed: object) -> Any:
    """Return an attrs validator that accepts one of these values."""

    def check(owner: object, attribute: Any, value: object) -> None:
        # By equality, so that None can be one of them.
        if value not in allowed:
            choice = ", ".join(map(repr, allowed))
            raise ConfigurationError(
                f"{type(owner).__name__}: {attribute.name}= must be one of {choice}, got {value!r}"
            )

    return check


def is_text(*, empty: bool = True, optional: bool = False) -> Any:
    """Return an attrs validator that accepts strings: without ``empty`` no empty one, with ``optional`` also None."""

    def check(owner: object, attribute: Any, value: object) -> None:
        if value is None and optional:
            return
        if not isinstance(value, str) or not (empty or value.strip()):
            what = "a string" if empty else "a string that is not empty"
            raise ConfigurationError(f"{type(owner).__name__}: {attribute.name}= must be {what}, got {value!r}")

    return check


def base_url(*schemes: str) -> Any:
    """Return an attrs validator that accepts URLs with one of these schemes, to which paths can be appended."""

    def check(owner: object, attribute: Any, value: object) -> None:
        check_base(value, f"{type(owner).__name__}: {attribute.name}=", *schemes)

    return check


def check_base(url: object, what: str, *schemes: str) -> None:
    """Check that a URL has one of these schemes, and that paths can be appended to it.

    Raises:
        ConfigurationError: it does not; the message begins with ``what``.
    """
    beginnings = " or ".join(f"{scheme}://" for scheme in schemes)
    checked_url(url, what, f"a URL that begins with {beginnings}", schemes, is_base=True)
