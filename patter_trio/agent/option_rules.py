"""The rules for single options of an agent: what each accepts, and what is made of it."""

from collections.abc import Mapping
from typing import Any

import attrs

from patter_trio.abc import VoiceActivity
from patter_trio.defaults import default_vad
from patter_trio.errors import ConfigurationError
from patter_trio.logs import shown_value


def check_seconds(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    """Raise ConfigurationError unless an option is a number of seconds above 0."""
    # NaN fails the comparison, too; a bool is an int to Python, and a mistake here. 0 could mean "at once" or "never".
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigurationError(
            f"{attribute.name} must be a number of seconds above 0, or None for never, got {value!r}"
        )


def check_whole(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    """Raise ConfigurationError unless an option is a whole number of at least 0."""
    # A fraction of a millisecond is most often a number of seconds.
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0 or value % 1:
        unit = " of milliseconds" if attribute.name.endswith("_ms") else ""
        raise ConfigurationError(f"{attribute.name} must be a whole number{unit} of at least 0, got {value!r}")


def instance_of(kind: type) -> Any:
    """Return a check that raises ConfigurationError unless an option has a type."""

    # Not attrs' own: its TypeError shows the whole value, which may be a secret.
    def check(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        if not isinstance(value, kind):
            raise ConfigurationError(f"{attribute.name} must be a {kind.__name__}, got {shown_value(value)}")

    return check


def check_words(_: object, attribute: "attrs.Attribute[Any]", value: str) -> None:
    """Raise ConfigurationError if an option is a text of white space alone."""
    if value and not value.strip():
        raise ConfigurationError(f"{attribute.name} must have words, or be empty for none; got {value!r}")


def vad_of(given: VoiceActivity | None) -> VoiceActivity:
    """Return the VAD of an agent; the default without one."""
    # A default for each agent rather than one for all: the models behind it are shared anyway.
    return default_vad() if given is None else given


def variables_of(given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the variables of an agent; none without a dict of them."""
    # A copy, because the application may reuse its dict for the next agent. The validator reports other types.
    return {} if given is None else dict(given) if isinstance(given, Mapping) else given


def check_names(_: object, attribute: "attrs.Attribute[Any]", value: Mapping[object, Any]) -> None:
    """Raise ConfigurationError unless the keys of an option are strings."""
    for name in value:
        if not isinstance(name, str):
            raise ConfigurationError(f"{attribute.name} must have strings as names, got {name!r}")
