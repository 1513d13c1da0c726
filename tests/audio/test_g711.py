"""Mu-law by table, against the definition of ITU-T G.711."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.audio import g711


def expand(code: int) -> int:
    """Recommendation G.711, table 2b, as a formula; the result on the 16-bit scale."""
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) * 2 + 33) << (code >> 4 & 7)) - 33
    return (-magnitude if code & 0x80 else magnitude) * 4


def test_every_code_expands_as_the_recommendation_says() -> None:
    """Each of the 256 mu-law codes expands to the value of the formula in ITU-T G.711."""
    assert g711.decode(bytes(range(256))).tolist() == [expand(code) for code in range(256)]


def test_mulaw_codes_round_trip_except_negative_zero() -> None:
    """Every mu-law code except negative zero survives the conversion to samples and back."""
    codes = bytes(range(256))
    back = g711.encode(g711.decode(codes))
    assert [(a, b) for a, b in zip(codes, back, strict=True) if a != b] == [(0x7F, 0xFF)]


VALUES = sorted({expand(code) for code in range(256)})


@given(st.integers(-32768, 32767))
def test_mulaw_error_is_at_most_half_step(sample: int) -> None:
    """The mu-law conversion changes a sample by at most half a quantization step."""
    value = expand(g711.encode(np.array([sample], np.int16))[0])
    place = VALUES.index(value)
    step = max(b - a for a, b in pairwise(VALUES[max(0, place - 1) : place + 2]))
    assert abs(value - max(-32124, min(32124, sample))) <= step / 2 + 4  # the two lowest bits are not coded


def expand_alaw(code: int) -> int:
    """Recommendation G.711, table 1b, as a formula; the result on the 16-bit scale."""
    code ^= 0x55
    segment, step = code >> 4 & 7, code & 0x0F
    magnitude = 16 * step + 8 if segment == 0 else (16 * step + 264) << segment - 1
    return magnitude if code & 0x80 else -magnitude


def test_alaw_error_is_at_most_half_step() -> None:
    """Each A-law code becomes a mu-law code that differs by at most half a quantization step of mu-law."""
    codes = bytes(range(256))
    for code, mulaw in zip(codes, g711.from_alaw(codes), strict=True):
        place = VALUES.index(expand(mulaw))
        step = max(b - a for a, b in pairwise(VALUES[max(0, place - 1) : place + 2]))
        assert abs(expand(mulaw) - expand_alaw(code)) <= step / 2 + 4  # the two lowest bits are not coded
    # The two codes of silence, which every second of a call has.
    assert g711.from_alaw(b"\xd5\x55") == g711.encode(np.array([8, -8], np.int16))


def test_silence_is_silent() -> None:
    """20 ms of mu-law silence are 160 bytes 0xFF, which expand to samples of 0."""
    assert g711.silence(0.02) == b"\xff" * 160
    assert not g711.decode(g711.silence(0.02)).any()


def test_pcm_bytes_are_little_endian_and_round_trip() -> None:
    """PCM has two bytes per sample, the low byte first, and converts back without loss."""
    codes = bytes(range(256))
    pcm = g711.to_pcm(codes)
    assert pcm == b"".join(int(sample).to_bytes(2, "little", signed=True) for sample in g711.decode(codes))
    assert g711.to_pcm(g711.from_pcm(pcm)) == pcm
