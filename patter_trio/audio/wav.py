"""WAV files as bytes: reads PCM, floats, mu-law and A-law, writes PCM of 16 bits.

Layout: "Multimedia Programming Interface and Data Specifications 1.0" (RIFF WAVE), with the extensible format of
``WAVE_FORMAT_EXTENSIBLE``, whose sub-format begins with the number of the plain format.
"""

import struct
from collections.abc import Sequence
from typing import Final

import numpy as np

from patter_trio.audio import g711
from patter_trio.audio.formats import RATE_HZ
from patter_trio.audio.g711 import Samples

# Numbers and offsets as in the specification named above.
PCM_FORMAT: Final = 1
FLOAT_FORMAT: Final = 3
A_LAW_FORMAT: Final = 6
MU_LAW_FORMAT: Final = 7
EXTENSIBLE_FORMAT: Final = 0xFFFE
RATES_HZ: Final = range(8000, 48001)
_FORMAT_BYTES: Final = 16
_WIDTHS_BITS: Final = {
    PCM_FORMAT: (8, 16, 24, 32),
    FLOAT_FORMAT: (32, 64),
    A_LAW_FORMAT: (8,),
    MU_LAW_FORMAT: (8,),
}
"""The bits per sample that each format may have."""
# A recorder writes the sizes when it closes the file; until then, and if it is killed, they are one of these.
_UNKNOWN_SIZES: Final = (0, 0xFFFFFFFF)
_SUBFORMAT_OFFSET_BYTES: Final = 24


class WavError(ValueError):
    """Bytes that are not a supported WAV file; the message gives the reason and the supported formats."""


def read_wav(data: bytes) -> Samples:
    """Return a WAV's samples at 8 kHz, 16-bit mono; channels are averaged.

    Raises:
        WavError: ``data`` is not a WAV of 1 or 2 channels of PCM, float, mu-law or A-law at 8 to 48 kHz.
    """
    # Only these: what follows is read by its own structure.
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise WavError("not a WAV file: it must begin with RIFF....WAVE")
    layout, sound = b"", None
    at = 12
    # To the first sound: chunks behind it, such as titles, do not matter.
    while at + 8 <= len(data) and sound is None:
        name, size = struct.unpack_from("<4sI", data, at)
        # To the end of the file: what a recorder has written so far is all there is.
        if name == b"data" and size in _UNKNOWN_SIZES and not _is_finished(data, at + 8):
            size = len(data) - at - 8
        body = data[at + 8 : at + 8 + size]
        if name == b"fmt ":
            layout = body
        elif name == b"data":
            sound = body
        # RIFF pads each chunk to an even length.
        at += 8 + size + size % 2
    if len(layout) < _FORMAT_BYTES or sound is None:
        raise WavError("incomplete WAV file: it must have a format chunk and a data chunk")
    return _decoded(layout, sound)


