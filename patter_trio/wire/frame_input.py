"""The input of a server's WebSocket, cut into frames: a plain text frame is taken apart here, at once.

Nearly every message of a carrier is one masked text frame that has come whole, fifty times a second and call. To take
it apart takes 9.9 microseconds with a general parser, and 3.0 here (docs/benchmarks.md, "Where the time goes"). All
other input goes to the parser in pieces that end where a frame does, so that the beginning of the next frame is known.

Frames: RFC 6455, section 5.2.
"""

from typing import Final

# The C function of the library's own parser, an eighth of the time of integers in Python.
from websockets.frames import apply_mask  # type: ignore[attr-defined]  # (not in the module's ``__all__``)

# FIN and the opcode 1; no reserved bits.
_WHOLE_TEXT: Final = 0x81
_MASKED: Final = 0x80
# The length that stands for a field of two bytes; the next one, for a field of eight.
_TWO_BYTES: Final = 126
_SHORTEST_HEAD_BYTES: Final = 2
_LONGEST_HEAD_BYTES: Final = 10
_MASK_BYTES: Final = 4


def frame_bytes(data: bytes) -> int | None:
    """Return the size of the frame with which ``data`` begins, head included; None if its head is not complete."""
    if len(data) < _SHORTEST_HEAD_BYTES:
        return None
    length, head = data[1] & ~_MASKED, _SHORTEST_HEAD_BYTES
    if length >= _TWO_BYTES:
        head += 2 if length == _TWO_BYTES else 8
        if len(data) < head:
            return None
        length = int.from_bytes(data[_SHORTEST_HEAD_BYTES:head])
    return head + length + (_MASK_BYTES if data[1] & _MASKED else 0)


class FrameInput:
    """The bytes that have come from a client, behind its handshake, and that nobody has taken."""

    def __init__(self, data: bytes = b"") -> None:
        self._data = data
        self._head = b""
        """The part of the present frame's head that was taken, while its length is not known."""
        self._left = 0
        """Bytes of the present frame that were not taken; 0 where a frame begins, and in a head."""

    def __repr__(self) -> str:
        return f"<FrameInput {len(self._data)} bytes, {self._left} left of the frame>"

    def __bool__(self) -> bool:
        return bool(self._data)

    def put(self, data: bytes) -> None:
        """Add bytes that were read."""
        self._data = self._data + data if self._data else data

    def take_text(self) -> bytes | None:
        """Take the next frame, and return its payload, if it is whole, text, not a fragment and not long.

        None: it is something else, or not complete. :meth:`take` takes it then.
        """
        data = self._data
        if self._left or self._head or len(data) < _SHORTEST_HEAD_BYTES + _MASK_BYTES or data[0] != _WHOLE_TEXT:
            return None
        length = data[1] - _MASKED
        begin = _SHORTEST_HEAD_BYTES + _MASK_BYTES
        if length == _TWO_BYTES:
            length, begin = data[2] << 8 | data[3], begin + 2
        # Longer ones, and those without a mask, which are errors.
        elif not 0 <= length < _TWO_BYTES:
            return None
        end = begin + length
        if len(data) < end:
            return None
        self._data = data[end:]
        payload: bytes = apply_mask(data[begin:end], data[begin - _MASK_BYTES : begin])
        return payload

    def take(self, size: int) -> bytes:
        """Take up to ``size`` bytes: as many whole frames as fit, or the next part of a longer one."""
        if not self._left:
            if end := self._whole_frames(size):
                return self._cut(end)
            frame = frame_bytes(self._head + self._data[:_LONGEST_HEAD_BYTES])
            if frame is None:
                # Given away at once: a head may be wrong before it is complete.
                self._head += self._data
                return self._cut(len(self._data))
            self._left = frame - len(self._head)
            self._head = b""
        taken = self._cut(min(size, self._left))
        self._left -= len(taken)
        return taken

    def _whole_frames(self, size: int) -> int:
        """Return the number of bytes that whole frames have, of those that begin here and end within ``size``."""
        if self._head:
            return 0
        end, size = 0, min(size, len(self._data))
        while (frame := frame_bytes(self._data[end : end + _LONGEST_HEAD_BYTES])) and end + frame <= size:
            end += frame
        return end

    def _cut(self, size: int) -> bytes:
        taken, self._data = self._data[:size], self._data[size:]
        return taken
