"""Phone numbers in logs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.server.masking import mask_number


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("+15551234567", "+1555***4567"),
        ("+4930123456", "+493***3456"),
        ("1234567", "***4567"),
        ("123456", "***"),
        ("anonymous", "***"),
        ("sip:alice@example.com", "***"),
        ("", ""),
    ],
)
def test_numbers_show_their_ends_and_anything_else_nothing(number: str, shown: str) -> None:
    assert mask_number(number) == shown


@given(st.from_regex(r"\+?[0-9]{7,15}", fullmatch=True))
def test_at_least_three_digits_are_always_hidden(number: str) -> None:
    shown = mask_number(number)
    assert sum(c.isdigit() for c in shown) <= sum(c.isdigit() for c in number) - 3
