"""The buffer that cuts a caller's audio into utterances: in order, without repetition, with the whole voice."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.audio import g711
from patter_trio.stt.whisper._utterances import MAX_UTTERANCE_S, UtteranceBuffer

FRAME = 160


def numbered(count: int) -> bytes:
    """Return random audio, in which nearly every sample identifies its position."""
    return bytes(np.random.default_rng(7).integers(0, 256, count, np.uint8))


def test_utterance_includes_padding_around_voice() -> None:
    """An utterance contains the voice and a short margin before and after it."""
    audio, buffer = numbered(32000), UtteranceBuffer()
    for at in range(0, 16000, FRAME):
        buffer.add(audio[at : at + FRAME])
    buffer.begin(15000)
    for at in range(16000, 32000, FRAME):
        buffer.add(audio[at : at + FRAME])
    utterance = buffer.end(30000)
    assert utterance is not None
    np.testing.assert_array_equal(utterance.samples, g711.decode(audio[15000 - 2400 : 30000 + 1600]))
    assert (utterance.segment, buffer.segment, buffer.is_open, buffer.seconds) == (0, 1, False, 0.0)


def test_resumed_voice_repeats_no_samples() -> None:
    """A voice that resumes at once yields two utterances that share no sample."""
    audio, buffer = numbered(32000), UtteranceBuffer()
    buffer.begin(0)
    buffer.add(audio[:16000])
    first = buffer.end(12000)
    buffer.begin(13000)
    buffer.add(audio[16000:])
    second = buffer.split()
    assert first is not None
    np.testing.assert_array_equal(np.concatenate([first.samples, second.samples]), g711.decode(audio))


def test_long_utterance_splits_at_quietest_place() -> None:
    """The buffer cuts a long utterance at its quietest place."""
    loud, quiet = g711.encode(np.full(FRAME, 8000, np.int16)), g711.silence(0.02)
    buffer = UtteranceBuffer()
    buffer.begin(0)
    parts = [part for frame in range(1500) if (part := buffer.add(quiet if 1300 <= frame < 1310 else loud))]
    assert [part.segment for part in parts] == [0]
    assert 1300 * 0.02 <= parts[0].seconds <= 1310 * 0.02
    rest = buffer.split()
    assert (rest.segment, rest.seconds + parts[0].seconds) == (1, 30.0)


def test_buffer_keeps_last_second_outside_utterances() -> None:
    """The buffer keeps only the last second of audio outside an utterance."""
    buffer = UtteranceBuffer()
    for _ in range(1000):
        buffer.add(g711.silence(0.02))
    buffer.begin(0)
    assert buffer.seconds == 1.0


def test_ends_without_a_beginning_are_no_utterance() -> None:
    """A voice end without a beginning yields no utterance, and a split yields an empty one."""
    buffer = UtteranceBuffer()
    buffer.add(g711.silence(1))
    assert (buffer.end(100), buffer.so_far()) == (None, None)
    assert (buffer.split().seconds, buffer.segment, buffer.is_open) == (0.0, 1, False)


def test_split_utterance_continues_as_next_segment() -> None:
    """A split utterance continues as the next segment."""
    audio, buffer = numbered(8000), UtteranceBuffer()
    buffer.begin(0)
    buffer.add(audio[:5000])
    first = buffer.split()
    buffer.begin(0)
    buffer.add(audio[5000:])
    second = buffer.end(8000)
    assert second is not None
    assert (first.segment, second.segment) == (0, 1)
    np.testing.assert_array_equal(np.concatenate([first.samples, second.samples]), g711.decode(audio))


steps_ = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 9000)),
        st.tuples(st.just("begin"), st.integers(-9000, 9000)),
        st.tuples(st.just("end"), st.integers(-9000, 9000)),
        st.tuples(st.just("split"), st.just(0)),
    ),
    max_size=60,
)


@given(steps_)
def test_segments_never_overlap_for_any_edges(steps: list[tuple[str, int]]) -> None:
    """Segments follow each other without overlap for any sequence of voice edges."""
    audio, buffer, sent, heard = numbered(600_000), UtteranceBuffer(), 0, []
    for step, number in steps:
        if step == "add":
            part = buffer.add(audio[sent : sent + number])
            sent += number
        elif step == "begin":
            part = buffer.begin(max(0, sent + number))
        elif step == "split":
            part = buffer.split()
        else:
            part = buffer.end(max(0, sent + number))
        if part:
            heard.append(part)
    assert [utterance.segment for utterance in heard] == list(range(len(heard)))
    assert all(utterance.seconds <= MAX_UTTERANCE_S + 9000 / 8000 for utterance in heard)
    rest = g711.decode(audio[:sent]).tobytes()
    for utterance in heard:
        found = rest.find(utterance.samples.tobytes())
        assert found >= 0
        rest = rest[found + 2 * len(utterance.samples) :]
