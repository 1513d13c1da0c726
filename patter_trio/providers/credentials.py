"""Credentials: taken from an argument, else from the environment."""

import os
import re

from patter_trio.errors import ConfigurationError


class MissingCredentialError(ConfigurationError):
    """A credential that is neither given nor in the environment."""


def credential(given: str | None, *, owner: str, argument: str, variable: str) -> str:
    """Return the given credential, else the value of the environment variable.

    Raises:
        MissingCredentialError: both are missing; the message names the class, its argument and the variable.
    """
    # An empty argument counts as not given, so that ``api_key=os.environ.get(...)`` falls back, too.
    value = given or os.environ.get(variable, "")
    if not value:
        raise MissingCredentialError(f"{owner}: {argument}= must be given, or the environment variable {variable} set")
    return value


def not_a_model(key: str, *, owner: str, pattern: re.Pattern[str]) -> str:
    """Return the key, unless it is the name of a model: the first argument of a provider is the key, not the model.

    Raises:
        ConfigurationError: the key has the form of a model's name.
    """
    if pattern.fullmatch(key):
        raise ConfigurationError(f"{owner}: api_key must be a key, got the name of a model; write model={key!r}")
    return key
