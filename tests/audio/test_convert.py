"""What the conversion of audio does to it: its level, what it adds, how long it lasts, and what it holds back."""

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.audio import g711
from patter_trio.audio.convert import Converter, Quality, converted, converter, rate_problem
from patter_trio.audio.formats import MULAW_8K, PCM16_8K, RATE_HZ, RATES_HZ, AudioFormat, Encoding

OTHERS = RATES_HZ[1:]
PCM = {rate: AudioFormat(Encoding.PCM16, rate) for rate in RATES_HZ}
FORMATS = [AudioFormat(encoding, rate) for encoding in Encoding for rate in RATES_HZ]
AMPLITUDE = 10_000.0


def tone(hertz: float, rate: int, seconds: float = 1.0) -> bytes:
    times = np.arange(round(seconds * rate)) / rate
    return np.rint(AMPLITUDE * np.sin(2 * np.pi * hertz * times)).astype("<i2").tobytes()


def streamed(audio: bytes, source: AudioFormat, target: AudioFormat, quality: Quality) -> np.ndarray:
    """Audio that went through in pieces of 20 ms, as samples."""
    stream, size = Converter(source, target, quality), source.rate // 50 * source.width
    pieces = [stream.convert(audio[begin : begin + size]) for begin in range(0, len(audio), size)]
    return np.frombuffer(b"".join([*pieces, stream.flush()]), "<i2").astype(np.float64)


