"""Credentials: taken from an argument, else from the environment."""

import os

from patter_trio.errors import ConfigurationError


def credential(given: str | None, *, owner: str, argument: str, variable: str) -> str:
    """Return the given credential, else the value of the environment variable.

    Raises:
        ConfigurationError: both are missing; the message names the class, its argument and the variable.
    """
    # An empty argument counts as not given, so that ``api_key=os.environ.get(...)`` falls back, too.
    value = given or os.environ.get(variable, "")
    if not value:
        raise ConfigurationError(f"{owner}: {argument}= must be given, or the environment variable {variable} set")
    return value
