"""The arguments of tools, as models write them."""

import json
from typing import Any

import pytest

from patter_trio.call.tools.values import arguments_of


@pytest.mark.parametrize("text", ["", " ", "\n", "\t\r\n", "null", " null ", "{}", "[]", '""', '" "', '"null"', '"{}"'])
def test_empty_arguments_are_an_empty_object(text: str) -> None:
    """Arguments that say nothing are an empty object, in whatever way a model writes them."""
    assert arguments_of(text) == ({}, "")


@pytest.mark.parametrize("arguments", [{"day": "Monday"}, {}, {"day": '"so"', "nested": {"a": [1]}}])
def test_arguments_encoded_twice_are_decoded(arguments: dict[str, Any]) -> None:
    """Arguments that a model encoded twice are decoded once more."""
    assert arguments_of(json.dumps(json.dumps(arguments))) == (arguments, "")


@pytest.mark.parametrize("text", ["no", "{", "3", "true", "[1]", '"no"', '"3"', '"[1]"', '"' + "[" * 5000, "[" * 5000])
def test_other_arguments_come_back_with_an_error(text: str) -> None:
    """Anything else is returned as it is, with an error message."""
    arguments, error = arguments_of(text)
    assert arguments == text
    assert error in ("the arguments are not valid JSON", "the arguments are not a JSON object")
