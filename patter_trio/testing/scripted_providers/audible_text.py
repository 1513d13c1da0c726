"""A simulated voice that carries its words inside the mu-law audio, so that they take the same path as the sound.

A voice is a sequence of *voiced frames* of 20 ms (160 mu-law bytes); silence is mu-law silence. The layout of a frame:

====== ==================================================================================================
bytes  meaning
====== ==================================================================================================
6      magic: codes of the second-loudest segment, which no other part uses
2      kind
4      utterance: number of the reply, or of the caller's utterance
4      part: number of the sentence within the utterance
4      index of this frame in its part
4      total frames of the part
2      number of bytes of text
4      CRC (the low 16 bits of CRC-32) of everything above except the magic, and of the text
130    up to 65 bytes of text: the words that *end* within this frame; the rest is filler
====== ==================================================================================================

Every byte is written as two nibbles, each one of 16 codes of the loudest mu-law segment, alternately negative and
positive. These codes survive mu-law -> 16-bit PCM -> mu-law exactly, so the words pass through every exact chain. A
wrong codec, a resampler, a lost or a reordered frame is visible in what is decoded. Each word comes with the white
space before it, so that the joined words are the original text.
"""

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Final

import attrs
import numpy as np

from patter_trio.audio import g711
from patter_trio.audio.formats import FRAME_S, FRAME_SAMPLES
from patter_trio.scripts import units

# Found anywhere in the audio, so frames need no grid: silence of any length, or a lost byte, may be between them. Of
# the second-loudest segment, so that no text can contain it.
MAGIC_BYTES: Final = bytes.fromhex("109011911292")
HEAD_BYTES: Final = 12
"""Bytes of the head, checksum included, before they are written as nibbles."""
MAX_TEXT_BYTES: Final = (FRAME_SAMPLES - len(MAGIC_BYTES)) // 2 - HEAD_BYTES
"""Bytes of text that fit into a frame."""
# A quarter of a frame's text: little of a frame stays empty when the next piece does not fit (``fewest_frames``).
MAX_PIECE_BYTES: Final = 16
"""The longest piece of a word that one frame carries; a longer word is split."""
MAX_PART_FRAMES: Final = 0xFFFF
"""Maximum number of frames of a part (22 minutes): the frame's index is a 16-bit number."""
# Well above the rounding of a codec or a resampler, and far below a voice.
MAX_SILENCE_LEVEL: Final = 100
"""Largest magnitude of a 16-bit sample that still counts as silence (-50 dBFS)."""


class Kind(IntEnum):
    """The kind of a stretch of sound."""

    SPEECH = 1
    COUGH = 2
    """A noise that the VAD takes for voice and that has no words for the STT."""
    HUM = 3
    """A backchannel such as "mhm": words that need no answer."""
    SOUND = 4
    """Sound without a readable frame: a recording, noise, or a damaged frame. The encoder never writes it."""


_SPOKEN_KINDS: Final = frozenset({Kind.SPEECH, Kind.COUGH, Kind.HUM})
# One minute of two voices: a frame is made once, and then read by the STT, the caller, the recording and the report.
_CACHED_FRAMES: Final = 6000
_SILENT_BYTES: Final = b"\xff\x7f"
"""The two codes of mu-law for silence: plus and minus zero."""


@attrs.frozen
class Sound:
    """A stretch of sound, from sample ``start`` to sample ``end`` of the audio that was fed."""

    kind: Kind
    start: int
    end: int
    utterance: int = 0
    part: int = 0
    index: int = 0
    total: int = 0
    words: str = ""

    @property
    def last(self) -> bool:
        """True if the part ends with this frame."""
        return self.index == self.total - 1


def frames_of(seconds: float) -> int:
    """Return the number of voiced frames that last ``seconds``, at least one."""
    return max(1, round(seconds / FRAME_S))


def encode(
    text: str,
    frames: int,
    *,
    spoken: int | None = None,
    kind: Kind = Kind.SPEECH,
    utterance: int = 0,
    part: int = 0,
) -> bytes:
    """Return mu-law audio of ``frames`` voiced frames that speak ``text``.

    The words are spread by their length over the first ``spoken`` frames; over all frames by default.

    Raises:
        ValueError: the text does not fit into the frames, or the number of frames is out of range.
    """
    # A test's mistake is reported here; in the frame it would be cut to 16 bits, and be found much later.
    if not 0 < frames <= MAX_PART_FRAMES:
        raise ValueError(f"an utterance must have 1 to {MAX_PART_FRAMES} frames of {FRAME_S:g} s, got {frames}")
    carried = carried_text(text, frames, spoken=spoken)
    return b"".join(_frame(kind, (utterance, part, index, frames), words) for index, words in enumerate(carried))


