"""The fuzzer's corpus, tried again without the fuzzer, and properties of the stream shell by hypothesis."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.fuzz import corpus
from benchmarks.fuzz.seeds import SEEDS
from benchmarks.fuzz.targets import TARGETS
from patter_trio.testing.faults.injections import (
    BINARY_OPCODE,
    CLOSE_OPCODE,
    CONTINUATION_OPCODE,
    PING_OPCODE,
    PONG_OPCODE,
    TEXT_OPCODE,
    frame,
)

pytestmark = pytest.mark.no_coverage

MOST = 400
"""Inputs of a target that are kept: enough to begin with, few enough to read through."""


@pytest.mark.parametrize("target", TARGETS)
def test_kept_fuzz_inputs_still_pass(target: str) -> None:
    """Each kept input and seed of a fuzz target passes, and a corpus has 1 to 400 inputs."""
    inputs = corpus.load(target)
    assert 0 < len(inputs) <= MOST
    for data in [*inputs, *SEEDS[target]]:
        TARGETS[target](data)


def test_fuzz_targets_match_seeds_and_corpora() -> None:
    """Every fuzz target has seeds and a corpus, and no seeds or corpus exist without a target."""
    assert set(SEEDS) == set(TARGETS)
    assert {file.stem for file in corpus.FOLDER.iterdir()} == set(TARGETS)


FRAMES = st.builds(
    frame,
    st.sampled_from([TEXT_OPCODE, BINARY_OPCODE, CONTINUATION_OPCODE, PING_OPCODE, PONG_OPCODE, CLOSE_OPCODE, 3, 11]),
    st.binary(max_size=40)
    | st.text(max_size=20).map(str.encode)
    | st.sampled_from([b"\x03\xe8", b"\x03\xed", b"x" * 126]),
    final=st.booleans(),
    reserved=st.sampled_from([0, 0, 0, 0, 4]),
    masked=st.sampled_from([True, True, True, False]),
)


@given(st.integers(0, 127), st.lists(FRAMES, max_size=8), st.binary(max_size=10))
def test_websocket_frames_ignore_segmentation(how: int, frames: list[bytes], rest: bytes) -> None:
    """WebSocket frames have the same meaning for every segmentation of the bytes."""
    TARGETS["websocket"](bytes([how]) + b"".join(frames) + rest)


@given(
    st.text(max_size=60), st.text(max_size=20), st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4)
)
def test_webhooks_take_any_form_and_any_query(query: str, junk: str, form: dict[str, str]) -> None:
    """The webhook parser handles any query and form."""
    fields = "&".join(f"{name}={value}" for name, value in form.items())
    TARGETS["webhook"](f"{query}\nCallSid=CA1&From=%2B1&To=%2B2&{fields}{junk}".encode())


@given(st.binary(max_size=80), st.sampled_from([8, 16, 24, 32]), st.integers(0, 4), st.integers(0, 50_000))
def test_wavs_whose_head_lies_are_refused_or_short(sound: bytes, bits: int, channels: int, rate: int) -> None:
    """The WAV reader handles any header whose sizes do not match its data."""
    layout = b"fmt \x10\0\0\0\x01\0" + channels.to_bytes(2, "little") + rate.to_bytes(4, "little") + bytes(6)
    TARGETS["wav"](b"RIFF\xff\xff\xff\xffWAVE" + layout + bits.to_bytes(2, "little") + b"data\xff\xff\xff\xff" + sound)
