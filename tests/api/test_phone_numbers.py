"""Phone numbers in logs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.phone_numbers import mask_number, mask_numbers, shown_id


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
    """mask_number() shows both ends of a phone number with *** between them, and *** for any other text."""
    assert mask_number(number) == shown


@given(st.from_regex(r"\+?[0-9]{7,15}", fullmatch=True))
def test_at_least_three_digits_are_always_hidden(number: str) -> None:
    """mask_number() hides at least three digits of each number with 7 to 15 digits."""
    shown = mask_number(number)
    assert sum(c.isdigit() for c in shown) <= sum(c.isdigit() for c in number) - 3


@pytest.mark.parametrize(
    ("call_id", "shown"),
    [
        ("CA0123456789abcdef", "CA0123456789abcdef"),
        ("v3:a-b_c.d", "v3:a-b_c.d"),
        ("CA1\nWARNING call CA2: forged", "'CA1\\nWARNING call CA2: forged'"),
        ("x" * 100, repr("x" * 64)),
        ("", "''"),
    ],
)
def test_unusual_call_ids_are_quoted_and_truncated(call_id: str, shown: str) -> None:
    """The log shows a well-formed call id as it is, and quotes and truncates anything else."""
    assert shown_id(call_id) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("KeyError: '+15551234567'", "KeyError: '+1555***4567'"),
        ("from +15551234567 to +4930123456.", "from +1555***4567 to +493***3456."),
        ("sip:+15551234567@example.com", "sip:+1555***4567@example.com"),
        (
            "call CA00000000000000000000000000000001: 16000000 samples",
            "call CA00000000000000000000000000000001: 16000000 samples",
        ),
        ("1+15551234567 and +12345 and +1234567890123456", "1+15551234567 and +12345 and +1234567890123456"),
    ],
)
def test_only_phone_numbers_in_text_are_masked(text: str, shown: str) -> None:
    """Masking hides the phone numbers within a text and leaves everything else as it is."""
    assert mask_numbers(text) == shown
