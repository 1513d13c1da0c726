"""Speech in another format: every text and word stays at its sample, and nothing is lost or said twice."""

from itertools import accumulate

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.abc import SpeechChunk, Word
from patter_trio.audio.formats import MULAW_8K, PCM16_8K, RATE_HZ, RATES_HZ, AudioFormat, Encoding
from patter_trio.conversation.playout import PlayoutQueue
from patter_trio.conversation.speech import SpeechConverter
from tests.kit.depth import few

FORMATS = [AudioFormat(encoding, rate) for encoding in Encoding for rate in RATES_HZ]
MADE = st.lists(st.tuples(st.integers(0, 4000), st.booleans(), st.booleans()), max_size=12)
"""Chunks: samples, whether a text begins with them, whether the converter is flushed behind them."""


def begins(chunks: list[SpeechChunk], width: int) -> dict[str, int]:
    """The sample that each text begins with."""
    starts = [0, *accumulate(len(chunk.audio) // width for chunk in chunks)]
    return {chunk.text: start for chunk, start in zip(chunks, starts, strict=False) if chunk.text}


@given(source=st.sampled_from(FORMATS), target=st.sampled_from([MULAW_8K, PCM16_8K]), made=MADE)
def test_each_text_begins_with_its_own_sample(
    source: AudioFormat, target: AudioFormat, made: list[tuple[int, bool, bool]]
) -> None:
    """Each text stays at its sample, to one sample, in any format, and the audio keeps its length."""
    converter, given_out, expected, at = SpeechConverter(source, target), list[SpeechChunk](), dict[str, float](), 0
    for number, (samples, has_text, flushed) in enumerate(made):
        text = f"text {number}" if has_text else ""
        expected |= {text: at * RATE_HZ / source.rate} if text else {}
        given_out += converter.take(SpeechChunk(bytes(samples * source.width), text))
        given_out += converter.rest() if flushed else []
        at += samples
    given_out += converter.rest()
    starts = begins(given_out, target.width)
    assert list(starts) == list(expected)
    assert all(abs(starts[text] - expected[text]) <= 1 for text in expected)
    assert abs(sum(len(chunk.audio) for chunk in given_out) / target.width - at * RATE_HZ / source.rate) <= 1


@pytest.mark.parametrize("made", few(FORMATS, 3), ids=str)
def test_what_was_heard_ends_at_the_same_word(made: AudioFormat) -> None:
    """The heard text at every 20 ms is the one that the words' times give, in any format."""
    words = [Word(f"word{number}", number * 0.35, (number + 1) * 0.35) for number in range(10)]
    text, playout, converter = " ".join(word.text for word in words), PlayoutQueue(0), SpeechConverter(made, MULAW_8K)
    for number in range(35):  # chunks of 100 ms, each with the words that begin in it
        mine = [word for word in words if number <= word.start * 10 + 1e-9 < number + 1]
        reported = tuple(attrs.evolve(w, start=w.start - number / 10, end=w.end - number / 10) for w in mine)
        audio = bytes(made.rate // 10 * made.width)
        for chunk in converter.take(SpeechChunk(audio, "" if number else text, reported)):
            playout.put(chunk.audio, chunk.text, chunk.words)
        for heard in range(0, playout.put_samples, 160):
            over = [word.text for word in words if word.end * RATE_HZ <= heard + 1.5]
            assert playout.heard(heard).text == " ".join(over)
    for chunk in converter.rest():
        playout.put(chunk.audio, chunk.text, chunk.words)
    playout.end()
    assert playout.put_samples == 28_000
    assert playout.heard(28_000).text == text


def test_a_text_without_sound_is_still_reported() -> None:
    """Texts without audio come out of the converter in their order at its end."""
    converter = SpeechConverter(AudioFormat(Encoding.PCM16, 24_000), MULAW_8K)
    assert converter.take(SpeechChunk(b"", "Nothing.")) == []
    assert converter.take(SpeechChunk(b"", "Again.")) == []
    assert converter.rest() == [SpeechChunk(b"", "Nothing."), SpeechChunk(b"", "Again.")]
