"""The media-stream messages of our own browser phone, in and out."""

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter_trio.abc import AudioReceived, DigitPressed, MarkReached, StreamEvent, StreamStarted, StreamStopped
from patter_trio.errors import WireError
from patter_trio.wire.browser import BrowserCodec
from tests.kit.stream_messages import NOT_MESSAGES, refuses_unquoted, spoilt

START = {"event": "start", "call_id": "BR1", "ticket": "secret"}


def started() -> BrowserCodec:
    codec = BrowserCodec()
    assert codec.receive(json.dumps(START)) == StreamStarted("BR1", {"token": "secret"})
    return codec


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (
            {"event": "media", "payload": base64.b64encode(b"\xff\x7f" * 80).decode()},
            AudioReceived(b"\xff\x7f" * 80),
        ),
        ({"event": "mark", "name": "r1.2"}, MarkReached("r1.2")),
        ({"event": "stop"}, StreamStopped()),
        *(({"event": "dtmf", "digit": key}, DigitPressed(key)) for key in "0123456789*#ABCD"),
        ({"event": "level", "level": 3}, None),
    ],
)
def test_messages_become_events(message: dict[str, Any], event: StreamEvent | None) -> None:
    """Each message of the page becomes its event; one of a newer page is ignored."""
    assert started().receive(json.dumps(message)) == event


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        *NOT_MESSAGES,
        (json.dumps(START), "once"),
        ('{"event": "media", "payload": ""}', "audio"),
        ('{"event": "media", "payload": "secret!"}', "field"),
        ('{"event": "dtmf", "digit": "12"}', "digit"),
        ('{"event": "dtmf", "digit": "<b>secret</b>"}', "digit"),
        ('{"event": "mark"}', "field"),
        ('{"event": "mark", "name": 7}', "field"),
    ],
)
def test_other_messages_are_refused_unquoted(message: str | bytes, reason: str) -> None:
    """A message that the protocol does not allow is a WireError that does not quote it."""
    refuses_unquoted(started(), message, reason)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('{"event": "start", "call_id": "", "ticket": "secret"}', "call_id"),
        ('{"event": "start", "call_id": "secret"}', "field"),
        ('{"event": "stop"}', "before other"),
        ('{"event": "media", "payload": "AAAA"}', "before other"),
    ],
)
def test_stream_begins_with_whole_start(message: str, reason: str) -> None:
    """Before a start with call and ticket nothing else is taken."""
    codec = BrowserCodec()
    refuses_unquoted(codec, message, reason)
    assert repr(codec) == "<BrowserCodec not started>"


def test_repr_has_no_ticket() -> None:
    """The ticket stands neither in the codec's repr nor in that of the event."""
    codec = BrowserCodec()
    event = codec.receive(json.dumps(START))
    assert "secret" not in f"{codec!r} {event!r}"


@given(st.binary(min_size=1, max_size=400), st.text(max_size=20))
def test_commands_have_their_documented_form(audio: bytes, name: str) -> None:
    """Audio, mark and clear are what the page reads, and what the codec itself reads back."""
    codec = started()
    media = json.loads(codec.audio(audio))
    assert media == {"event": "media", "payload": base64.b64encode(audio).decode()}
    assert json.loads(codec.mark(name)) == {"event": "mark", "name": name}
    assert json.loads(codec.clear()) == {"event": "clear"}
    assert codec.receive(codec.audio(audio)) == AudioReceived(audio)
    assert codec.receive(codec.mark(name)) == MarkReached(name)


@given(st.text() | st.binary() | spoilt([START, {"event": "media", "payload": "AAAA"}, {"event": "mark", "name": "m"}]))
def test_any_input_is_event_or_wire_error(message: str | bytes) -> None:
    """Whatever arrives is an event, nothing, or a WireError."""
    with contextlib.suppress(WireError):
        started().receive(message)
