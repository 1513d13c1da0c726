"""Server-sent events from bytes: the standard's examples, any cut, any garbage, and bounded sizes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.errors import WireError
from patter_trio.wire.sse import EventDecoder, ServerEvent


def decoded(*pieces: bytes, largest: int = 1000) -> list[ServerEvent]:
    decoder = EventDecoder(max_bytes=largest)
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.finish()


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [ServerEvent("a")]),
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [ServerEvent("YHOO\n+2\n10")]),
        (b": comment\n\ndata: x\nid: 1\nretry: 10\n\ndata:second\nid\n\ndata:  third\n\n",
         [ServerEvent("x"), ServerEvent("second"), ServerEvent(" third")]),
        (b"data\n\ndata\ndata\n\ndata:", [ServerEvent(""), ServerEvent("\n"), ServerEvent("")]),
        (b"event: add\ndata: 7\n\ndata: 8\n\n", [ServerEvent("7", "add"), ServerEvent("8")]),
        (b"event: nothing\n\ndata: 8\n\n", [ServerEvent("8")]),
        (b"\xef\xbb\xbfdata: a\r\n\r\ndata: b\r\rdata: c\n\n", [ServerEvent("a"), ServerEvent("b"), ServerEvent("c")]),
        (b"data: [DONE]", [ServerEvent("[DONE]")]),
        (b"data: caf\xc3\xa9 \xff\n\n", [ServerEvent("caf\u00e9 \ufffd")]),
        (b"", []),
    ],
)  # fmt: skip
def test_streams_of_the_standard(stream: bytes, events: list[ServerEvent]) -> None:
    """Each example of the standard is decoded to its events."""
    assert decoded(stream) == events


LINES = st.lists(
    st.sampled_from([b"data: a", b"data:b", b"event: c", b": d", b"data", b"", b"\xc3\xa9", b"data: \xe2\x82\xac"])
)


@given(
    lines=LINES, ends=st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=1), cuts=st.lists(st.integers(0, 80))
)
def test_every_cut_gives_the_same_events(lines: list[bytes], ends: list[bytes], cuts: list[int]) -> None:
    """A stream has the same events for every cut of its bytes."""
    stream = b"".join(line + ends[number % len(ends)] for number, line in enumerate(lines))
    places = [0, *sorted(cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(places)]
    assert decoded(*pieces) == decoded(stream)


@given(pieces=st.lists(st.binary(max_size=40), max_size=50))
def test_garbage_is_decoded_whatever_it_is(pieces: list[bytes]) -> None:
    """Any bytes are decoded without an error, and alike for every cut."""
    assert decoded(*pieces, largest=10_000) == decoded(b"".join(pieces), largest=10_000)


@pytest.mark.parametrize("flood", [b"data: " + b"x" * 1000, b"data: x\n" * 200, b": only a comment " * 100])
def test_endless_sse_event_raises_wire_error(flood: bytes) -> None:
    """An SSE event without an end raises WireError at the size limit."""
    with pytest.raises(WireError, match="must have at most 1000 bytes"):
        decoded(flood)
