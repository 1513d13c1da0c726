"""Validators of providers' options; each error names the class, the argument and the valid values."""

from typing import Any

from patter_trio.errors import ConfigurationError
from patter_trio.logs import shown_url


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
        if not isinstance(value, str) or not (empty or value):
            what = "a string" if empty else "a string that is not empty"
            raise ConfigurationError(f"{type(owner).__name__}: {attribute.name}= must be {what}, got {value!r}")

    return check


def socket_base(owner: object, attribute: Any, value: object) -> None:
    """Check that a value is the address of a WebSocket, as an attrs validator."""
    # The scheme alone: the rest is judged when it is connected to.
    if not isinstance(value, str) or not value.startswith(("ws://", "wss://")):
        raise ConfigurationError(
            f"{type(owner).__name__}: {attribute.name} must begin with ws:// or wss://, got {shown_url(value)}"
        )