def level(samples: np.ndarray, hertz: float, rate: int) -> float:
    """The level of one frequency, in dB below the tone's, away from both ends."""
    middle = samples[rate // 5 : -(rate // 5)]
    turns = np.exp(-2j * np.pi * hertz * np.arange(len(middle)) / rate)
    window = np.hanning(len(middle))
    return float(20 * np.log10(max(1e-9, 2 * abs((middle * window) @ turns) / window.sum()) / AMPLITUDE))


def residue(samples: np.ndarray, hertz: float, rate: int) -> float:
    """The level of everything but one frequency, in dB below the tone's."""
    middle = samples[rate // 5 : -(rate // 5)]
    turns = 2 * np.pi * hertz * np.arange(len(middle)) / rate
    basis = np.stack([np.sin(turns), np.cos(turns)], axis=1)
    rest = middle - basis @ np.linalg.lstsq(basis, middle, rcond=None)[0]
    return float(20 * np.log10(max(1e-9, np.sqrt(2 * np.mean(rest * rest))) / AMPLITUDE))


# Quality --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rate", OTHERS)
def test_tts_audio_keeps_its_level(rate: int) -> None:
    """From 300 to 3400 Hz the voice of a TTS keeps its level within 0.5 dB; all else is 75 dB below it."""
    for hertz in range(300, 3401, 155):
        samples = streamed(tone(hertz, rate), PCM[rate], PCM16_8K, Quality.HIGH)
        assert abs(level(samples, hertz, RATE_HZ)) < 0.5
        assert residue(samples, hertz, RATE_HZ) < -75


@pytest.mark.parametrize("rate", OTHERS)
def test_what_a_telephone_cannot_carry_is_gone(rate: int) -> None:
    """Tones from 4.2 kHz to the source's limit leave no alias louder than 75 dB below them."""
    for hertz in np.linspace(4200, rate / 2 - 200, 20):
        samples = streamed(tone(hertz, rate), PCM[rate], PCM16_8K, Quality.HIGH)
        middle = samples[RATE_HZ // 5 : -(RATE_HZ // 5)]
        assert np.sqrt(2 * np.mean(middle**2)) < AMPLITUDE * 10 ** (-75 / 20)


@pytest.mark.parametrize("rate", OTHERS)
def test_the_callers_voice_keeps_its_level(rate: int) -> None:
    """The caller's voice keeps its level within 0.5 dB up to 3 kHz, 2.5 dB at 3.2 kHz and 8.5 dB at 3.4 kHz."""
    for hertz, most in [*((hertz, 0.5) for hertz in range(300, 3001, 150)), (3200, 2.5), (3400, 8.5)]:
        samples = streamed(tone(hertz, RATE_HZ), PCM16_8K, PCM[rate], Quality.LOW_DELAY)
        assert -most < level(samples, hertz, rate) < 0.1


@pytest.mark.parametrize("rate", OTHERS)
def test_the_callers_voice_has_no_images(rate: int) -> None:
    """The conversion of the caller's voice adds no image louder than 75 dB below the voice."""
    for hertz in range(300, 3401, 155):
        samples = streamed(tone(hertz, RATE_HZ), PCM16_8K, PCM[rate], Quality.LOW_DELAY)
        assert residue(samples, hertz, rate) < -75


@pytest.mark.parametrize("made", FORMATS, ids=str)
def test_silence_stays_silence(made: AudioFormat) -> None:
    """Half a second of silence is digital silence in each format and after the way back."""
    silent = g711.silence(0.5)
    there = converted(silent, MULAW_8K, made)
    assert set(there) <= ({0} if made.encoding is Encoding.PCM16 else {g711.SILENCE_BYTE})
    assert converted(there, made, MULAW_8K) == silent


@pytest.mark.parametrize("rate", OTHERS)
def test_overload_is_clipped_without_wrapping(rate: int) -> None:
    """A filter that rings at full scale does not wrap around: a square wave keeps the sign of each half."""
    half = rate // 100
    square = np.tile(np.repeat(np.array([32767, -32768], "<i2"), half), 20)
    samples = streamed(square.tobytes(), PCM[rate], PCM16_8K, Quality.HIGH)
    halves = np.arange(len(samples)) * rate / RATE_HZ / half  # counted in halves
    inside = np.abs(halves % 1 - 0.5) < 0.4
    assert (np.sign(samples)[inside] == np.where(halves % 2 < 1, 1, -1)[inside]).all()


# Length ---------------------------------------------------------------------------------------------------------------
@given(
    source=st.sampled_from(FORMATS),
    target=st.sampled_from(FORMATS),
    quality=st.sampled_from(Quality),
    stretches=st.lists(st.lists(st.integers(0, 3000), max_size=5), max_size=4),
)
def test_after_a_flush_the_length_is_exact(
    source: AudioFormat, target: AudioFormat, quality: Quality, stretches: list[list[int]]
) -> None:
    """After each flush the output is as long as the input, to one sample, whatever the sizes of the pieces."""
    stream, taken, given_back = Converter(source, target, quality), 0, 0
    for stretch in stretches:
        for samples in stretch:
            taken += samples
            given_back += target.samples(stream.convert(bytes(samples * source.width)))
            assert given_back == stream.given
        given_back += target.samples(stream.flush())
        assert abs(given_back - taken * target.rate / source.rate) <= 1
        assert stream.flush() == b""


@pytest.mark.parametrize("rate", OTHERS)
@pytest.mark.parametrize("into", [True, False])
def test_sound_stays_where_it_was(rate: int, into: bool) -> None:
    """A click before and a click after a flush keep their instants to 2 ms, and neither is heard twice."""
    source, target = (PCM16_8K, PCM[rate]) if into else (PCM[rate], PCM16_8K)
    stream = Converter(source, target, Quality.LOW_DELAY if into else Quality.HIGH)
    half = np.zeros(source.rate, "<i2")
    half[source.rate // 2 : source.rate // 2 + 4] = 20_000
    audio = stream.convert(half.tobytes()) + stream.flush() + stream.convert(half.tobytes()) + stream.flush()
    samples = np.abs(np.frombuffer(audio, "<i2").astype(np.int32))
    assert len(samples) == 2 * target.rate
    loud = np.flatnonzero(samples > 2_000) / target.rate
    assert all(min(abs(at - 0.5), abs(at - 1.5)) < 0.002 for at in loud)
    assert {round(at - 0.5) for at in loud} == {0, 1}


@given(pieces=st.lists(st.integers(1, 700), min_size=1, max_size=12), rate=st.sampled_from(OTHERS))
def test_how_audio_is_cut_does_not_matter(pieces: list[int], rate: int) -> None:
    """Converting noise in pieces of 1 to 700 samples gives the same bytes as converting it whole."""
    noise = np.random.default_rng(1).integers(-9000, 9000, sum(pieces)).astype("<i2").tobytes()
    whole = converted(noise, PCM[rate], PCM16_8K)
    stream, ends = Converter(PCM[rate], PCM16_8K, Quality.HIGH), list(accumulate(pieces))
    parts = [stream.convert(noise[2 * begin : 2 * end]) for begin, end in zip([0, *ends], ends, strict=False)]
    assert b"".join([*parts, stream.flush()]) == whole


# What is held back ----------------------------------------------------------------------------------------------------
HELD_BACK_MS = {
    (8000, 16000): 62,
    (8000, 22050): 3,
    (8000, 24000): 41,
    (8000, 44100): 83,
    (8000, 48000): 60,
    (16000, 8000): 116,
    (22050, 8000): 81,
    (24000, 8000): 74,
    (44100, 8000): 81,
    (48000, 8000): 158,
}
"""The most, as docs/design.md states it."""


@pytest.mark.parametrize(("source", "target"), HELD_BACK_MS)
def test_no_more_is_held_back_than_documented(source: int, target: int) -> None:
    """A converter never holds back more milliseconds of audio than docs/design.md states."""
    stream = Converter(PCM[source], PCM[target], Quality.LOW_DELAY if source == RATE_HZ else Quality.HIGH)
    worst = 0.0
    for piece in range(1, 500):
        stream.convert(bytes(source // 50 * 2))
        worst = max(worst, piece * 0.02 - stream.given / target)
    assert worst * 1000 <= HELD_BACK_MS[source, target]


# Formats --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("made", FORMATS, ids=str)
def test_audio_in_the_right_format_meets_no_converter(made: AudioFormat) -> None:
    """converter() returns None if the source and the target have the same format."""
    assert converter(made, made, Quality.HIGH) is None


@pytest.mark.parametrize("encoding", Encoding)
def test_another_encoding_alone_holds_nothing_back(encoding: Encoding) -> None:
    """A converter between two encodings at 24 kHz returns 20 ms of audio for 20 ms at once."""
    wide, other = AudioFormat(encoding, 24_000), AudioFormat(Encoding.PCM16, 24_000)
    stream = Converter(wide, other, Quality.HIGH)
    assert len(stream.convert(bytes(480 * wide.width))) == 960
    assert stream.flush() == b""


def test_another_encoding_alone_is_exact() -> None:
    """Every mu-law code except negative zero survives the conversion to 16-bit samples and back."""
    every = bytes(code for code in range(256) if code != 0x7F)  # its other zero is written as 0xFF
    assert converted(converted(every, MULAW_8K, PCM16_8K), PCM16_8K, MULAW_8K) == every


def test_the_allowed_rates_are_named() -> None:
    """rate_problem() accepts the six rates that can be converted and lists them all for 11,025 Hz."""
    assert [rate_problem(made) for made in FORMATS] == [""] * len(FORMATS)
    problem = rate_problem(AudioFormat(Encoding.PCM16, 11_025))
    assert problem == "at 8000, 16000, 22050, 24000, 44100 or 48000 Hz, got 11025 Hz"
