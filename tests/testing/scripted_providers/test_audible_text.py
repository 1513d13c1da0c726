"""Words within mu-law audio: they come back as they went in, and damage to the sound is visible."""

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.audio import g711
from patter_trio.testing.scripted_providers import audible_text
from patter_trio.testing.scripted_providers.audible_text import (
    MAX_TEXT_BYTES,
    Decoder,
    Kind,
    Sound,
    encode,
    fewest_frames,
)

FRAME = 160
TEXT = "What are your hours?"


def decode(audio: bytes, sizes: list[int] | None = None) -> list[Sound]:
    decoder, sounds, at = Decoder(), [], 0
    for size in sizes or [len(audio)]:
        sounds += decoder.feed(audio[at : at + size])
        at += size
    return sounds + decoder.feed(audio[at:]) + decoder.finish()


def words(sounds: list[Sound]) -> str:
    return "".join(sound.words for sound in sounds)


@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    spare=st.integers(0, 50),
    silence=st.integers(0, 500),
    sizes=st.lists(st.integers(1, 700), max_size=30),
)
def test_audible_text_round_trips_through_any_chunking(text: str, spare: int, silence: int, sizes: list[int]) -> None:
    """Any text comes back complete and at its position for every chunking of the audio."""
    frames = fewest_frames(text) + spare
    audio = bytes([0xFF]) * silence + encode(text, frames, utterance=7, part=2) + bytes([0xFF]) * silence
    sounds = decode(audio, sizes)
    assert words(sounds) == text.rstrip()
    assert [(s.kind, s.utterance, s.part, s.index, s.total) for s in sounds] == [
        (Kind.SPEECH, 7, 2, index, frames) for index in range(frames)
    ]
    assert [(s.start, s.end) for s in sounds] == [
        (silence + index * FRAME, silence + (index + 1) * FRAME) for index in range(frames)
    ]


@given(st.lists(st.integers(0, 255), min_size=0, max_size=2000).map(bytes), st.lists(st.integers(1, 300), max_size=9))
def test_any_bytes_decode_alike_in_any_chunking(junk: bytes, sizes: list[int]) -> None:
    """Arbitrary bytes decode without an error and with the same result for every chunking."""
    audio = junk + encode(TEXT, 5) + junk
    assert words(decode(audio, sizes)) == words(decode(audio)) == TEXT


def test_mulaw_to_pcm_and_back_changes_no_byte() -> None:
    """The simulated voice survives the conversion from mu-law to PCM and back byte by byte."""
    audio = encode(TEXT, 100, kind=Kind.HUM)
    assert g711.encode(g711.decode(audio)) == audio


def test_words_spread_by_length_over_speech_frames() -> None:
    """The encoder spreads words over the speech frames in proportion to their length."""
    ends = [(sound.words, sound.end / 8000) for sound in decode(encode(TEXT, 500, spoken=100)) if sound.words]
    assert ends == [("What", 0.4), (" are", 0.8), (" your", 1.3), (" hours?", 2.0)]
    assert audible_text.word_times(TEXT, 100)[-1] == ("hours?", 1.3, 2.0)


def test_every_voiced_sample_is_loud() -> None:
    """Each sample of the simulated voice has an amplitude above 8000, so that a VAD hears it."""
    assert np.abs(g711.decode(encode(TEXT, 10)).astype(int)).min() > 8000


def test_silence_yields_nothing_and_tone_no_words() -> None:
    """Silence decodes to nothing, and any other sound decodes to a sound without words."""
    tone = g711.encode((3000 * np.sin(np.arange(800) / 3 + 1)).astype(np.int16))
    quiet = bytes([0xFF, 0x7E]) * 200
    assert decode(quiet) == []
    assert decode(quiet + tone + quiet) == [Sound(Kind.SOUND, 400, 1200)]


def test_a_lost_frame_takes_its_words_with_it() -> None:
    """A lost frame loses its own words only, and the frame numbers show the gap."""
    audio = encode("What are your time", 4)
    sounds = decode(audio[:FRAME] + audio[2 * FRAME :])
    assert words(sounds) == "What your time"
    assert [sound.index for sound in sounds] == [0, 2, 3]


def test_frames_in_another_order_are_detected() -> None:
    """Two frames in the wrong order decode with their words in the wrong order."""
    audio = encode("What are your time", 4)
    assert words(decode(audio[FRAME : 2 * FRAME] + audio[:FRAME] + audio[2 * FRAME :])) == " areWhat your time"


def test_truncated_frame_is_sound_and_next_is_read() -> None:
    """A truncated frame decodes as plain sound, and the decoder reads the next frame."""
    audio = encode(TEXT, 4)
    sounds = decode(audio[:100] + audio[FRAME:])
    assert [(sound.kind, sound.start, sound.end) for sound in sounds[:2]] == [
        (Kind.SOUND, 0, 100),
        (Kind.SPEECH, 100, 260),
    ]


def test_a_changed_byte_makes_the_frame_unreadable() -> None:
    """One changed bit turns its frame into sound without words, and the next three frames are readable."""
    audio = bytearray(encode(TEXT, 4))
    audio[40] ^= 1
    assert [sound.kind for sound in decode(bytes(audio))] == [Kind.SOUND, Kind.SPEECH, Kind.SPEECH, Kind.SPEECH]


def test_resampling_destroys_the_words() -> None:
    """No word survives a conversion from 8 kHz to 16 kHz and back."""
    pcm = g711.decode(encode(TEXT, 50))
    there_and_back = soxr.resample(soxr.resample(pcm, 8000, 16000), 16000, 8000)
    assert words(decode(g711.encode(there_and_back))) == ""


def test_a_text_that_does_not_fit_says_so() -> None:
    """A text that is too long for its voice, or a voice of no frame, raises ValueError with the limit."""
    encode("x" * MAX_TEXT_BYTES, 2)
    with pytest.raises(ValueError, match=r"0\.04 s of simulated voice cannot carry a text of 200 bytes"):
        encode("x" * 200, 2)
    with pytest.raises(ValueError, match="1 to 65535 frames"):
        encode("x", 0)
