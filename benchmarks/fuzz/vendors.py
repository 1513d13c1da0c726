"""What is fuzzed of the vendors' protocols: whatever a vendor sends is understood, or refused in our own terms."""

import math
from collections.abc import Iterator
from contextlib import suppress

from patter_trio.errors import ProviderError, WireError
from patter_trio.wire import elevenlabs as voices
from patter_trio.wire import openai_realtime
from patter_trio.wire.deepgram import FluxCodec, ListenCodec, NovaCodec
from patter_trio.wire.openai_chat import ChatDecoder
from patter_trio.wire.sse import EventDecoder, ServerEvent

MAX_REFUSAL_CHARACTERS = 200
"""Characters of the longest refusal."""


def _messages(data: bytes) -> Iterator[str | bytes]:
    """Yield a message for each line: binary ones, where it begins with ``!``."""
    for line in data.split(b"\n"):
        yield line[1:] if line.startswith(b"!") else line.decode(errors="replace")


def deepgram(data: bytes) -> None:
    """Words are texts, and what is settled grows, within the audio that there can be."""
    codec: ListenCodec = FluxCodec() if data[:1] == b"f" else NovaCodec()
    settled = 0.0
    for message in _messages(data[1:]):
        with suppress(WireError, ProviderError):
            for transcript in codec.receive(message):
                transcript.text.encode()
        assert settled <= codec.settled < math.inf, "settled: it goes back, or on for ever"
        settled = codec.settled


def elevenlabs(data: bytes) -> None:
    """A message is one of the events that there are."""
    for message in _messages(data):
        with suppress(WireError):
            assert all(isinstance(event, voices.Event) for event in voices.receive(message))


def chat(data: bytes) -> None:
    """Events are the same in whatever pieces they come; what is in them is text, tools, or a failure of the vendor's."""
    size, body = data[0] % 16 + 1 if data else 1, data[1:]
    whole = _events([body])
    assert _events([body[start : start + size] for start in range(0, len(body), size)]) == whole, "pieces: they matter"
    decoder = ChatDecoder()
    with suppress(ProviderError):
        for event in whole or ():
            decoder.take(event.data).encode()
        for call in decoder.calls():
            call.arguments.encode()


def _events(pieces: list[bytes]) -> list[ServerEvent] | None:
    decoder = EventDecoder()
    found: list[ServerEvent] = []
    try:
        for piece in pieces:
            found += decoder.feed(piece)
        return found + decoder.finish()
    except (WireError, ProviderError):
        return None


def realtime(data: bytes) -> None:
    """A message is one of the events that there are, or of no interest; what is refused is not quoted."""
    for message in _messages(data):
        said = ""
        try:
            event = openai_realtime.receive(message)
        except WireError as error:
            said = str(error)
        else:
            assert event is None or isinstance(event, openai_realtime.Event)
        assert len(said) < MAX_REFUSAL_CHARACTERS, "quoted: a refusal is as long as what it refuses"
