"""The simulated voice that survives resampling: it is readable in every format, and only while it is undamaged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.audio import g711
from patter_trio.audio.convert import Quality, converted, converter
from patter_trio.audio.formats import FRAME_SAMPLES, MULAW_8K, RATES_HZ, AudioFormat, Encoding
from patter_trio.testing.scripted_providers import audible_text, band_limited
from patter_trio.testing.scripted_providers.audible_text import Kind, Sound
from patter_trio.testing.scripted_providers.band_limited import BandLimitedDecoder, WordReader, encode, sounds_in

TEXT = "Grüße from the first floor: rooms 12, 34 and 567 are free."
OTHERS = [AudioFormat(encoding, rate) for encoding in Encoding for rate in RATES_HZ[1:]]


def written(sounds: list[Sound]) -> str:
    return "".join(sound.words for sound in sounds)


@pytest.mark.parametrize("made", OTHERS, ids=str)
def test_words_survive_conversion_to_the_caller(made: AudioFormat) -> None:
    """A voice at any rate, converted to mu-law at 8 kHz, keeps each frame at its own sample."""
    samples = encode(TEXT, 200, rate=made.rate, utterance=7, part=2)
    audio = g711.encode(samples) if made.encoding is Encoding.MULAW else samples.tobytes()
    sounds = sounds_in(converted(audio, made, MULAW_8K))
    assert written(sounds) == TEXT
    assert [sound.start for sound in sounds] == [FRAME_SAMPLES * number for number in range(200)]
    assert {(sound.kind, sound.utterance, sound.part, sound.total) for sound in sounds} == {(Kind.SPEECH, 7, 2, 200)}


@pytest.mark.parametrize("made", OTHERS, ids=str)
def test_words_survive_conversion_to_the_agent(made: AudioFormat) -> None:
    """A voice as mu-law at 8 kHz, converted in pieces of 20 ms, keeps each frame at its own sample."""
    mulaw = g711.silence(0.1) + g711.encode(encode(TEXT, 150)) + g711.silence(0.1)
    stream, reader, sounds = converter(MULAW_8K, made, Quality.LOW_DELAY), WordReader(made), list[Sound]()
    assert stream is not None
    for begin in range(0, len(mulaw), FRAME_SAMPLES):
        sounds += reader.feed(stream.convert(mulaw[begin : begin + FRAME_SAMPLES]))
    sounds += reader.feed(stream.flush()) + reader.finish()
    assert written(sounds) == TEXT
    assert [sound.start for sound in sounds] == [800 + FRAME_SAMPLES * number for number in range(150)]
    assert reader.fed == len(mulaw)


@given(st.lists(st.integers(1, 900), min_size=1, max_size=30))
def test_how_it_is_cut_does_not_matter(sizes: list[int]) -> None:
    """The decoder reads the same words and the same start for every chunking of the samples."""
    samples, decoder, at = np.concatenate([np.zeros(33, np.int16), encode(TEXT, 40)]), BandLimitedDecoder(), 0
    sounds = list[Sound]()
    for size in sizes:
        sounds += decoder.feed(samples[at : at + size])
        at += size
    sounds += decoder.feed(samples[at:]) + decoder.finish()
    assert written(sounds) == TEXT
    assert sounds[0].start == 33


def test_a_damaged_frame_is_sound_without_words() -> None:
    """One damaged frame decodes as sound without words, and the other eleven frames stay readable."""
    samples = encode("One two three.", 12).copy()
    samples[5 * FRAME_SAMPLES + 60 : 5 * FRAME_SAMPLES + 90] = 9000
    decoder = BandLimitedDecoder()
    kinds = [sound.kind for sound in decoder.feed(samples) + decoder.finish()]
    assert kinds.count(Kind.SPEECH) == 11
    assert Kind.SOUND in kinds


@pytest.mark.parametrize("kind", [Kind.SPEECH, Kind.COUGH, Kind.HUM])
def test_every_kind_is_kept(kind: Kind) -> None:
    """Speech, cough and hum come back as the kind that was encoded."""
    assert {sound.kind for sound in sounds_in(g711.encode(encode("mhm", 5, kind=kind)))} == {kind}


def test_both_voices_are_read_in_one_stretch() -> None:
    """The decoder reads the exact and the filtered voice in one stretch, as after a fallback between two TTS."""
    audio = (
        audible_text.encode("exact", 5)
        + g711.encode(encode("filtered", 5, part=1))
        + audible_text.encode("exact", 5, part=2)
    )
    assert [(sound.part, sound.start) for sound in sounds_in(audio)] == [
        (number // 5, number * FRAME_SAMPLES) for number in range(15)
    ]


def test_a_sound_that_says_nothing_is_a_sound() -> None:
    """Noise decodes as sound without words, and silence as nothing."""
    noise = np.random.default_rng(5).integers(-20_000, 20_000, 8000).astype(np.int16)
    assert {sound.kind for sound in sounds_in(g711.encode(noise))} == {Kind.SOUND}
    assert sounds_in(g711.silence(1.0)) == []


def test_a_text_that_does_not_fit_says_so() -> None:
    """A text that is too long for its voice raises ValueError."""
    encode("x" * band_limited.MAX_TEXT_BYTES, 2)
    with pytest.raises(ValueError, match="cannot carry a text of 80 bytes"):
        encode("x" * 80, 2)
