"""One session of the fake Realtime server; a part of :mod:`.openai_realtime`."""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Final

import trio

from patter_trio.audio.formats import RATE_HZ
from patter_trio.net.websocket import WebSocket
from patter_trio.testing.servers.openai_realtime.ear import Ear, Edge
from patter_trio.testing.servers.openai_realtime.response import RealtimeServerResponse
from patter_trio.testing.servers.openai_realtime.script import (
    Asked,
    FakeRealtime,
    Json,
    RealtimeServerConnection,
    text_of,
)

# Theory of operation. The session handles one event of the client at a time, in a plain function: whatever it causes
# is sent before the next event is read, as if the vendor were infinitely fast. What takes time at the vendor (a
# response, a transcript, the session's age) is a task, with a scripted latency. So the order of the events is the
# vendor's, and a test can give the instant of each.
#
# Names, required fields and errors are those of the GA interface (``openai.types.realtime`` of openai 3.54). Where the
# vendor refuses, so does the fake, with the vendor's code where it is known: no client may rely on what a fake allows.

# The vendor's error for a commit says "expected at least 100ms of audio".
MIN_COMMIT_S: Final = 0.1
"""Minimum seconds of audio for a commit."""
CONTENT_BY_ROLE: Final = {"system": {"input_text"}, "user": {"input_text", "input_audio"}, "assistant": {"output_text"}}
"""The types of content that a message may have, by its role."""
# Closed lists: the SDK's models let unknown keys pass, so a key of the beta, or ``temperature``, would go unnoticed.
SESSION_KEYS: Final = {
    "type", "model", "output_modalities", "instructions", "audio", "tools", "tool_choice", "parallel_tool_calls",
    "max_output_tokens", "truncation", "reasoning", "prompt", "tracing", "include",
}  # fmt: skip
RESPONSE_KEYS: Final = {
    "audio", "conversation", "input", "instructions", "max_output_tokens", "metadata", "output_modalities",
    "parallel_tool_calls", "prompt", "reasoning", "tool_choice", "tools",
}  # fmt: skip