def carried_text(text: str, frames: int, *, spoken: int | None = None, capacity: int = MAX_TEXT_BYTES) -> list[bytes]:
    """Return the text that each of ``frames`` frames carries, at most ``capacity`` bytes each.

    Raises:
        ValueError: the text does not fit.
    """
    carried = _spread(_pieces(text), frames if spoken is None else min(spoken, frames), capacity)
    # Frames without words are voice all the same: a long voice need not be wordy.
    return carried + [b""] * (frames - len(carried))


def fewest_frames(text: str, capacity: int = MAX_TEXT_BYTES) -> int:
    """Return a number of frames into which ``text`` fits, however its words are split."""
    # A frame may be left with room for all but one byte of the next piece. What is sure
    # to fit is the capacity less a piece.
    return max(1, -(-len(text.encode()) // (capacity - MAX_PIECE_BYTES)))


def word_times(text: str, frames: int) -> list[tuple[str, float, float]]:
    """Return the words of an utterance with the seconds, from its start, at which each begins and ends."""
    times: list[tuple[str, float, float]] = []
    begun = 0.0
    # The times of the encoder's own layout: what the caller hears of a cut reply is then exact to the frame.
    for index, words in enumerate(_spread(_pieces(text), frames)):
        if words:
            end = (index + 1) * FRAME_S
            times.append((words.decode().strip(), begun, end))
            begun = end
    return times


def _pieces(text: str) -> list[bytes]:
    pieces: list[bytes] = []
    for word in _units(text):
        piece = b""
        # Between characters, never within one: each piece has to decode by itself.
        for character in word:
            if len(piece) + len(character.encode()) > MAX_PIECE_BYTES:
                pieces.append(piece)
                piece = b""
            piece += character.encode()
        pieces.append(piece)
    return pieces


def _units(text: str) -> Iterator[str]:
    """Yield what can be heard by itself, with the white space before it: words.

    In scripts without spaces, characters.
    """
    for word in re.findall(r"\s*\S+", text):
        space = word[: len(word) - len(word.lstrip())]
        for unit in units(word):
            yield space + unit
            space = ""


def _spread(pieces: Sequence[bytes], frames: int, capacity: int = MAX_TEXT_BYTES) -> list[bytes]:
    """Return the text of each frame: a piece ends in the frame where its share of the characters ends.

    A piece that does not fit there moves on to the next frame; if frames run out, all are filled anew from the end
    back.
    """
    carried = [b""] * frames
    latest = frames - 1
    places: list[int] = []
    earliest = characters = 0
    total = sum(len(piece.decode()) for piece in pieces)
    for piece in pieces:
        characters += len(piece.decode())
        # By its end: a word counts as heard when the frame that completes it has been played.
        place = max(earliest, -(-characters * frames // total) - 1)
        while place < frames and len(carried[place]) + len(piece) > capacity:
            place += 1
        # Pushed on beyond the end. From the end back, later words keep their places, and
        # earlier ones move to earlier frames.
        if place == frames:
            break
        carried[place] += piece
        places.append(earliest := place)
    if len(places) == len(pieces):
        return carried
    carried = [b""] * frames
    for piece in reversed(pieces):
        while len(carried[latest]) + len(piece) > capacity:
            latest -= 1
            if latest < 0:
                size, seconds = sum(map(len, pieces)), frames * FRAME_S
                raise ValueError(
                    f"{seconds:g} s of simulated voice cannot carry a text of {size} bytes; make it longer"
                )
        carried[latest] = piece + carried[latest]
    return carried


def packed(kind: Kind, numbers: tuple[int, int, int, int], words: bytes) -> bytes:
    """Return the head of a frame, its checksum and its text."""
    # Masked: a counter that runs over must not raise in the middle of a call.
    head = struct.pack(">B4HB", kind, *(number & 0xFFFF for number in numbers), len(words))
    # 16 bits: enough to tell a damaged frame, because a test has thousands of frames, not billions.
    check = zlib.crc32(head + words) & 0xFFFF
    return head + check.to_bytes(2) + words


def unpacked(data: bytes) -> tuple[Kind, tuple[int, int, int, int], bytes] | None:
    """Return the kind, the numbers and the text of a frame, or None if it is damaged."""
    # Any byte can be here, also a size beyond the data. The comparison with what these values would give refuses it.
    kind, size = data[0], data[HEAD_BYTES - 3]
    utterance, part, index, total = struct.unpack_from(">4H", data, 1)
    numbers, words = (utterance, part, index, total), data[HEAD_BYTES : HEAD_BYTES + size]
    if kind not in _SPOKEN_KINDS or not data.startswith(packed(Kind(kind), numbers, words)):
        return None
    return Kind(kind), numbers, words


@lru_cache(_CACHED_FRAMES)
def _frame(kind: Kind, numbers: tuple[int, int, int, int], words: bytes) -> bytes:
    data = np.frombuffer(packed(kind, numbers, words), dtype=np.uint8)
    nibbles = np.zeros(FRAME_SAMPLES - len(MAGIC_BYTES), dtype=np.uint8)
    nibbles[: 2 * len(data)] = np.stack([data >> 4, data & 0x0F], axis=1).reshape(-1)
    # Alternating signs: the voice has no direct component, and its energy is high in the band.
    nibbles[1::2] |= 0x80
    return MAGIC_BYTES + nibbles.tobytes()


class Decoder:
    """A decoder that finds voiced frames, and other sound, in mu-law audio of any chunking."""

    def __init__(self) -> None:
        self._held = b""
        self.position: int = 0
        """Number of the sample up to which everything has been reported."""

    def feed(self, mulaw: bytes) -> list[Sound]:
        """Add audio; return the sounds that are complete with it, oldest first."""
        self._held += mulaw
        return list(self._take(final=False))

    def finish(self) -> list[Sound]:
        """Return the sounds in audio that is still held back because it could become a frame."""
        return list(self._take(final=True))

    def _take(self, *, final: bool) -> Iterator[Sound]:
        while self._held:
            found = self._held.find(MAGIC_BYTES)
            if found < 0:
                # The newest bytes may be the beginning of a magic whose rest comes with the next piece.
                keep = 0 if final else _started_magic(self._held)
                yield from self._other(len(self._held) - keep)
                return
            # Whatever is before the magic is silence or sound of another kind: reported before the frame, in order.
            yield from self._other(found)
            # Wait for the rest of the frame; at the end of the audio it will not come, and what is there is damaged.
            if len(self._held) < FRAME_SAMPLES:
                if final:
                    yield from self._other(len(self._held))
                return
            # A frame that was cut short is followed by the next frame's magic before its own end.
            again = self._held.find(MAGIC_BYTES, 1, FRAME_SAMPLES + len(MAGIC_BYTES) - 1)
            if 0 < again < FRAME_SAMPLES:
                yield from self._other(again)
                continue
            sound = self._read(self._held[:FRAME_SAMPLES])
            if sound is None:
                # One frame's length, and not byte by byte: the next magic inside would have been found above.
                yield from self._other(FRAME_SAMPLES)
            else:
                yield sound
                self._drop(FRAME_SAMPLES)

    def _drop(self, count: int) -> None:
        self._held = self._held[count:]
        self.position += count

    def _other(self, count: int) -> Iterator[Sound]:
        """Report sound among the next ``count`` samples, from the first loud sample to the last."""
        part = self._held[:count]
        # Most of a call is exact silence, which needs no look at its samples.
        if part.strip(_SILENT_BYTES):
            loud = np.flatnonzero(np.abs(g711.decode(part).astype(np.int32)) > MAX_SILENCE_LEVEL)
            if len(loud):
                yield Sound(Kind.SOUND, self.position + int(loud[0]), self.position + int(loud[-1]) + 1)
        self._drop(count)

    def _read(self, frame: bytes) -> Sound | None:
        """Return the sound of a frame, or None if the frame is damaged."""
        read = _decoded(frame)
        if read is None:
            return None
        kind, (utterance, part, index, total), words = read
        return Sound(kind, self.position, self.position + FRAME_SAMPLES, utterance, part, index, total, words)


@lru_cache(_CACHED_FRAMES)
def _decoded(frame: bytes) -> tuple[Kind, tuple[int, int, int, int], str] | None:
    """Return the kind, the numbers and the text of a frame, or None if it is damaged."""
    nibbles = np.frombuffer(frame[len(MAGIC_BYTES) :], dtype=np.uint8) & 0x0F
    data = (nibbles[0::2] << 4 | nibbles[1::2]).tobytes()
    kind, size = data[0], data[HEAD_BYTES - 3]
    utterance, part, index, total = struct.unpack_from(">4H", data, 1)
    numbers, words = (utterance, part, index, total), data[HEAD_BYTES : HEAD_BYTES + size]
    # Encoded again and compared byte by byte: filler and signs, too. Only an exact chain passes this.
    if kind not in _SPOKEN_KINDS or frame != _frame(Kind(kind), numbers, words):
        return None
    return Kind(kind), numbers, words.decode()


def _started_magic(held: bytes) -> int:
    """Return the number of trailing bytes that could be the beginning of a magic."""
    return next((count for count in range(len(MAGIC_BYTES) - 1, 0, -1) if held.endswith(MAGIC_BYTES[:count])), 0)
