"""How the input of a server's WebSocket is cut into frames."""

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from patter_trio.wire.frame_input import FrameInput, frame_bytes

# Around the limits of the three fields for a length.
LENGTHS = st.sampled_from([0, 1, 5, 125, 126, 127, 380, 65535, 65536])
FRAMES = st.builds(
    lambda opcode, length, fin: Frame(opcode, bytes(length), fin).serialize(mask=True),
    st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT]),
    LENGTHS,
    st.booleans(),
)


@pytest.mark.parametrize("length", [0, 1, 125, 126, 380, 65535])
def test_a_whole_text_frame_is_taken(length: int) -> None:
    """A text frame that is whole gives its payload, and the bytes behind it stay."""
    payload = bytes(range(256)) * (length // 256) + bytes(range(length % 256))
    frame = Frame(Opcode.TEXT, payload).serialize(mask=True)
    data = FrameInput(frame + frame)
    assert data.take_text() == payload
    assert data.take_text() == payload
    assert data.take_text() is None
    assert not data


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Opcode.BINARY, b"x").serialize(mask=True),
        Frame(Opcode.PING, b"x").serialize(mask=True),
        Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True),
        Frame(Opcode.TEXT, b"x", fin=False).serialize(mask=True),
        b"\xc1" + Frame(Opcode.TEXT, b"x").serialize(mask=True)[1:],
        Frame(Opcode.TEXT, bytes(65536)).serialize(mask=True),
        Frame(Opcode.TEXT, b"without a mask").serialize(mask=False),
        Frame(Opcode.TEXT, bytes(300)).serialize(mask=False),
    ],
    ids=["binary", "ping", "close", "fragment", "reserved bit", "long", "no mask", "no mask, longer"],
)
def test_any_other_frame_is_left_to_the_core(frame: bytes) -> None:
    """Frames that are not plain text are not taken apart here; they leave in pieces, and the next text is taken."""
    data = FrameInput(frame + Frame(Opcode.TEXT, b"next").serialize(mask=True))
    assert data.take_text() is None
    taken = b""
    while len(taken) < len(frame):
        taken += data.take(min(512, len(frame) - len(taken)))
    assert taken == frame
    assert data.take_text() == b"next"


@given(frames=st.lists(FRAMES, min_size=1, max_size=4), cuts=st.lists(st.integers(0, 140000), max_size=8))
def test_pieces_never_cross_the_end_of_a_frame(frames: list[bytes], cuts: list[int]) -> None:
    """However the input is cut, the pieces are the input, and each one is whole frames or lies within one frame."""
    whole, ends = b"".join(frames), [0, *accumulate(len(frame) for frame in frames)]
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    data = FrameInput()
    taken = b""
    for begin, end in pairwise(edges):
        data.put(whole[begin:end])
        while data:
            piece = data.take(512)
            at, taken = len(taken), taken + piece
            assert 0 < len(piece) <= 512
            assert len(taken) <= min(end for end in ends if end > at) or {at, len(taken)} <= set(ends)
    assert taken == whole


@given(cut=st.integers(0, 20), length=LENGTHS, mask=st.booleans())
def test_a_head_has_the_size(cut: int, length: int, *, mask: bool) -> None:
    """The size in a head is that of the frame, and None until the field of the length is whole."""
    frame = Frame(Opcode.BINARY, bytes(length)).serialize(mask=mask)
    head = 2 if length < 126 else 4 if length < 65536 else 10
    assert frame_bytes(frame[:cut]) == (len(frame) if min(cut, len(frame)) >= head else None)
