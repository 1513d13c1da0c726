"""What an LLM writes as arguments, fitted to a schema: what has one meaning is corrected, and the rest is explained."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.agent.tool_arguments import Misfit, fitted
from patter_trio.agent.tool_schema import without_type_lists

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
KEYWORDS = ("type", "properties", "required", "items", "enum", "anyOf", "minimum", "maxLength", "pattern", "const")


def schema_of(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


TEXT = {"type": "string"}
NUMBER = {"type": "number"}
WHOLE = {"type": "integer"}
TEXT_OR_NULL = {"anyOf": [TEXT, {"type": "null"}]}
GUEST = schema_of(("name",), name=TEXT, room=WHOLE)


@pytest.mark.parametrize(
    ("schema", "written", "fits"),
    [
        (schema_of(n=WHOLE), {"n": 2.0}, {"n": 2}),
        (schema_of(n=WHOLE), {"n": -0.0}, {"n": 0}),
        (schema_of(n={"type": "integer", "enum": [1, 2]}), {"n": 2.0}, {"n": 2}),
        (schema_of(n={"anyOf": [WHOLE, {"type": "null"}]}), {"n": 3.0}, {"n": 3}),
        (schema_of(n={"anyOf": [WHOLE, NUMBER]}), {"n": 3.0}, {"n": 3.0}),
        (schema_of(n={"anyOf": [TEXT, WHOLE]}), {"n": 3.0}, {"n": 3}),
        (schema_of(n={"type": ["integer", "null"]}), {"n": 3.0}, {"n": 3}),
        (schema_of(rooms={"type": "array", "items": WHOLE}), {"rooms": [1.0, 2]}, {"rooms": [1, 2]}),
        (schema_of(guest=GUEST), {"guest": {"name": "x", "room": 2.0}}, {"guest": {"name": "x", "room": 2}}),
        (schema_of(of={"type": "object", "additionalProperties": WHOLE}), {"of": {"x": 1.0}}, {"of": {"x": 1}}),
        # Null is absence, unless it is a value.
        (schema_of(tongue=TEXT), {"tongue": None}, {}),
        (schema_of(tongue=TEXT_OR_NULL), {"tongue": None}, {"tongue": None}),
        (schema_of(tongue={"type": ["string", "null"]}), {"tongue": None}, {"tongue": None}),
        (schema_of(tongue={"enum": ["en", None]}), {"tongue": None}, {"tongue": None}),
        (schema_of(tongue={}), {"tongue": None}, {"tongue": None}),
        (schema_of(guest=GUEST), {"guest": {"name": "x", "room": None}}, {"guest": {"name": "x"}}),
        (schema_of(("tongue",), tongue=TEXT_OR_NULL), {}, {"tongue": None}),
        # Unknown arguments are left out.
        (schema_of(), {"reason": "The caller said goodbye."}, {}),
        (schema_of(), {"_": ""}, {}),
        (schema_of(("name",), name=TEXT), {"name": "x", "reason": "y"}, {"name": "x"}),
        (schema_of(guest=GUEST), {"guest": {"name": "x", "_": 1}}, {"guest": {"name": "x"}}),
        # Schemas that an application wrote.
        ({}, {"anything": 1}, {}),
        (schema_of(x={"$ref": "#/$defs/X"}), {"x": [1]}, {"x": [1]}),
        (schema_of(x={"type": "colour"}), {"x": [1]}, {"x": [1]}),
        (schema_of(x={"pattern": "(?<", "type": "string"}), {"x": "y"}, {"x": "y"}),
        (schema_of(x=True), {"x": 1}, {"x": 1}),
        ({"type": "object", "properties": {"x": TEXT}, "required": True}, {"x": "y"}, {"x": "y"}),
    ],
)
def test_unambiguous_tool_arguments_are_corrected(schema: Any, written: dict[str, Any], fits: dict[str, Any]) -> None:
    """2.0 is 2, null is absence, and an argument that does not exist says nothing."""
    found = fitted(schema, written, closed=True)
    # As text, because 2 equals 2.0.
    assert repr(found) == repr(fits)


@pytest.mark.parametrize(
    ("schema", "written", "problem"),
    [
        (schema_of(("day", "name"), day=TEXT, name=TEXT), {}, "missing: day, name"),
        (schema_of(("day",), day=TEXT), {"date": "x"}, "missing: day; unknown: date"),
        (schema_of(guest=GUEST), {"guest": {}}, "missing: guest.name"),
        (schema_of(("day",), day=TEXT), {"day": None}, "day must be of type string"),
        (schema_of(n=WHOLE), {"n": 2.5}, "n must be of type integer"),
        (schema_of(n=WHOLE), {"n": "2"}, "n must be of type integer"),
        (schema_of(n=WHOLE), {"n": True}, "n must be of type integer"),
        (schema_of(n=WHOLE), {"n": float("inf")}, "n must be of type integer"),
        (schema_of(n=NUMBER), {"n": float("nan")}, "n must be of type number"),
        (schema_of(n={"enum": [1]}), {"n": True}, "n must be one of 1"),
        (schema_of(n={"type": "integer", "minimum": 1}), {"n": 0}, "n must be at least 1"),
        (schema_of(n={"type": "number", "exclusiveMaximum": 1.5}), {"n": 1.5}, "n must be less than 1.5"),
        (schema_of(x={"type": "string", "maxLength": 2}), {"x": "abc"}, "x must have at most 2 characters"),
        (schema_of(x={"type": "array", "minItems": 1}), {"x": []}, "x must have at least 1 items"),
        (schema_of(x={"type": "string", "pattern": "^[0-9]+$"}), {"x": "a"}, r"x must match ^[0-9]+$"),
        (schema_of(rooms={"type": "array", "items": WHOLE}), {"rooms": [1, "a"]}, "rooms[1] must be of type integer"),
        (schema_of(guest=GUEST), {"guest": {"name": "x", "room": "y"}}, "guest.room must be of type integer"),
        (schema_of(guests={"type": "array", "items": GUEST}), {"guests": [{}]}, "missing: guests[0].name"),
        (schema_of(x={"anyOf": [TEXT, WHOLE]}), {"x": []}, "x must be of type string or integer"),
        (schema_of(x={"anyOf": [GUEST, {"type": "null"}]}), {"x": {}}, "missing: x.name"),
        (schema_of(x={"anyOf": [{"enum": ["a"], "type": "string"}, WHOLE]}), {"x": "b"}, "x must be one of a"),
        # A misspelt argument is not nothing: its value would be lost.
        (schema_of(tongue=TEXT), {"tonge": "de"}, "unknown: tonge; did you mean tongue?"),
        (schema_of(room_number=WHOLE), {"roomNumber": 2}, "unknown: roomNumber; did you mean room_number?"),
    ],
)
def test_wrong_tool_arguments_are_explained(schema: Any, written: dict[str, Any], problem: str) -> None:
    """The LLM learns which argument is wrong, wherever it stands, and what it must be."""
    with pytest.raises(Misfit) as info:
        fitted(schema, written, closed=True)
    assert str(info.value) == problem


def test_open_schema_keeps_unknown_arguments() -> None:
    """A handler that takes all arguments as one dict gets those that its schema does not forbid."""
    assert fitted({"type": "object", "properties": {"day": TEXT}}, {"reason": 1}, closed=False) == {"reason": 1}


@given(arguments=st.dictionaries(st.text(max_size=5), JSON, max_size=4), schema=JSON, closed=st.booleans())
def test_any_schema_fits_or_says_why(arguments: dict[str, Any], schema: Any, closed: bool) -> None:
    """Whatever an application wrote as a schema, the answer is arguments or a text, and never another exception."""
    properties = {name: dict.fromkeys(KEYWORDS[place % 3 :: 2], schema) for place, name in enumerate(arguments)}
    whole = {"type": "object", "properties": properties, "required": schema}
    with suppress(Misfit):
        assert fitted(whole, arguments, closed=closed).keys() <= {*arguments}
    json.dumps(without_type_lists(whole))


@given(st.dictionaries(st.sampled_from("abc"), st.integers() | st.text(max_size=3) | st.booleans()))
def test_valid_tool_arguments_stay_unchanged(arguments: dict[str, Any]) -> None:
    """Arguments that fit are the same afterwards, and fit again."""
    kinds = {int: "integer", str: "string", bool: "boolean"}
    schema = schema_of(tuple(arguments), **{name: {"type": kinds[type(item)]} for name, item in arguments.items()})
    found = fitted(schema, arguments, closed=True)
    assert json.dumps(found) == json.dumps(arguments)
    assert fitted(schema, found, closed=True) == found
