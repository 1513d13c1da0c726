"""The split of a test's parameters between the default run and ``--deep``."""

from collections.abc import Iterable
from typing import Any

import pytest


def few(values: Iterable[Any], by_default: int) -> list[Any]:
    """Return parameters: the first ``by_default`` run always, the others only with ``--deep``."""
    return [value if number < by_default else _deep(value) for number, value in enumerate(values)]


def chosen(values: Iterable[Any], by_default: Iterable[Any]) -> list[Any]:
    """Return parameters: those named run always, the others only with ``--deep``."""
    always = list(by_default)
    return [value if value in always else _deep(value) for value in values]


def _deep(value: Any) -> Any:
    # A parameter set has an id and marks of its own, which must not be lost.
    if isinstance(value, type(pytest.param())):
        return value._replace(marks=(*value.marks, pytest.mark.deep))
    values = value if isinstance(value, tuple) else (value,)
    return pytest.param(*values, marks=pytest.mark.deep)
