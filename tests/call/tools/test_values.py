"""The arguments of tools, as models write them, and their results, as models read them."""

import json
import tracemalloc
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.call.tools.levels import ITEMS_AT_ONCE, is_too_deep
from patter_trio.call.tools.values import (
    MAX_NESTING_LEVELS,
    MAX_RESULT_CHARACTERS,
    arguments_of,
    is_deeper,
    shown,
)

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.dates()
RESULTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner),
)


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


@given(RESULTS, st.integers(1, 4000))
def test_results_are_the_begin_of_json(value: Any, count: int) -> None:
    """A short result is its JSON; of a long one there is the begin, and a note that it was cut."""
    for result in (value, [value] * count, {"rows": [value] * count, "text": 'é"\n' * count}):
        if isinstance(result, str) or result is None:
            continue
        whole = json.dumps(result, ensure_ascii=False, default=str)
        note = f" [cut: it has more than {MAX_RESULT_CHARACTERS} characters]"
        cut = whole[:MAX_RESULT_CHARACTERS] + note
        assert shown(result) == (whole if len(whole) <= MAX_RESULT_CHARACTERS else cut)


def test_texts_and_nothing_as_results() -> None:
    """A text is given as it is, a long one with its length; nothing is a word that says that it is done."""
    assert shown(None) == "Done."
    assert shown("open") == "open"
    assert shown("x" * 20_000) == "x" * MAX_RESULT_CHARACTERS + " [cut: it has 20000 characters]"


class Counted:
    """An object without a JSON form, which counts how often it was made to text."""

    def __init__(self) -> None:
        self.count: int = 0

    def __str__(self) -> str:
        self.count += 1
        return "x"


@pytest.mark.parametrize(
    "large",
    [
        "x" * 50_000_000,
        ["x" * 50_000_000],
        {"text": "x" * 50_000_000},
        {"rows": [{"number": 7}] * 5_000_000},
        [[[1, 2, 3]] * 1000] * 5000,
        [1] * 5_000_000,
        [2**4000] * 100_000,
        b"x" * 50_000_000,
        [bytearray(50_000_000)],
        [set(range(300_000))],
        [frozenset(range(300_000))],
    ],
    ids=lambda value: type(value).__name__,
)
def test_large_results_cost_what_small_ones_do(large: Any) -> None:
    """The text of a result of 50 MB takes less than 2 MB of memory, so that what is left out was never made."""
    tracemalloc.start()
    try:
        text = shown(large)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert text[MAX_RESULT_CHARACTERS:].startswith(" [cut: it has ")
    assert most < 2_000_000


def test_objects_behind_the_limit_are_left_alone() -> None:
    """Of a million objects of the application's, only those are made to text that the LLM may see."""
    one = Counted()
    assert shown([one] * 1_000_000).startswith('["x", "x", ')
    assert MAX_RESULT_CHARACTERS // len('"x", ') <= one.count <= MAX_RESULT_CHARACTERS + 1


async def test_long_results_let_others_run() -> None:
    """While the levels of a long result are counted, another task runs after each slice of items."""
    runs = 0

    async def other() -> None:
        nonlocal runs
        while True:
            await trio.lowlevel.checkpoint()
            runs += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert not await is_too_deep({"rows": [[1, 2]] * 100_000})
        nursery.cancel_scope.cancel()
    # One less or two: the other task begins a step later.
    assert runs >= 300_000 // ITEMS_AT_ONCE - 2


async def test_results_may_change_while_levels_are_counted() -> None:
    """A dict that belongs to the application, and gets a key while others run, is counted to its end."""
    table: dict[int, list[int]] = {number: [] for number in range(2 * ITEMS_AT_ONCE)}

    async def booked() -> None:
        while True:
            table[len(table)] = []
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(booked)
        assert not await is_too_deep(table)
        nursery.cancel_scope.cancel()


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [1, {"inner": value}] if levels % 2 else [value]
    return value


async def test_levels_are_counted() -> None:
    """A value with 64 levels is fit, one with 65 is not, wherever they are; nor is one that contains itself."""
    assert not is_deeper(nested(MAX_NESTING_LEVELS))
    assert is_deeper(nested(MAX_NESTING_LEVELS + 2))
    assert is_deeper([1, [2], nested(5000)])
    itself: list[Any] = []
    itself.extend([itself, itself, itself])
    assert await is_too_deep(itself)
    assert await is_too_deep(nested(MAX_NESTING_LEVELS + 2))
    assert not await is_too_deep(nested(MAX_NESTING_LEVELS))
    assert not await is_too_deep("text")
