"""Helpers of the error messages: what is quoted of a peer, and how a provider is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.errors import MAX_REPORTED_CHARACTERS, did_you_mean, full_name, reported


@given(st.text(max_size=3000))
def test_reported_text_is_one_short_line(text: str) -> None:
    """Whatever a peer says, a quotation of it is one printable line of at most 300 characters."""
    quoted = reported(text)
    assert quoted.isprintable()
    assert len(quoted) <= MAX_REPORTED_CHARACTERS == 300


@pytest.mark.parametrize(
    ("said", "quoted"),
    [
        ("no such  model\r\nFATAL forged", "no such model FATAL forged"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("Incorrect API key provided: sk-proj-abc123.", "Incorrect API key provided: …"),
        ("Authorization: Bearer abcdef123", "Authorization: …"),
        ("Token 0123456789abcdef0123456789abcdef01234567 is unknown", "Token … is unknown"),
        ("Call CA0123456789abcdef0123456789abcdef is over", "Call CA0123456789abcdef0123456789abcdef is over"),
        ("x" * 299 + " sk-secret", "x" * 299 + " "),
        ("x" * 301, "x" * 300),
    ],
    ids=["lines", "escapes", "key", "bearer", "hexadecimal", "call", "cut-key", "long"],
)
def test_reported_text_has_no_keys_and_lines(said: str, quoted: str) -> None:
    """A quotation has no line break, escape sequence or key of the peer's text; an id of a call stays."""
    assert reported(said) == quoted


@pytest.mark.parametrize(
    ("provider", "model", "name"),
    [("openai", "gpt-4o", "openai gpt-4o"), ("Own", "Own", "Own"), ("own", "", "own"), ("", "", "")],
    ids=["both", "same", "no-model", "nameless"],
)
def test_full_name_names_nothing_twice(provider: str, model: str, name: str) -> None:
    """A provider whose model has its own name is named once."""
    assert full_name(provider, model) == name


def test_hint_names_the_closest_or_nothing() -> None:
    """A misspelt name gets the closest known one as a hint, and a name unlike all of them none."""
    assert did_you_mean("frist", ["first", "last"]) == " (did you mean first?)"
    assert did_you_mean("elephant", ["first", "last"]) == ""
