"""The words of each carrier's stream for the messages in the catalogue of faults, as data.

In every message, ``SID`` stands for the id of the stream.
"""

import base64
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs

Message = Mapping[str, object]
"""A message of a carrier, as JSON."""


@attrs.frozen
class StreamWords:
    """One carrier's messages to the agent's server."""

    stream_key: str
    """The key of the stream's id."""
    start: Message
    """A second start of the stream, for another call."""
    stop: Message
    played: Message
    """The report of a mark; its name is at the place that :meth:`renamed` finds."""
    unknown_call: str
    """The id of a call that does not exist."""

    def audio(self, mulaw: bytes, *, stream: str = "SID", track: str = "inbound") -> Message:
        """Return a media message."""
        body = {"track": track, "payload": base64.b64encode(mulaw).decode()}
        return {"event": "media", self.stream_key: stream, "media": body}

    def key(self, digit: str) -> Message:
        """Return the message that the caller pressed a key."""
        return {"event": "dtmf", self.stream_key: "SID", "dtmf": {"digit": digit}}

    def mark(self, name: str) -> Message:
        """Return the report of a mark."""
        return renamed(self.played, name)

    def mistyped(self) -> Message:
        """Return a media message with a number and a list in place of texts."""
        return {"event": "media", self.stream_key: 7, "media": []}

    def unknown(self) -> Message:
        """Return a message of an event that is not in the documentation."""
        return {"event": "new", self.stream_key: "SID", "new": {}}

    def event(self, ours: str) -> str:
        """Return the carrier's name of an event: ``media``, or ``mark``, which Plivo calls otherwise."""
        return str(self.played["event"]) if ours == "mark" else ours


def name_of(played: Mapping[str, Any]) -> str:
    """Return the name in the report of a mark, whatever the carrier."""
    return str(played["name"] if "name" in played else played["mark"]["name"])


def renamed(played: Mapping[str, Any], name: str) -> Message:
    """Return the report of a mark with another name."""
    return {**played, "name": name} if "name" in played else {**played, "mark": {"name": name}}


WORDS: Final[Mapping[str, StreamWords]] = MappingProxyType(
    {
        "twilio": StreamWords(
            stream_key="streamSid",
            start={
                "event": "start",
                "streamSid": "SID",
                "start": {"streamSid": "SID", "callSid": "CA1", "customParameters": {}},
            },
            stop={"event": "stop", "streamSid": "SID", "stop": {}},
            played={"event": "mark", "streamSid": "SID", "mark": {"name": ""}},
            unknown_call="CA" + "f" * 32,
        ),
        "telnyx": StreamWords(
            stream_key="stream_id",
            start={
                "event": "start",
                "stream_id": "SID",
                "start": {
                    "call_control_id": "v3:1",
                    "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
                },
            },
            stop={"event": "stop", "stream_id": "SID", "stop": {}},
            played={"event": "mark", "stream_id": "SID", "mark": {"name": ""}},
            unknown_call="v3:" + "f" * 32,
        ),
        "plivo": StreamWords(
            stream_key="streamId",
            start={
                "event": "start",
                "start": {
                    "callId": "1",
                    "streamId": "SID",
                    "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
                },
            },
            # Not in Plivo's reference, and sent by some: docs/carriers.md.
            stop={"event": "stop", "streamId": "SID"},
            played={"event": "playedStream", "streamId": "SID", "name": ""},
            unknown_call="ffffffff-ffff-4fff-8fff-ffffffffffff",
        ),
    }
)
"""The words of each carrier, by the name of its protocol."""
