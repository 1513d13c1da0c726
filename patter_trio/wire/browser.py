"""The media stream of our own browser phone: one bidirectional stream of JSON text messages.

The messages mean what those of carriers mean, without what a page has no use for: sequence numbers, stream ids and
media formats. Audio is mu-law at 8 kHz without a header, in base64.

::

    page → server   {"event": "start", "call_id": ID, "ticket": TICKET}     once, and first
                    {"event": "media", "payload": AUDIO}                    20 ms of the microphone
                    {"event": "mark", "name": NAME}                         the audio before it was played, or cleared
                    {"event": "dtmf", "digit": KEY}
                    {"event": "stop"}                                       the caller has hung up
    server → page   {"event": "media", "payload": AUDIO}                    play it behind all that came before
                    {"event": "mark", "name": NAME}                         to be sent back
                    {"event": "clear"}                                      discard what was not played

The ticket is the one-time token of a call (``server/pending.py``); the page gets it from ``POST /phone/calls``. The
page's side is ``phone_page/static/line.js``.
"""

from typing import Final

import msgspec

from patter_trio.abc import MarkReached, StreamCodec, StreamEvent, StreamStarted, StreamStopped
from patter_trio.errors import WireError
from patter_trio.wire.stream_messages import (
    MediaBody,
    MessageDecoder,
    audio_of,
    digit_of,
    encode,
    not_started,
    started_twice,
)


class _Event(msgspec.Struct, frozen=True, tag_field="event"):
    """A message; the name of its class in lower case is its ``event``."""


class _Start(_Event, frozen=True, tag="start"):
    call_id: str
    ticket: str


class _Media(_Event, frozen=True, tag="media"):
    # msgspec decodes the base64 in the same pass.
    payload: bytes


class _Digit(_Event, frozen=True, tag="dtmf"):
    digit: str


class _Mark(_Event, frozen=True, tag="mark"):
    name: str


class _Stop(_Event, frozen=True, tag="stop"):
    """The end of the stream."""


class _Clear(_Event, frozen=True, tag="clear"):
    """The command to discard what was not played."""


_Incoming = _Start | _Media | _Digit | _Mark | _Stop
_messages: Final = MessageDecoder(
    msgspec.json.Decoder(_Incoming).decode, frozenset({"start", "media", "dtmf", "mark", "stop"})
)
_CLEAR: Final = encode(_Clear()).decode()


class BrowserCodec(StreamCodec):
    """The codec of one page's media stream."""

    def __init__(self) -> None:
        self._call_id = ""

    def __repr__(self) -> str:
        return f"<BrowserCodec {self._call_id or 'not started'}>"

    def receive(self, message: str | bytes) -> StreamEvent | None:
        """Return the event in a message of the page; None for an unknown one, which an older or newer page may send.

        Raises:
            WireError: the protocol does not allow the message; the reason never quotes it.
        """
        decoded = _messages.read(message)
        if decoded is None:
            return None
        if isinstance(decoded, _Start):
            return self._started(decoded)
        if not self._call_id:
            raise not_started()
        if isinstance(decoded, _Media):
            return audio_of(MediaBody(decoded.payload))
        if isinstance(decoded, _Mark):
            return MarkReached(decoded.name)
        if isinstance(decoded, _Digit):
            return digit_of(decoded.digit)
        return StreamStopped()

    def _started(self, message: _Start) -> StreamStarted:
        if self._call_id:
            raise started_twice()
        if not message.call_id:
            raise WireError("the start message must have a call_id")
        self._call_id = message.call_id
        # Under the name that carriers bring their tokens back with, so that the server has one rule.
        return StreamStarted(message.call_id, {"token": message.ticket})

    def audio(self, mulaw: bytes) -> str:
        """Return the message that plays mu-law audio (8 kHz, no header, any length) after everything sent before it."""
        return encode(_Media(mulaw)).decode()

    def mark(self, name: str) -> str:
        """Return the message that requests a :class:`~patter_trio.abc.MarkReached` of this name."""
        return encode(_Mark(name)).decode()

    def clear(self) -> str:
        """Return the message that makes the page discard what it has not played; its marks come back at once."""
        return _CLEAR
