"""What the fake of OpenAI's Realtime server does and what it saw; a part of :mod:`.openai_realtime`."""

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
    """How one response goes.

    Args:
        text: what is said; empty: nothing.
        tool_calls: what is called after it, unless the response may call no tools.
        seconds: of speech; default: 0.06 for each character.
        created_delay: seconds from the request to ``response.created``; until then there is nothing to cancel.
        first_audio: seconds from there to the first audio, or the first call.
        chunk: seconds of audio in each message.
        speed: seconds of audio made in a second.
        status: how it ends; ``reason`` is why, if not ``completed``.
        error: ``(code, type, message)`` of a failure; the status is ``failed`` then, after what was said.
        usage: what is told of it, instead of some numbers that fit.
        hang_after: messages of audio after which nothing more comes.
        lose_after: messages of audio after which the connection is lost.
    """

    text: str = "Certainly."
    tool_calls: Sequence[ToolCall] = ()
    seconds: float | None = None
    created_delay: float = 0.0
    first_audio: float = 0.3
    chunk: float = 0.2
    speed: float = 10.0
    status: str = "completed"
    reason: str = ""
    error: tuple[str, str, str] | None = None
    usage: Mapping[str, Any] | None = None
    hang_after: int | None = None
    lose_after: int | None = None


@attrs.frozen(kw_only=True)
class Asked:
    """What a response is made of.

    Attributes:
        number: of the response on this server, from 1.
        connection: number of the connection, from 0.
        by_vad: whether nobody asked for it but the end of the caller's turn.
        request: metadata that it was asked with.
        instructions: that it has to follow, its own or the session's.
        items: of the conversation, as the vendor shows them.
        heard: what the caller, or a message of the user's, said last.
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
    """What the server does.

    Args:
        replies: the n-th is the n-th response, the last one all that come after it; or a function of what is asked.
        key: the only one that it takes.
        accepting: seconds until a handshake is answered.
        status: HTTP status with which handshakes are refused.
        half_open: takes the connection, and says nothing at all.
        mute: opens the socket, and says nothing at all.
        opens_with: ``(code, type, message)`` of an error that it says instead of hello, and ends the connection.
        transcript_delay: seconds from the end of what the caller said until it is written down.
        transcript_fails: whether it never is.
        hears: what it writes down of a voice whose words are not in the audio, such as a recording.
        semantic_silence: seconds of silence that end a turn whose words end with a stop, where it judges by meaning; other
            turns end by the eagerness's own limit: 8, 4 or 2 s.
        expires_after: seconds after which a session is over.
        lose_after: seconds of audio after which the first, second ... connection is lost.
        refuses: types of events that are refused, each with the code of the error.
        garbage: messages that are sent behind the hello, as they are.
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
    """One connection, as the server saw it; times are trio's."""

    number: int
    path: str
    query: dict[str, list[str]]
    headers: Mapping[str, str] = attrs.field(repr=False)
    opened_at: float
    audio: bytearray = attrs.field(factory=bytearray, repr=False)
    """All that was appended."""
    appended: list[tuple[float, int]] = attrs.field(factory=list, repr=False)
    """When, and how many bytes."""
    said: list[tuple[float, Json]] = attrs.field(factory=list, repr=False)
    """What the client sent, but for the audio."""
    told: list[tuple[float, Json]] = attrs.field(factory=list, repr=False)
    """What the client was told."""
    session: Json = attrs.field(factory=dict, repr=False)
    items: list[Json] = attrs.field(factory=list, repr=False)
    """The conversation."""
    frozen: bool = False
    """Whether nothing is told any more, and nothing done; to be set by a test."""
    ended_at: float = math.inf
    code: int = 0
    ended: trio.Event = attrs.field(factory=trio.Event, repr=False)
    _say: trio.MemorySendChannel[str | bytes | int | None] | None = attrs.field(default=None, repr=False)
    _stream: trio.abc.Stream | None = attrs.field(default=None, repr=False)

    def sent(self, kind: str) -> list[tuple[float, Json]]:
        """Return what the client sent of one type, and when."""
        return [(at, message) for at, message in self.said if message.get("type") == kind]

    def types(self) -> list[str]:
        """Return the types of what the client sent, but for the audio."""
        return [str(message.get("type")) for _, message in self.said]

    def events(self, kind: str) -> list[tuple[float, Json]]:
        """Return what the client was told of one type, and when."""
        return [(at, event) for at, event in self.told if event["type"] == kind]

    def texts(self) -> list[tuple[str, str]]:
        """Return who said what in the conversation; what was cut off by a truncation is gone."""
        return [(str(item["role"]), text_of(item)) for item in self.items if item["type"] == "message"]

    def tell(self, kind: str, **fields: Any) -> None:
        """Tell the client something."""
        if self.frozen:
            return
        event = {"type": kind, "event_id": f"event_{len(self.told) + 1}", **fields}
        self.told.append((trio.current_time(), event))
        self.say(json.dumps(event))

    def say(self, message: str | bytes | int) -> None:
        """Send a message as it is; a number closes the connection with it."""
        if self._say is None:
            raise RuntimeError("the connection is not open")
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            self._say.send_nowait(message)

    def error(
        self,
        code: str | None,
        kind: str = "invalid_request_error",
        message: str = "as told",
        *,
        param: str | None = None,
        event_id: str | None = None,
    ) -> None:
        """Report an error."""
        error = {"type": kind, "code": code, "message": message, "param": param, "event_id": event_id}
        self.tell("error", error=error)

    def close(self, code: int = 1000) -> None:
        """End the connection, behind what was said before."""
        self.say(code)

    async def lose(self) -> None:
        """Lose the connection, in the middle of whatever it was doing."""
        if self._stream is not None:
            await trio.aclose_forcefully(self._stream)


def text_of(item: Mapping[str, Any]) -> str:
    """Return the text of an item's content."""
    parts = item.get("content") or ()
    return " ".join(part.get("text") or part.get("transcript") or "" for part in parts).strip()