def _decoded(layout: bytes, sound: bytes) -> Samples:
    kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", layout)
    if kind == EXTENSIBLE_FORMAT and len(layout) >= _SUBFORMAT_OFFSET_BYTES + 2:
        (kind,) = struct.unpack_from("<H", layout, _SUBFORMAT_OFFSET_BYTES)
    if bits not in _WIDTHS_BITS.get(kind, ()) or channels not in (1, 2) or rate not in RATES_HZ:
        raise WavError(
            "the format must be PCM (format 1) of 8, 16, 24 or 32 bits, float (3) of 32 or 64 bits, mu-law (7) or "
            f"A-law (6), mono or stereo, 8000 to 48000 Hz; got format {kind}, {bits} bits, {channels} channels, {rate} "
            "Hz; `ffmpeg -i in.wav -ac 1 -ar 8000 -c:a pcm_s16le out.wav` converts it"
        )
    width = bits // 8 * channels
    # A file that was cut in the middle of a sample loses that sample.
    mono = _scaled(sound[: len(sound) // width * width], kind, bits).reshape(-1, channels).mean(axis=1)
    if rate != RATE_HZ:
        import soxr  # noqa: PLC0415 (needed only for other rates)

        mono = soxr.resample(mono, rate, RATE_HZ)
    samples: Samples = np.clip(np.rint(mono), -32768, 32767).astype(np.int16)
    return samples


def _is_finished(data: bytes, start: int) -> bool:
    """Return True if a sound without a size is really empty: the file ends there, or another chunk follows."""
    name = data[start : start + 4]
    if len(data) - start < 8:  # noqa: PLR2004 (the bytes of a chunk's head)
        return True
    (size,) = struct.unpack_from("<I", data, start + 4)
    # Both: four printable letters may be samples, but hardly with a size that ends where the file does.
    return name.isascii() and name.decode("ascii").isprintable() and start + 8 + size + size % 2 == len(data)


def _scaled(sound: bytes, kind: int, bits: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the samples on the 16-bit scale."""
    if kind == MU_LAW_FORMAT:
        return g711.decode(sound).astype(np.float64)
    if kind == A_LAW_FORMAT:
        return _A_LAW[np.frombuffer(sound, np.uint8)]
    if kind == FLOAT_FORMAT:
        wide = np.frombuffer(sound, "<f4" if bits == 32 else "<f8").astype(np.float64)  # noqa: PLR2004 (a sample width)
        # 1.0 is full scale; a sample that is not a number would be an arbitrary loud one.
        return np.nan_to_num(wide, nan=0.0, posinf=1.0, neginf=-1.0).clip(-1.0, 1.0) * 32768
    if bits == 8:  # noqa: PLR2004 (the only unsigned width)
        return (np.frombuffer(sound, np.uint8).astype(np.float64) - 128) * 256
    if bits == 16:  # noqa: PLR2004 (a sample width)
        return np.frombuffer(sound, "<i2").astype(np.float64)
    if bits == 32:  # noqa: PLR2004 (a sample width)
        return np.frombuffer(sound, "<i4") / 65536
    # 24 bits: the three bytes become the upper ones of a 32-bit integer, which keeps the sign.
    threes = np.frombuffer(sound, np.uint8).reshape(-1, 3)
    wide = np.zeros((len(threes), 4), np.uint8)
    wide[:, 1:] = threes
    return wide.reshape(-1).view("<i4") / 65536


def _a_law_table() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the sample of each code of A-law (ITU-T G.711, table 1), on the 16-bit scale."""
    code = np.arange(256) ^ 0x55  # every other bit is inverted on the line
    exponent, mantissa = (code >> 4) & 7, code & 15
    # 13 bits on a scale of 16, in the middle of each step: segments 0 and 1 have steps of the same size.
    value = np.where(exponent == 0, (mantissa << 4) + 8, ((mantissa << 4) + 0x108) << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, value, -value).astype(np.float64)


_A_LAW: Final = _a_law_table()


def wav_head(channels: int, sound_bytes: int, rate: int = RATE_HZ) -> bytes:
    """Return what stands before the sound in a file of 16-bit PCM: :data:`HEAD_BYTES` bytes."""
    width = 2 * channels
    layout = struct.pack("<HHIIHH", PCM_FORMAT, channels, rate, rate * width, width, 16)
    chunks = b"WAVE" + struct.pack("<4sI", b"fmt ", len(layout)) + layout + struct.pack("<4sI", b"data", sound_bytes)
    return struct.pack("<4sI", b"RIFF", len(chunks) + sound_bytes) + chunks


HEAD_BYTES: Final = len(wav_head(1, 0))
"""The length of the head, in bytes."""


def interleaved(channels: Sequence[Samples]) -> bytes:
    """Return the sound of a WAV of these channels (the first is left); silence pads the shorter ones."""
    length = max((len(channel) for channel in channels), default=0)
    # Zeros are silence in PCM.
    frames = np.zeros((length, len(channels)), "<i2")
    for number, channel in enumerate(channels):
        frames[: len(channel), number] = channel
    return frames.tobytes()


def write_wav(channels: Sequence[Samples], rate: int = RATE_HZ) -> bytes:
    """Return a 16-bit PCM WAV of these channels (the first is left); silence pads the shorter ones."""
    sound = interleaved(channels)
    return wav_head(len(channels), len(sound), rate) + sound