class RequestRefused(Exception):
    """A request of the client that cannot be carried out."""

    def __init__(self, code: str | None, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class RealtimeServerSession:
    """A session that carries out the requests of one client; ``asked`` is shared by all sessions of the server."""

    def __init__(
        self, connection: RealtimeServerConnection, script: FakeRealtime, asked: list[Asked], nursery: trio.Nursery
    ) -> None:
        self.connection = connection
        self.script = script
        self.sent: dict[str, int] = {}
        """Bytes of audio that were sent, by item."""
        self.active: RealtimeServerResponse | None = None
        self._asked = asked
        self._nursery = nursery
        # It goes on over commits: positions count from the first audio of the connection,
        # as the vendor's milliseconds do.
        self._ear = Ear(script.semantic_silence)
        self._heard = ""
        self._ids = 0
        self._speech = ""  # the id for the utterance under way
        self._lose_at = (*script.lose_after[connection.number : connection.number + 1], float("inf"))[0]
        self._handlers: dict[str, Callable[[Json], None]] = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self._create_item,
            "conversation.item.retrieve": self._retrieve,
            "conversation.item.truncate": self._truncate,
            "conversation.item.delete": self._delete,
            "response.create": self._create_response,
            "response.cancel": self._cancel,
        }

    def new_id(self, kind: str) -> str:
        """Return an id that is unique in this session."""
        self._ids += 1
        return f"{kind}_{self.connection.number}_{self._ids}"

    def response_ended(self) -> None:
        """Allow the next response."""
        self.active = None

    def emit(self, kind: str, **fields: Any) -> None:
        """Send an event to the client."""
        self.connection.emit(kind, **fields)

    async def run(self, socket: WebSocket) -> None:
        """Serve until the client or the script ends the session."""
        connection, script = self.connection, self.script
        if script.opens_with is not None:
            connection.error(*script.opens_with)
            connection.close(1008)
        else:
            connection.update_session(_first_session(connection))
            # The vendor speaks first; only then may the client configure the session.
            self.emit("session.created", session=connection.session)
            for message in script.garbage:
                connection.say(message)
        self._nursery.start_soon(self._expire)
        while True:
            await self._take(await socket.receive())

    async def _expire(self) -> None:
        await trio.sleep(self.script.expires_after)
        minutes = f"{self.script.expires_after / 60:g}"
        # The error, and then the close: the client learns from either that it has to reconnect.
        self.connection.error("session_expired", message=f"Your session hit the maximum duration of {minutes} minutes.")
        self.connection.close(1001)

    async def _take(self, raw: str | bytes) -> None:
        try:
            message = json.loads(raw)
        except ValueError:
            message = None
        # The vendor takes text frames only, audio included.
        if not isinstance(message, dict) or isinstance(raw, bytes):
            self.connection.error("invalid_json", message="We could not parse the JSON of your message.")
            return
        kind = str(message.get("type"))
        if kind != "input_audio_buffer.append":
            self.connection.said.append((trio.current_time(), message))
        # After the recording: a test of a frozen vendor asks what the client sent to it.
        if self.connection.frozen:
            return
        try:
            self._do(kind, message)
        # Most errors are not fatal at the vendor: the session goes on, and the event's id
        # tells the client what was refused.
        except RequestRefused as refusal:
            self.connection.error(
                refusal.code, message=str(refusal), param=refusal.param, event_id=message.get("event_id")
            )
        # After the handling: what the audio caused is in the queue, and may or may not
        # have been sent. A client must cope.
        if self._ear.position >= self._lose_at * RATE_HZ:
            await self.connection.lose()

    def _do(self, kind: str, message: Json) -> None:
        if kind in self.script.refuses:
            raise RequestRefused(self.script.refuses[kind], f"{kind} is refused, as scripted")
        if kind not in self._handlers:
            raise RequestRefused("invalid_value", f"Invalid value: '{kind}'.", "type")
        self._handlers[kind](message)

    # The session ------------------------------------------------------------------------------------------------------
    def _update(self, message: Json) -> None:
        new = message.get("session")
        if not isinstance(new, dict) or new.get("type") != "realtime":
            raise RequestRefused(
                "missing_required_parameter", "Missing required parameter: 'session.type'.", "session.type"
            )
        for key in new.keys() - SESSION_KEYS:
            raise RequestRefused("unknown_parameter", f"Unknown parameter: 'session.{key}'.", f"session.{key}")
        merged = _merged(self.connection.session, new)
        if self.sent and merged["audio"]["output"]["voice"] != self.connection.session["audio"]["output"]["voice"]:
            raise RequestRefused(
                "cannot_update_voice", "Cannot update a conversation's voice if assistant audio is present."
            )
        self.connection.update_session(merged)
        self.emit("session.updated", session=merged)

    # The caller's audio -----------------------------------------------------------------------------------------------
    def _append(self, message: Json) -> None:
        try:
            audio = base64.b64decode(message["audio"], validate=True)
        except (KeyError, TypeError, binascii.Error, ValueError):
            raise RequestRefused(
                "invalid_value", "Invalid 'audio'. Expected base64-encoded audio bytes.", "audio"
            ) from None
        self.connection.append_audio(audio)
        detection = self.connection.session["audio"]["input"].get("turn_detection")
        # Lazily: the end of a turn takes its words out of the ear before the ear hears the next frame, which belongs to
        # the next turn. A list of all edges would give the words of both turns to the first.
        for edge in self._ear.hear(audio, detection):
            self._edge(edge, detection)

    def _edge(self, edge: Edge, detection: Mapping[str, Any]) -> None:
        milliseconds = round(edge.position / RATE_HZ * 1000)
        if edge.kind == "started":
            self._speech = self.new_id("item")
            self.emit("input_audio_buffer.speech_started", audio_start_ms=milliseconds, item_id=self._speech)
            # After the report: the client learns why the response ended before it ends.
            if detection.get("interrupt_response", True) and self.active is not None:
                self.active.stop("turn_detected")
            return
        self.emit("input_audio_buffer.speech_stopped", audio_end_ms=milliseconds, item_id=self._speech)
        self._end_turn(edge.position)
        if detection.get("create_response", True):
            try:
                self._create_response({})
            # A response is still under way. The error names no event, because no request of the client is to blame.
            except RequestRefused as refusal:
                self.connection.error(refusal.code, message=str(refusal))

    def _commit(self, message: Json) -> None:
        del message
        if (seconds := self._ear.buffered) < MIN_COMMIT_S:
            what = (
                f"Expected at least {MIN_COMMIT_S * 1000:g}ms of audio, but buffer only has {seconds * 1000:.2f}ms "
                "of audio."
            )
            raise RequestRefused(
                "input_audio_buffer_commit_empty", f"Error committing input audio buffer: buffer too small. {what}"
            )
        self._end_turn(None)

    def _end_turn(self, until: int | None) -> None:
        # A recording carries no readable words; the script knows what is said in it.
        words = self._ear.take(until) or self.script.hears
        item_id, self._speech = self._speech or self.new_id("item"), ""
        previous = self.connection.items[-1]["id"] if self.connection.items else None
        self.emit("input_audio_buffer.committed", previous_item_id=previous, item_id=item_id)
        content = [{"type": "input_audio", "transcript": None}]
        self.add_item({"id": item_id, "type": "message", "role": "user", "content": content}, status="completed")
        # Before the transcript is due: the response does not wait for it, because the model hears the audio itself.
        self._heard = words
        if self.connection.session["audio"]["input"].get("transcription"):
            self._nursery.start_soon(self._transcribe, item_id, words, content[0])

    async def _transcribe(self, item_id: str, words: str, content: Json) -> None:
        await trio.sleep(self.script.transcript_delay)
        event, where = "conversation.item.input_audio_transcription", {"item_id": item_id, "content_index": 0}
        if self.script.transcript_fails:
            error = {
                "type": "transcription_error",
                "code": "audio_unintelligible",
                "message": "as scripted",
                "param": None,
            }
            self.emit(f"{event}.failed", **where, error=error)
            return
        for number, word in enumerate(words.split()):
            self.emit(f"{event}.delta", **where, delta=f" {word}" if number else word)
        # Only now: a response made before has the item without its words, as at the vendor.
        content["transcript"] = words
        count = len(words.split())
        audio = {"text_tokens": 0, "audio_tokens": 10 + count}
        usage = {"type": "tokens", "input_tokens": 10 + count, "output_tokens": count, "total_tokens": 10 + 2 * count}
        self.emit(f"{event}.completed", **where, transcript=words, usage={**usage, "input_token_details": audio})

    def _clear(self, message: Json) -> None:
        del message
        self._ear.take()
        self._speech = ""
        self.emit("input_audio_buffer.cleared")

    # The conversation -------------------------------------------------------------------------------------------------
    def add_item(self, item: Json, *, status: str, at: int | None = None) -> None:
        """Add an item to the conversation and report it, twice if it is complete."""
        items = self.connection.items
        place = len(items) if at is None else at
        previous = items[place - 1]["id"] if place else None
        item |= {"object": "realtime.item", "status": status}
        items.insert(place, item)
        self.emit("conversation.item.added", previous_item_id=previous, item=dict(item))
        # A complete item is added and done at once. That of a response is done when its last piece has come.
        if status == "completed":
            self.emit("conversation.item.done", previous_item_id=previous, item=dict(item))

    def _create_item(self, message: Json) -> None:
        item, previous = message.get("item"), message.get("previous_item_id")
        if not isinstance(item, dict):
            raise RequestRefused("missing_required_parameter", "Missing required parameter: 'item'.", "item")
        self._check(item)
        at = None
        if previous is not None:
            at = 0 if previous == "root" else self._place(previous, "item_create_invalid_previous_item_id") + 1
        self.add_item({"id": self.new_id("item"), **item}, status="completed", at=at)
        if item.get("role") == "user":
            self._heard = text_of(item)

    def _check(self, item: Json) -> None:
        match item.get("type"):
            case "message":
                kinds = [part.get("type") for part in item.get("content") or ()]
                # What the assistant said is ``output_text``; the beta's ``text`` is refused.
                if wrong := [kind for kind in kinds if kind not in CONTENT_BY_ROLE.get(str(item.get("role")), ())]:
                    raise RequestRefused("invalid_value", f"Invalid value: '{wrong[0]}'.", "item.content[0].type")
            case "function_call":
                if not item.get("name") or not isinstance(item.get("arguments"), str):
                    raise RequestRefused(
                        "missing_required_parameter", "Missing required parameter: 'item.name'.", "item.name"
                    )
            case "function_call_output":
                # A result needs its call in the conversation: after a reconnection, the
                # client must restore the call first.
                calls = [one.get("call_id") for one in self.connection.items if one["type"] == "function_call"]
                if item.get("call_id") not in calls:
                    raise RequestRefused("invalid_tool_call_id", f"Tool call ID '{item.get('call_id')}' not found.")
            case kind:
                raise RequestRefused("invalid_value", f"Invalid value: '{kind}'.", "item.type")
        if any(one["id"] == item.get("id") for one in self.connection.items):
            raise RequestRefused("item_already_exists", "An item with this id exists already.", "item.id")

    def _place(self, item_id: object, code: str) -> int:
        for place, item in enumerate(self.connection.items):
            if item["id"] == item_id:
                return place
        raise RequestRefused(code, f"Item with item_id '{item_id}' not found.", "item_id")

    def _retrieve(self, message: Json) -> None:
        place = self._place(message.get("item_id"), "item_retrieve_invalid_item_id")
        self.emit("conversation.item.retrieved", item=self.connection.items[place])

    def _delete(self, message: Json) -> None:
        place = self._place(message.get("item_id"), "item_delete_invalid_item_id")
        self.emit("conversation.item.deleted", item_id=self.connection.items.pop(place)["id"])

    def _truncate(self, message: Json) -> None:
        item = self.connection.items[self._place(message.get("item_id"), "item_truncate_invalid_item_id")]
        end = message.get("audio_end_ms")
        if item.get("role") != "assistant" or item["id"] not in self.sent:
            raise RequestRefused("invalid_value", "Only audio of the assistant can be truncated.", "item_id")
        if not isinstance(end, int) or end < 0 or message.get("content_index") != 0:
            raise RequestRefused("invalid_value", "Invalid 'audio_end_ms' or 'content_index'.", "audio_end_ms")
        # More than was sent is an error, as documented, so a client must clamp what it believes the caller heard.
        if end > (length := self.sent[item["id"]] * 1000 // RATE_HZ):
            raise RequestRefused("invalid_value", f"Audio content of {length}ms is already shorter than {end}ms")
        self.sent[item["id"]] = end * RATE_HZ // 1000
        # The vendor drops the whole transcript, so that no words remain that the caller did not hear.
        item["content"] = [{"type": "output_audio", "transcript": None}]
        self.emit("conversation.item.truncated", item_id=item["id"], content_index=0, audio_end_ms=end)

    # Responses --------------------------------------------------------------------------------------------------------
    def _create_response(self, message: Json) -> None:
        wanted = message.get("response") or {}
        for key in wanted.keys() - RESPONSE_KEYS:
            raise RequestRefused("unknown_parameter", f"Unknown parameter: 'response.{key}'.", f"response.{key}")
        # One response at a time in a conversation: a client has to wait for ``response.done`` of a cancelled one.
        if self.active is not None:
            what = f"Conversation already has an active response in progress: {self.active.id}."
            wait = "Wait until the response is finished before creating a new one."
            raise RequestRefused("conversation_already_has_active_response", f"{what} {wait}")
        asked = Asked(
            number=len(self._asked) + 1,
            connection=self.connection.number,
            by_vad=not message,
            request=wanted.get("metadata") or {},
            instructions=wanted.get("instructions") or self.connection.session["instructions"],
            # A copy, because items change later: a test asks what the model saw at this instant.
            items=deepcopy(wanted.get("input", self.connection.items)),
            heard=self._heard,
        )
        self._asked.append(asked)
        replies = self.script.replies
        reply = replies(asked) if callable(replies) else replies[min(asked.number, len(replies)) - 1]
        tools = wanted.get("tool_choice", self.connection.session["tool_choice"]) != "none"
        self.active = RealtimeServerResponse(
            self, self.new_id("resp"), asked, reply, wanted.get("metadata"), tools=tools
        )
        if not reply.created_delay:
            self.active.begin()
        self._nursery.start_soon(self.active.run)

    def _cancel(self, message: Json) -> None:
        response_id = message.get("response_id")
        # Harmless, and unavoidable for a client: the response may end while its cancellation is on the way.
        if self.active is None or not self.active.created or response_id not in (None, self.active.id):
            raise RequestRefused("response_cancel_not_active", "Cancellation failed: no active response found")
        self.active.stop("client_cancelled")


def _first_session(connection: RealtimeServerConnection) -> Json:
    # The vendor's defaults: it answers and interrupts by itself, in PCM at 24 kHz, until the client has changed that.
    detection = {
        "type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500,
        "create_response": True, "interrupt_response": True,
    }  # fmt: skip
    pcm = {"type": "audio/pcm", "rate": 24000}
    heard = {"format": pcm, "noise_reduction": None, "transcription": None, "turn_detection": detection}
    return {
        "type": "realtime",
        "model": connection.query["model"][0],
        "output_modalities": ["audio"],
        "instructions": "Be kind.",
        "audio": {"input": heard, "output": {"format": pcm, "voice": "alloy", "speed": 1.0}},
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
    }


def _merged(old: Any, new: Any) -> Any:
    """Return ``old`` with the values of ``new`` merged in; an object of a different ``type`` replaces the old one."""
    if not isinstance(old, dict) or not isinstance(new, dict) or ("type" in new and new["type"] != old.get("type")):
        return new
    return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}
