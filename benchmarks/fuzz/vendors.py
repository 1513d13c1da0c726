"""Fuzzed protocols of vendors and of other carriers than Twilio: a message is decoded, or refused by our own errors."""

import base64
import json
import math
from collections.abc import Iterator
from contextlib import suppress

from patter_trio.abc import AudioReceived, DigitPressed, MarkReached, StreamStarted, StreamStopped
from patter_trio.errors import ProviderError, WireError
from patter_trio.wire import elevenlabs as voices
from patter_trio.wire import openai_realtime
from patter_trio.wire.deepgram import FluxCodec, ListenCodec, NovaCodec
from patter_trio.wire.openai_chat import ChatDecoder
from patter_trio.wire.plivo import PlivoCodec
from patter_trio.wire.sse import EventDecoder, ServerEvent

# Longer than any reason of ours, shorter than a message that would be quoted in one.
MAX_REFUSAL_CHARACTERS = 200
"""Maximum length of a refusal."""


def _messages(data: bytes) -> Iterator[str | bytes]:
    """Yield a message for each line; a line that begins with ``!`` is a binary one."""
    for line in data.split(b"\n"):
        yield line[1:] if line.startswith(b"!") else line.decode(errors="replace")


def deepgram(data: bytes) -> None:
    """Check that words are valid text, and that the settled time grows and stays finite."""
    codec: ListenCodec = FluxCodec() if data[:1] == b"f" else NovaCodec()
    settled = 0.0
    for message in _messages(data[1:]):
        with suppress(WireError, ProviderError):
            for transcript in codec.receive(message):
                transcript.text.encode()
        # It only grows: audio before it is not sent again after a lost connection.
        assert settled <= codec.settled < math.inf, "settled: it goes back, or on for ever"
        settled = codec.settled


def elevenlabs(data: bytes) -> None:
    """Check that a message decodes to known events."""
    for message in _messages(data):
        with suppress(WireError):
            assert all(isinstance(event, voices.Event) for event in voices.receive(message))


def chat(data: bytes) -> None:
    """Check that events do not depend on chunking, and contain text, tool calls, or a failure of the vendor."""
    # Small pieces: every boundary of an event is cut through at some size.
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
    # A refusal of the whole has to be a refusal of the pieces, too: None equals None.
    except (WireError, ProviderError):
        return None


def realtime(data: bytes) -> None:
    """Check that a message decodes to a known event or to none, and that refusals do not quote it."""
    for message in _messages(data):
        said = ""
        try:
            event = openai_realtime.receive(message)
        except WireError as error:
            said = str(error)
        else:
            assert event is None or isinstance(event, openai_realtime.Event)
        assert len(said) < MAX_REFUSAL_CHARACTERS, "quoted: a refusal is as long as what it refuses"


def plivo(data: bytes) -> None:
    """Check that a stream's message means what the json module reads in it, and that refusals do not quote it."""
    codec = PlivoCodec()
    for message in _messages(data):
        said = ""
        try:
            event = codec.receive(message)
        except WireError as error:
            said = str(error)
        assert len(said) < MAX_REFUSAL_CHARACTERS, "a refusal quotes the message"
        if said:
            continue
        whole = json.loads(message)
        match event:
            case AudioReceived():
                assert event.audio == base64.b64decode(whole["media"]["payload"]), "audio: other bytes"
            case MarkReached():
                assert event.name == whole["name"], "mark: another name"
            case DigitPressed():
                assert event.digit == str(whole["dtmf"]["digit"]), "digit: another one"
            case StreamStarted():
                assert event.call_id == whole["start"]["callId"], "start: another call"
            case StreamStopped() | None:
                assert isinstance(whole["event"], str), "event: without a name"
