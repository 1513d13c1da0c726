"""Oracles from vendors' own types: also unknown keys and unknown literals count, which the types themselves let pass.

Import this module after the ``importorskip`` of the vendor's package, which brings pydantic.
"""

from __future__ import annotations

import typing
import warnings
from functools import cache
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError


def complaints(model: Any, message: Any, place: str = "") -> list[str]:
    """Return a model's complaints about a message, including unknown keys and texts that are not among its literals."""
    try:
        with warnings.catch_warnings():
            # pydantic warns about vendors' models themselves; that is not what is judged.
            warnings.simplefilter("ignore")
            parsed = TypeAdapter(model).validate_python(message)
    except ValidationError as error:
        return [f"{place}{one['loc']}: {one['msg']}" for one in error.errors()]
    return _unknown(parsed, place)


def _unknown(parsed: Any, place: str) -> list[str]:
    if isinstance(parsed, list):
        return [one for number, item in enumerate(parsed) for one in _unknown(item, f"{place}[{number}]")]
    if not isinstance(parsed, BaseModel):
        return []
    # Vendors' models let unknown keys pass, for the sake of newer servers; for us each is a misspelling.
    found = [f"{place}.{name}: unknown" for name in parsed.model_extra or {}]
    for name, field in type(parsed).model_fields.items():
        value = getattr(parsed, name)
        # An open enumeration is a union of literals and ``str``: the type takes any text, the documentation does not.
        literals = [one for one in typing.get_args(field.annotation) if typing.get_origin(one) is typing.Literal]
        known = [value for one in literals for value in typing.get_args(one)]
        if known and isinstance(value, str) and value not in known:
            found.append(f"{place}.{name}: {value!r} is none of {known}")
        found += _unknown(value, f"{place}.{name}")
    return found


def members(union: Any) -> dict[str, type[BaseModel]]:
    """Return the models of a union by their ``type``."""
    while typing.get_origin(union) is typing.Annotated:
        union = typing.get_args(union)[0]
    return {typing.get_args(one.model_fields["type"].annotation)[0]: one for one in typing.get_args(union)}


@cache
def instances(annotation: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for JSON that a vendor's type allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        required: dict[str, st.SearchStrategy[Any]] = {}
        optional: dict[str, st.SearchStrategy[Any]] = {}
        for name, field in annotation.model_fields.items():
            key, kind = field.alias or name, typing.cast("Any", field.annotation)
            # A field with a fixed default is a tag such as ``type``: any other value would be another message.
            if field.default is not None and not field.is_required():
                required[key] = st.just(field.default)
            else:
                (required if field.is_required() else optional)[key] = instances(kind)
        return st.fixed_dictionaries(required, optional=optional)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return instances(arguments[0])
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is typing.Union:
        # From an open enumeration only its known values: unknown ones are a test of their own.
        literals = [one for one in arguments if typing.get_origin(one) is typing.Literal]
        return st.one_of(*(instances(one) for one in literals or arguments))
    if origin is list:
        return st.lists(instances(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(st.text(max_size=3), instances(arguments[1]), max_size=2)
    simple = {
        str: st.text(max_size=8),
        int: st.integers(0, 50),
        float: st.floats(0, 1e5),
        bool: st.booleans(),
        type(None): st.none(),
        object: st.none() | st.text(max_size=3),
        Any: st.none(),
    }
    return simple[annotation]
