"""Media streams of carriers: their events, and the codec between those and the carrier's messages."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import attrs


@attrs.frozen
class StreamStarted:
    """The start of the carrier's media stream: the id of the call, and the parameters given to the carrier."""

    call_id: str
    # Kept as they came: the server looks for its token, the application for its own.
    parameters: Mapping[str, str] = attrs.field(repr=False)  # the one-time token is one of them


@attrs.frozen
class AudioReceived:
    """Audio from the caller: mu-law at 8 kHz, usually 20 ms."""

    audio: bytes


@attrs.frozen
class MarkReached:
    """A mark whose preceding audio has left the carrier's buffer, because it was played or cleared."""

    name: str


@attrs.frozen
class DigitPressed:
    """A key that the caller pressed: 0-9, ``*``, ``#`` or A-D."""

    digit: str


@attrs.frozen
class StreamStopped:
    """The end of the stream, announced by the carrier."""


# Closed: a codec translates whatever its carrier has into these five.
StreamEvent = StreamStarted | AudioReceived | MarkReached | DigitPressed | StreamStopped


# Without I/O, so that a codec can be tested byte by byte, and cannot hold up the call's reader.
class StreamCodec(ABC):
    """The media-stream protocol of one carrier, without I/O: messages to events, commands to messages.

    Each codec serves one stream. ``audio``, ``mark`` and ``clear`` may be used only after ``StreamStarted``.
    """

    @abstractmethod
    def receive(self, message: str | bytes) -> StreamEvent | None:
        """Return the event that a carrier's message contains; None for a valid message without one.

        Raises:
            WireError: the protocol does not allow the message.
        """

    # Text, because all known carriers take JSON; the call sends it unchanged.
    @abstractmethod
    def audio(self, mulaw: bytes) -> str:
        """Return the message that plays mu-law audio to the caller after everything sent before it."""

    @abstractmethod
    def mark(self, name: str) -> str:
        """Return the message that requests a :class:`MarkReached`."""

    @abstractmethod
    def clear(self) -> str:
        """Return the message that empties the carrier's buffer, so that the caller hears silence at once."""

    # Not abstract: most carriers have no such message, and the call then plays the tones as audio.
    def digits(self, digits: str) -> str | None:  # noqa: ARG002 (for carriers that have the message)
        """Return the message that makes the carrier send DTMF digits; None if its stream has no such message."""
        return None
