"""Damaged messages of carriers' streams, for the tests of all codecs."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import strategies as st

from patter_trio.abc import StreamCodec
from patter_trio.errors import WireError

NOT_MESSAGES: list[tuple[str | bytes, str]] = [
    ("", "JSON"),
    ("{", "JSON"),
    ('{"event":"media","x":' + "[" * 100_000, "JSON"),
    ("\ud800", "JSON"),
    ("[]", "field"),
    ("{}", "field"),
    ('{"event": "media"}', "field"),
    (b"\x00\xff", "binary"),
]
"""What is no message of any carrier's stream, each with a word of the refusal."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def refuses_unquoted(codec: StreamCodec, message: str | bytes, reason: str) -> None:
    """Expect that a codec refuses a message for a reason, without quoting what it says."""
    with pytest.raises(WireError, match=reason) as refused:
        codec.receive(message)
    assert "secret" not in str(refused.value)


@st.composite
def spoilt(draw: st.DrawFn, messages: Sequence[object]) -> str:
    """Draw a message with one value replaced or deleted, at any depth, and perhaps without a slice of its text."""
    whole = json.loads(json.dumps(draw(st.sampled_from(messages))))
    place: Any = whole
    key = draw(st.sampled_from(sorted(place)))
    while isinstance(place[key], dict) and draw(st.booleans()):
        place = place[key]
        key = draw(st.sampled_from(sorted(place)))
    if draw(st.booleans()):
        place[key] = draw(JSON)
    else:
        del place[key]
    text = json.dumps(whole)
    if draw(st.booleans()):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + text[draw(st.integers(start, len(text))) :]
    return text
