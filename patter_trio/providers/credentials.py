"""Credentials: taken from an argument, else from the environment."""

import os
import re

from patter_trio.errors import ConfigurationError


class MissingCredentialError(ConfigurationError):
    """A credential that is neither given nor in the environment."""


def credential(given: str | None, *, owner: str, argument: str, variable: str, in_header: bool = True) -> str:
    """Return the given credential, else the value of the environment variable; ``in_header``: a header has it as it is.

    Raises:
        MissingCredentialError: both are missing; the message names the class, its argument and the variable.
        ConfigurationError: the credential cannot be sent in a header.
    """
    # An empty argument counts as not given, so that ``api_key=os.environ.get(...)`` falls back, too.
    value = given or os.environ.get(variable, "")
    if not value:
        raise MissingCredentialError(f"{owner}: {argument}= must be given, or the environment variable {variable} set")
    return sendable(value, owner=owner, argument=argument) if in_header else value


def previous_secret(given: str | None) -> str:
    """Return the secret before or after a credential while it is changed; empty: the credential stands alone.

    Raises:
        ConfigurationError: it is not a string.
    """
    # None: ``os.environ.get(...)`` of a variable that is set only while the secret is changed.
    if given is not None and not isinstance(given, str):
        raise ConfigurationError(f"a previous secret must be a string, got {type(given).__name__}")
    return given or ""


def sendable(value: str, *, owner: str, argument: str) -> str:
    """Return a credential, which may be empty, after checking that a header can carry it.

    Raises:
        ConfigurationError: it is not a string, or has characters that no header may have, or a space. The message does
            not show it.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"{owner}: {argument}= must be a string, got {type(value).__name__}")
    # Most often a line break at the end of a file, or a typographic dash. A library's own error would quote it.
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigurationError(f"{owner}: {argument}= must be printable ASCII without spaces or line breaks")
    return value


def not_a_model(key: str, *, owner: str, pattern: re.Pattern[str]) -> str:
    """Return the key, unless it is the name of a model: the first argument of a provider is the key, not the model.

    Raises:
        ConfigurationError: the key has the form of a model's name.
    """
    if pattern.fullmatch(key):
        raise ConfigurationError(f"{owner}: api_key must be a key, got the name of a model; write model={key!r}")
    return key
