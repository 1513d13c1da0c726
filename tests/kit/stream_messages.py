"""Damaged messages of carriers' streams, for the tests of all codecs."""

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


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
