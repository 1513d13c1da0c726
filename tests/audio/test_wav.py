"""WAV files of every width and rate that is promised, and a clear word about the others."""

import io
import struct
import wave

import numpy as np
import pytest

from patter_trio.audio import g711
from patter_trio.audio.wav import WavError, read_wav, write_wav

TONE = (8000 * np.sin(np.arange(8000) * 2 * np.pi * 440 / 8000)).astype(np.int16)


def wav(frames: bytes, *, channels: int = 1, width: int = 2, rate: int = 8000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(frames)
    return file.getvalue()


def test_wav_16_bit_mono_8_khz_passes_unchanged() -> None:
    """The WAV reader takes 16-bit mono audio at 8 kHz as it is."""
    assert np.array_equal(read_wav(wav(TONE.tobytes())), TONE)


@pytest.mark.parametrize("width", [1, 3, 4])
def test_other_widths_are_scaled(width: int) -> None:
    """The WAV reader scales samples of 8, 24 and 32 bits to 16 bits."""
    wide = TONE.astype("<i4") * 65536
    frames = {
        1: (TONE // 256 + 128).astype(np.uint8).tobytes(),
        3: wide.view(np.uint8).reshape(-1, 4)[:, 1:].tobytes(),
        4: wide.tobytes(),
    }[width]
    assert np.abs(read_wav(wav(frames, width=width)).astype(int) - TONE).max() < (256 if width == 1 else 1)


def test_stereo_is_averaged() -> None:
    """The WAV reader averages the two channels of a stereo file."""
    both = np.stack([TONE, np.zeros_like(TONE)], axis=1)
    assert np.abs(read_wav(wav(both.tobytes(), channels=2)) - TONE / 2).max() <= 1


@pytest.mark.parametrize("rate", [11025, 16000, 44100, 48000])
def test_other_rates_keep_length_and_tone(rate: int) -> None:
    """The WAV reader resamples one second at 11 to 48 kHz to 8,000 samples of the same tone."""
    tone = (8000 * np.sin(np.arange(rate) * 2 * np.pi * 440 / rate)).astype(np.int16)
    samples = read_wav(wav(tone.tobytes(), rate=rate))
    assert len(samples) == 8000
    assert np.abs(samples[400:-400].astype(int) - TONE[400:-400]).max() < 100


def test_written_wav_is_readable_by_standard_library() -> None:
    """The standard library reads the WAV files that the package writes."""
    with wave.open(io.BytesIO(write_wav([TONE, TONE[:100]]))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (2, 2, 8000, 8000)
        frames = np.frombuffer(file.readframes(8000), np.int16).reshape(-1, 2)
    assert np.array_equal(frames[:, 0], TONE)
    assert np.array_equal(frames[:100, 1], TONE[:100])
    assert not frames[100:, 1].any()


def test_wav_reader_tolerates_unusual_headers() -> None:
    """The WAV reader accepts chunks before the data, the extensible format and a wrong size."""
    layout = struct.pack("<HHIIHHHHIH14s", 0xFFFE, 1, 8000, 16000, 2, 16, 22, 16, 4, 1, b"")
    body = b"WAVE" + b"LIST" + struct.pack("<I", 3) + b"abc\0" + b"fmt " + struct.pack("<I", len(layout)) + layout
    body += b"data" + struct.pack("<I", 0xFFFFFFFF) + TONE.tobytes() + b"\0"
    assert np.array_equal(read_wav(b"RIFF" + struct.pack("<I", 0) + body), TONE)


def coded(kind: int, bits: int, sound: bytes, *, channels: int = 1, rate: int = 8000) -> bytes:
    """Return a WAV of another format than PCM, with the chunk ``fact`` that such a file has."""
    width = bits // 8 * channels
    layout = struct.pack("<HHIIHHH", kind, channels, rate, rate * width, width, bits, 0)
    body = b"WAVEfmt " + struct.pack("<I", len(layout)) + layout
    body += b"fact" + struct.pack("<II", 4, len(sound) // width) + b"data" + struct.pack("<I", len(sound)) + sound
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_mu_law_is_decoded() -> None:
    """The WAV reader takes mu-law, the telephone's own format, as the codec decodes it."""
    assert np.array_equal(read_wav(coded(7, 8, g711.encode(TONE))), g711.decode(g711.encode(TONE)))


def test_a_law_is_decoded() -> None:
    """The WAV reader decodes A-law as in table 1 of G.711."""
    # The values that Python's audioop gave for these codes.
    samples = read_wav(coded(6, 8, bytes([0xD5, 0x55, 0x00, 0x80, 0x2A])))
    assert samples.tolist() == [8, -8, -5504, 5504, -32256]


def test_a_law_rises_and_is_odd() -> None:
    """The decision values of A-law rise with the code, and each has its negative."""
    positive = read_wav(coded(6, 8, bytes((code | 0x80) ^ 0x55 for code in range(128)))).tolist()
    negative = read_wav(coded(6, 8, bytes(code ^ 0x55 for code in range(128)))).tolist()
    assert positive == sorted(set(positive))
    assert negative == [-sample for sample in positive]
    assert (positive[0], positive[-1]) == (8, 32256)


@pytest.mark.parametrize(("bits", "kind"), [(32, "<f4"), (64, "<f8")])
@pytest.mark.parametrize("channels", [1, 2])
def test_floats_are_scaled(bits: int, kind: str, channels: int) -> None:
    """The WAV reader scales floats so that 1.0 is full scale."""
    frames = np.repeat((TONE / 32768).astype(kind), channels).tobytes()
    assert np.abs(read_wav(coded(3, bits, frames, channels=channels)).astype(int) - TONE).max() <= 1


def test_floats_beyond_full_scale_are_clipped() -> None:
    """Floats beyond full scale are clipped, and those that are not numbers are silent."""
    values = np.array([2.0, -2.0, np.inf, -np.inf, np.nan, 1e300], "<f8")
    assert read_wav(coded(3, 64, values.tobytes())).tolist() == [32767, -32768, 32767, -32768, 0, 32767]


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_unfinished_recording_is_read_to_its_end(size: int) -> None:
    """A sound whose size the recorder has not written yet goes to the end of the file."""
    data = wav(TONE.tobytes())
    assert np.array_equal(read_wav(data[:4] + bytes(4) + data[8:40] + struct.pack("<I", size) + data[44:]), TONE)


def test_empty_sound_stays_empty() -> None:
    """A sound of size 0 is empty if the file ends there, or if another chunk follows."""
    empty = wav(b"")
    assert len(read_wav(empty)) == 0
    assert len(read_wav(empty + b"LIST" + struct.pack("<I", 4) + b"INFO")) == 0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"ID3 not a wav", "RIFF"),
        (b"RIFF\0\0\0\0WAVE", "must have a format chunk and a data chunk"),
        (wav(b"", channels=3), "3 channels"),
        (wav(b"", rate=96000), "96000 Hz"),
        (wav(b"").replace(struct.pack("<HH", 1, 1), struct.pack("<HH", 7, 1)), "format 7, 16 bits"),
        (wav(b"").replace(struct.pack("<HH", 1, 1), struct.pack("<HH", 17, 1)), "format 17, .* `ffmpeg -i in.wav"),
    ],
)
def test_unreadable_wav_raises_with_reason(data: bytes, reason: str) -> None:
    """A file that the WAV reader cannot take raises a WavError with the reason."""
    with pytest.raises(WavError, match=reason):
        read_wav(data)
