"""The responses of the fake Realtime server; a part of :mod:`.openai_realtime`."""

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

import attrs
import trio

from patter_trio.abc import ToolCall
from patter_trio.audio.formats import FRAME_SAMPLES, RATE_HZ
from patter_trio.testing.scripted_providers import audible_text
from patter_trio.testing.servers.openai_realtime.script import Asked, Json, RealtimeReply, RealtimeServerConnection

# The pace of the scripted providers, so that a test may change the provider and keep its instants.
SECONDS_PER_CHARACTER: Final = 0.06
"""Seconds of speech for each character."""


class RespondingSession(Protocol):
    """The session of a response, as the response uses it."""

    @property
    def connection(self) -> RealtimeServerConnection:
        """The connection, with all that was sent and received."""

    @property
    def sent(self) -> dict[str, int]:
        """Bytes of audio that were sent, by item."""

    def new_id(self, kind: str) -> str:
        """Return an id that is unique in this session."""

    def response_ended(self) -> None:
        """Allow the next response."""

    def emit(self, kind: str, **fields: Any) -> None:
        """Send an event to the client."""

    def add_item(self, item: Json, *, status: str) -> None:
        """Add an item to the conversation."""


@attrs.define(eq=False)
class RealtimeServerResponse:
    """A response, requested or under way; whatever ends it does so at once, in whichever task."""

    session: RespondingSession = attrs.field(repr=False)
    id: str
    asked: Asked
    reply: RealtimeReply
    metadata: dict[str, str] | None
    tools: bool = True
    # The response can be stopped once it has been reported, and not any more once its end has been. Both flags are set
    # in the step of their report; the task itself may notice a stop only at its next await.
    created: bool = False
    ended: bool = False
    output: list[Json] = attrs.field(factory=list)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _item: Json | None = None
    _said: str = ""  # of the item's transcript, or of its arguments

    def begin(self) -> None:
        """Report that the response exists; from now on it can be stopped."""
        self.created = True
        self.session.emit("response.created", response=self._shown("in_progress", None, None))

    def stop(self, reason: str) -> None:
        """Stop the response; before it is created there is nothing to stop."""
        if self.created and not self.ended:
            # The cancellation arrives at the task's next await, the report at once: the
            # next response may be requested in this same step.
            self._scope.cancel(reason=reason)
            self._end("cancelled", {"type": "cancelled", "reason": reason})

    async def run(self) -> None:
        """Generate the response until its end or until it is stopped."""
        reply = self.reply
        # Only its own: the connection's end cancels the nursery, and reports nothing.
        with self._scope:
            if not self.created:
                await trio.sleep(reply.created_delay)
                self.begin()
            await self._pause(reply.first_audio)
            if reply.text:
                await self._speak(reply.text)
            for call in reply.tool_calls if self.tools else ():
                await self._call(call)
            if reply.error is None:
                self._end(reply.status, {"type": reply.status, "reason": reply.reason} if reply.reason else None)
            else:
                error = dict(zip(("code", "type", "message"), reply.error, strict=True))
                self._end("failed", {"type": "failed", "error": error})

    async def _pause(self, seconds: float) -> None:
        """Sleep; if the response has ended meanwhile, do not return, because the cancellation may come a step later."""
        await trio.sleep(seconds)
        if self.ended:
            await trio.sleep_forever()

    def _end(self, status: str, details: Mapping[str, Any] | None) -> None:
        self._finish(complete=status == "completed")
        self.ended = True
        # Before the report: the client may answer it with the next request, which must not be refused.
        self.session.response_ended()
        usage = self._usage() if self.reply.usage is None else dict(self.reply.usage)
        self.session.emit("response.done", response=self._shown(status, details, usage))
        # After each response, as at the vendor, and of no use to the package, which must ignore it.
        limits = [{"name": "tokens", "limit": 40000, "remaining": 39000, "reset_seconds": 1.5}]
        self.session.emit("rate_limits.updated", rate_limits=limits)

    def _where(self) -> dict[str, Any]:
        index = len(self.output) - 1
        item_id = self.output[-1]["id"]
        return {"response_id": self.id, "item_id": item_id, "output_index": index}

    def _begin(self, item: Json) -> None:
        session = self.session
        self._item, self._said = {"id": session.new_id("item"), **item}, ""
        self.output.append(self._item)
        index = len(self.output) - 1
        shown = {**self._item, "object": "realtime.item", "status": "in_progress"}
        session.emit("response.output_item.added", response_id=self.id, output_index=index, item=shown)
        # The item is in the conversation from its beginning: a client may truncate or delete it while it is spoken.
        session.add_item(self._item, status="in_progress")

    async def _speak(self, text: str) -> None:
        """Speak a text: its words come a little before its audio, and both faster than real time."""
        session, reply = self.session, self.reply
        seconds = len(text) * SECONDS_PER_CHARACTER if reply.seconds is None else reply.seconds
        frames = max(audible_text.frames_of(seconds), audible_text.fewest_frames(text))
        audio = audible_text.encode(text, frames, utterance=self.asked.number, part=1)
        step = audible_text.frames_of(reply.chunk) * FRAME_SAMPLES
        words = list(_starts(text, len(audio) / RATE_HZ))
        self._begin({"type": "message", "role": "assistant", "content": []})
        where = {**self._where(), "content_index": 0}
        part = {"type": "audio", "transcript": ""}
        session.emit("response.content_part.added", **where, part=part)
        # The bytes sent limit a truncation. They are counted before the audio is queued:
        # nothing is cut that was not counted.
        session.sent[where["item_id"]] = 0
        for number, begin in enumerate(range(0, len(audio), step)):
            # Within the scope: a cancelled response ends also when it hangs.
            if number == reply.hang_after:
                await trio.sleep_forever()
            if number == reply.lose_after:
                # The loop goes on: the listener fails at the closed stream, and the end
                # of the connection cancels this task.
                await session.connection.lose()
            # Two pieces ahead: the vendor's transcript comes before its audio, so a
            # client must not take words for heard ones.
            while words and words[0][1] <= (begin + 2 * step) / RATE_HZ:
                word, _ = words.pop(0)
                self._said += word
                session.emit("response.output_audio_transcript.delta", **where, delta=word)
            piece = audio[begin : begin + step]
            session.sent[where["item_id"]] += len(piece)
            session.emit("response.output_audio.delta", **where, delta=base64.b64encode(piece).decode())
            # Faster than real time, as the vendor does: the whole answer has come long before the caller has heard it.
            await self._pause(len(piece) / RATE_HZ / reply.speed)
        self._finish(complete=reply.status == "completed" and reply.error is None)

    async def _call(self, call: ToolCall) -> None:
        """Call a tool, with its arguments in two pieces."""
        self._begin({"type": "function_call", "call_id": call.id, "name": call.name, "arguments": ""})
        half = len(call.arguments) // 2
        for piece in (call.arguments[:half], call.arguments[half:]):
            self._said += piece
            self.session.emit("response.function_call_arguments.delta", **self._where(), call_id=call.id, delta=piece)
            # A checkpoint between the two pieces: the call of a tool can be cut in the middle of its arguments.
            await self._pause(0)
        self._finish(complete=True)

    def _finish(self, *, complete: bool) -> None:
        """Report the end of the open item, if there is one."""
        # Taken out first: an item ends once, whether by its own end or by that of the response.
        item, self._item = self._item, None
        if item is None:
            return
        emit, where = self.session.emit, self._where()
        item["status"] = "completed" if complete else "incomplete"
        if item["type"] == "message":
            emit("response.output_audio.done", **where, content_index=0)
            emit("response.output_audio_transcript.done", **where, content_index=0, transcript=self._said)
            part = {"type": "audio", "transcript": self._said}
            emit("response.content_part.done", **where, content_index=0, part=part)
            item["content"] = [{"type": "output_audio", "transcript": self._said}]
        else:
            item["arguments"] = self._said
            call = {"call_id": item["call_id"], "name": item["name"], "arguments": self._said}
            emit("response.function_call_arguments.done", **where, **call)
        items = self.session.connection.items
        place = items.index(item) if item in items else 0  # it may have been deleted
        emit("conversation.item.done", previous_item_id=items[place - 1]["id"] if place else None, item=dict(item))
        del where["item_id"]
        emit("response.output_item.done", **where, item=dict(item))

    def _shown(self, status: str, details: object, usage: object) -> Json:
        output = self.session.connection.session["audio"]["output"]
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": status,
            "status_details": details,
            "output": [dict(item) for item in self.output],
            "conversation_id": f"conv_{self.session.connection.number}",
            "output_modalities": ["audio"],
            "max_output_tokens": self.session.connection.session["max_output_tokens"],
            "audio": {"output": {"format": output["format"], "voice": output["voice"]}},
            "usage": usage,
            "metadata": self.metadata,
        }

    def _usage(self) -> Json:
        """Plausible numbers: a token is four characters of text, or 50 ms of speech; half of the text was cached."""
        # Text tokens by the vendor's rule of thumb. Input is counted anew for each
        # response, because the model reads it anew.
        text = sum(len(str(item)) for item in self.asked.items) // 4 + len(self.asked.instructions) // 4
        spoken = sum(self.session.sent.get(item["id"], 0) for item in self.output) * 20 // RATE_HZ
        heard = 10 * sum(item.get("role") == "user" for item in self.asked.items)
        written = spoken // 4 + 1
        cached = {"text_tokens": text // 2, "audio_tokens": 0, "image_tokens": 0}
        given = {"text_tokens": text, "audio_tokens": heard, "image_tokens": 0, "cached_tokens": text // 2}
        return {
            "total_tokens": text + heard + spoken + written,
            "input_tokens": text + heard,
            "output_tokens": spoken + written,
            "input_token_details": {**given, "cached_tokens_details": cached},
            "output_token_details": {"text_tokens": written, "audio_tokens": spoken},
        }


def _starts(text: str, seconds: float) -> Iterator[tuple[str, float]]:
    """Yield the words of a text, each with the white space before it and its start if all letters last equally long."""
    for word in re.finditer(r"\s*\S+", text):
        yield word.group(), word.start() / len(text) * seconds
