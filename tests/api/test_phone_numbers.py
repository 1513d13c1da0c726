"""Phone numbers: which can be dialled, and how logs show them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.errors import ConfigurationError
from patter_trio.phone_numbers import checked_destination, checked_number, mask_number, mask_numbers, shown_id


@pytest.mark.parametrize(
    "number",
    ["+15550100003", "+442079460000", "+33123456789", "+4930123456", "+390612345678", "+2250123456789"],
)
def test_numbers_from_abroad_can_be_dialled(number: str) -> None:
    """Numbers as they are dialled from abroad pass, also fictional ones, and zeros that belong to a number (Italy)."""
    assert checked_number(number, "to") == checked_destination(number) == number


@pytest.mark.parametrize(
    ("number", "why"),
    [
        ("+4402079460000", r"dialled only within the country; from abroad it is \+442079460000"),
        ("+440207946000", "dialled only within the country"),
        ("+330123456789", r"from abroad it is \+33123456789"),
        ("+610291234567", "dialled only within the country"),
        ("+11550100003", "no area code of North America begins with 0 or 1"),
        ("+10234567890", "no area code of North America begins with 0 or 1"),
        ("+155501000031", "too long"),
        ("+15550100", "lacks its area code"),
        ("+999123456789", "no country has the code 999$"),
    ],
)
def test_impossible_numbers_are_refused(number: str, why: str) -> None:
    """A number that nobody can have is refused, for calls and for transfers, and the message says why."""
    with pytest.raises(ConfigurationError, match=why):
        checked_number(number, "to")
    with pytest.raises(ConfigurationError, match=f"the destination of a transfer must be a number .*{why}"):
        checked_destination(number)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("+1555", r"to must be E.164, from 7 to 15 digits behind the plus, got '\+1555', which is too short"),
        ("+1911", r"to must be E.164, from 7 to 15 digits behind the plus, got '\+1911', which is too short"),
        ("+1234567890123456", "to must be E.164, from 7 to 15 digits .*, which is too long"),
        ("+1 555", r"to must be E.164, a plus, .* without spaces, such as \+1 and ten digits, got"),
        (5, "to must be E.164, a plus"),
    ],
)
def test_wrong_form_is_named(number: Any, said: str) -> None:
    """A text of the wrong length is told its length; the description of the form survives the masking of logs."""
    with pytest.raises(ConfigurationError, match=said) as raised:
        checked_number(number, "to")
    assert mask_numbers(str(raised.value)).partition("got")[0] == str(raised.value).partition("got")[0]


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
        ("1+15551234567 and +12345 and +1234567890123456", "1+1555***4567 and +12345 and +1234***3456"),
        ("x+15550100001", "x+1555***0001"),
        ("GET /lookup?To=%2B15550100001&a=1", "GET /lookup?To=%2B1555***0001&a=1"),
        ("%2b1%20555%20010%200001", "%2b1555***0001"),
        ("Decimal('15550100001')", "Decimal('1555***0001')"),
        ("5550100001", "555***0001"),
        ("0015550100001", "0015***0001"),
        ("+1 555 010 0001", "+1555***0001"),
        ("+1-555-010-0001", "+1555***0001"),
        ("+1 (555) 010-0001, 3 calls", "+1555***0001, 3 calls"),
        ("(555) 010-0001", "555***0001"),
        ("555.010.0001", "555***0001"),
        ("+1555010 0001", "+1555***0001"),
        ("\uff0b15550100001", "\uff0b1555***0001"),
        ("0049 171 1234567", "0049***4567"),
        ("0171 1234567", "0171***4567"),
        ("(030) 123456-78", "0301***5678"),
        ("01 23 45 67 89", "012***6789"),
        ("020 7946 0958", "0207***0958"),
        ("+44 20 7946 0958 in 20 ms", "+4420***0958 in 20 ms"),
        ("+15551234567 20.5 s late", "+1555***4567 20.5 s late"),
        ("from +15551234567, +49 30 123456", "from +1555***4567, +493***3456"),
        ("2026-11-30 15:27:53", "2026-11-30 15:27:53"),
        ("1764500000.123 s, 0.12345678901 s", "1764500000.123 s, 0.12345678901 s"),
        ("192.168.100.200:54321 took 262144 bytes", "192.168.100.200:54321 took 262144 bytes"),
        ("123e4567-e89b-1234-5678-426614174000", "123e4567-e89b-1234-5678-426614174000"),
    ],
)
def test_only_phone_numbers_in_text_are_masked(text: str, shown: str) -> None:
    """Masking hides the phone numbers within a text and leaves everything else as it is."""
    assert mask_numbers(text) == shown


FORMS = [
    "+{n}",
    "%2B{n}",
    "{n}",
    "00{n}",
    "+{a} {b} {c} {d}",
    "+{a}-{b}-{c}-{d}",
    "+{a} ({b}) {c}-{d}",
    "({b}) {c}-{d}",
]


@pytest.mark.parametrize("call_id", ["00000000-0000-4000-8000-000000000001", "01234567-8901-2345-6789-012345678901"])
def test_uuid_of_digits_alone_is_shown(call_id: str) -> None:
    """A call's id that is a UUID stays whole, so that grep finds it, although it has the digits of a number."""
    assert mask_numbers(f"call {call_id}: ended") == f"call {call_id}: ended"


@given(st.from_regex(r"[2-9][0-9]{9}", fullmatch=True), st.sampled_from(FORMS))
def test_no_form_of_a_number_stays_whole(number: str, form: str) -> None:
    """A North American number hides at least three digits, in each form in which people write it."""
    text = form.format(n="1" + number, a="1", b=number[:3], c=number[3:6], d=number[6:])
    shown = mask_numbers(f"no customer has {text!r}")
    assert "***" in shown
    assert sum(c.isdigit() for c in shown) <= sum(c.isdigit() for c in text) - 3


@given(st.text(alphabet="0123456789+-. ()%2B/", max_size=200))
def test_masking_any_text_adds_no_digit(text: str) -> None:
    """Masking accepts any text, and never adds a digit."""
    shown = mask_numbers(text)
    assert sum(c.isdigit() for c in shown) <= sum(c.isdigit() for c in text)
