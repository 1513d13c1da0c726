"""The behaviour and the record of the fake Realtime server; a part of :mod:`.openai_realtime`."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs
import trio

from patter_trio.abc import ToolCall

Json = dict[str, Any]


@attrs.frozen(kw_only=True)
class RealtimeReply:
    """The course of one response.

    Args:
        text: the spoken text; empty for no speech.
        tool_calls: the tool calls after the text, unless the response may not call tools.
        seconds: seconds of speech; by default 0.06 for each character.
        created_delay: seconds from the request to ``response.created``; until then there is nothing to cancel.
        first_audio: seconds from there to the first audio, or the first tool call.
        chunk: seconds of audio in each message.
        speed: seconds of audio that are made in a second.
        status: the final status; ``reason`` gives the cause of any other than ``completed``.
        error: ``(code, type, message)`` of a failure; the status is then ``failed``, after the text.
        usage: the reported usage, instead of plausible numbers.
        hang_after: audio messages after which nothing more comes.
        lose_after: audio messages after which the connection is lost.
    """

    text: str = "Certainly."
    tool_calls: Sequence[ToolCall] = ()
    # None keeps the pace of the scripted providers; a number makes an answer long without a long text.
    seconds: float | None = None
    created_delay: float = 0.0
    first_audio: float = 0.3
    chunk: float = 0.2
    # Faster than real time, as the vendor is. The answer is complete at the client long before it has been heard.
    speed: float = 10.0
    status: str = "completed"
    reason: str = ""
    error: tuple[str, str, str] | None = None
    usage: Mapping[str, Any] | None = None
    hang_after: int | None = None
    lose_after: int | None = None


@attrs.frozen(kw_only=True)
class Asked:
    """The request from which a response is made.

    Attributes:
        number: number of the response on this server, from 1.
        connection: number of the connection, from 0.
        by_vad: True if the response was triggered by the end of the caller's turn, not by a request.
        request: metadata of the request.
        instructions: the instructions for the response, its own or the session's.
        items: the items of the conversation, in the vendor's format.
        heard: the caller's last words, spoken or as a message.
    """

    number: int
    connection: int
    by_vad: bool
    request: Mapping[str, str]
    instructions: str
    items: Sequence[Mapping[str, Any]]
    heard: str


Replies = Sequence[RealtimeReply] | Callable[[Asked], RealtimeReply]


@attrs.frozen(kw_only=True)
class FakeRealtime:
    """The behaviour of the server.

    Args:
        replies: the n-th is the n-th response, the last one also all further ones; or a function of the request.
        key: the only key that is accepted.
        accepting: seconds until a handshake is answered.
        status: HTTP status with which handshakes are refused; 0 accepts them.
        half_open: accept the connection, and send nothing at all.
        mute: open the socket, and send nothing at all.
        opens_with: ``(code, type, message)`` of an error that is sent in place of ``session.created``, before the
            connection ends.
        transcript_delay: seconds from the end of the caller's speech to its transcript.
        transcript_fails: if True, transcription always fails.
        hears: the transcript of a voice whose words are not in the audio, such as a recording.
        semantic_silence: seconds of silence that end a turn whose words end with a full stop, with semantic detection;
            other turns end after the limit of their eagerness: 8, 4 or 2 s.
        expires_after: seconds after which a session is over.
        lose_after: seconds of audio after which the first, second ... connection is lost.
        refuses: types of events that are refused, each with the code of the error.
        garbage: raw messages that are sent after ``session.created``.
    """

    replies: Replies = (RealtimeReply(),)
    key: str = "key"
    accepting: float = 0.0
    status: int = 0
    half_open: bool = False
    mute: bool = False
    opens_with: tuple[str, str, str] | None = None
    transcript_delay: float = 0.2
    transcript_fails: bool = False
    hears: str = ""
    semantic_silence: float = 0.3
    expires_after: float = math.inf
    lose_after: tuple[float, ...] = ()
    refuses: Mapping[str, str] = attrs.field(factory=dict)
    garbage: tuple[str | bytes, ...] = ()


@attrs.define(eq=False)
class RealtimeServerConnection:
    """One connection, as the server saw it; times are those of trio's clock."""

    number: int
    path: str
    query: dict[str, list[str]]
    headers: Mapping[str, str] = attrs.field(repr=False)
    opened_at: float
    _say: trio.MemorySendChannel[str | bytes | int | None] = attrs.field(repr=False)
    _stream: trio.abc.Stream = attrs.field(repr=False)
    frozen: bool = False
    """If True, nothing is sent and nothing handled any more; a test sets it."""
    audio: bytearray = attrs.field(factory=bytearray, repr=False)
    """All audio that was appended."""
    appended: list[tuple[float, int]] = attrs.field(factory=list, repr=False)
    """The time and size of each appended piece."""
    said: list[tuple[float, Json]] = attrs.field(factory=list, repr=False)
    """The client's events, except the audio."""
    emitted: list[tuple[float, Json]] = attrs.field(factory=list, repr=False)
    """The events that were sent to the client."""
    session: Json = attrs.field(factory=dict, repr=False)
    items: list[Json] = attrs.field(factory=list, repr=False)
    """The items of the conversation."""
    ended_at: float = math.inf
    code: int = 0
    ended: trio.Event = attrs.field(factory=trio.Event, repr=False)

    def sent(self, kind: str) -> list[tuple[float, Json]]:
        """Return the client's events of one type, with their times."""
        return [(at, message) for at, message in self.said if message.get("type") == kind]

    def types(self) -> list[str]:
        """Return the types of the client's events, except the audio."""
        return [str(message.get("type")) for _, message in self.said]

    def events(self, kind: str) -> list[tuple[float, Json]]:
        """Return the events of one type that were sent to the client, with their times."""
        return [(at, event) for at, event in self.emitted if event["type"] == kind]

    def texts(self) -> list[tuple[str, str]]:
        """Return role and text of each message in the conversation, without what a truncation removed."""
        return [(str(item["role"]), text_of(item)) for item in self.items if item["type"] == "message"]

    def emit(self, kind: str, **fields: Any) -> None:
        """Send an event to the client."""
        # Not recorded either: ``emitted`` has what the client can have received.
        if self.frozen:
            return
        # Numbered, not random, so that each run is the same.
        event = {"type": kind, "event_id": f"event_{len(self.emitted) + 1}", **fields}
        self.emitted.append((trio.current_time(), event))
        self.say(json.dumps(event))

    def say(self, message: str | bytes | int) -> None:
        """Send a raw message; a number closes the connection with that code."""
        # The connection has ended meanwhile; the vendor's events would be lost on the wire just the same.
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            self._say.send_nowait(message)

    def error(
        self,
        code: str | None,
        kind: str = "invalid_request_error",
        message: str = "as scripted",
        *,
        param: str | None = None,
        event_id: str | None = None,
    ) -> None:
        """Send an error event."""
        error = {"type": kind, "code": code, "message": message, "param": param, "event_id": event_id}
        self.emit("error", error=error)

    def close(self, code: int = 1000) -> None:
        """Close the connection, after earlier messages."""
        self.say(code)

    async def lose(self) -> None:
        """Break the connection, whatever it is doing."""
        # Without a close frame: a lost connection has none, and a client may treat the two differently.
        await trio.aclose_forcefully(self._stream)

    def append_audio(self, audio: bytes) -> None:
        """Record a piece of audio that the client has appended."""
        self.audio += audio
        self.appended.append((trio.current_time(), len(audio)))

    def update_session(self, session: Json) -> None:
        """Record the settings of the session from now on."""
        self.session = session

    def closed_by_client(self, code: int) -> None:
        """Record the code of the client's close frame; 1006 without one."""
        self.code = code

    def end(self) -> None:
        """Record the end of the connection, which is now."""
        self.ended_at = trio.current_time()
        self.ended.set()


def text_of(item: Mapping[str, Any]) -> str:
    """Return the text of an item's content."""
    parts = item.get("content") or ()
    return " ".join(part.get("text") or part.get("transcript") or "" for part in parts).strip()
