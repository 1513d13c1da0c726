"""Credentials: given, or else in the environment."""

import os

from patter_trio.errors import ConfigurationError


def credential(given: str | None, *, owner: str, argument: str, variable: str) -> str:
    """Return what was given, else what the environment has under ``variable``.

    Raises:
        ConfigurationError: there is neither; the message names the class, its argument and the variable.
    """
    value = given or os.environ.get(variable, "")
    if not value:
        raise ConfigurationError(f"{owner}: give {argument}= or set the environment variable {variable}")
    return value
