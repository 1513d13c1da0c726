"""OpenAI's Realtime protocol (GA) over a WebSocket, without I/O: one model hears, thinks and speaks.

Protocol: https://developers.openai.com/api/docs/guides/realtime and its reference of client and server events

Audio is mu-law at 8 kHz both ways. Nothing has to be remembered between messages, so there is no codec object: functions
make what is sent, :func:`receive` says what a message means. What shapes it:

* **A response belongs to who asked for it** by its metadata, which the vendor tells again when the response begins and when
  it is over; a refusal has the ``event_id`` of what it refuses. Both are the ``request`` of :func:`create_response`. A
  response that the vendor began by itself has none.
* **A call of a tool** is taken from the end of its item (``response.output_item.done``), and only where the item is
  complete: the arguments' own end is also told when a response was cancelled in the middle of them, and would be half.
* **Speech comes faster than real time**, and the vendor does not know what was played: :func:`truncate` tells it. More than
  was received of the item is an error.
* **Most errors leave the session as it was**, such as one for a cancellation that came too late. :attr:`Refused.fatal`.
* What a vendor says of an error can have a piece of the key or of somebody's words in it: that is left out.
"""

import base64
import json
from collections.abc import Sequence
from typing import Any, Final, Literal
from urllib.parse import urlencode

import attrs

from patter_trio.abc import ToolDefinition
from patter_trio.errors import ProviderError
from patter_trio.wire.openai_realtime._reader import REQUEST_KEY

_AUDIO: Final = {"type": "audio/pcmu"}


# What is sent ---------------------------------------------------------------------------------------------------------
@attrs.frozen(kw_only=True)
class ServerVAD:
    """The vendor looks for turns by voice and silence; times are seconds.

    Args:
        threshold: how sure it has to be of a voice, 0 to 1.
        prefix_padding: audio before the voice that counts as part of it.
        silence: after which a turn is over.
        create_response: whether it answers by itself.
        interrupt_response: whether a voice stops the response that is being made.
    """

    threshold: float = 0.5
    prefix_padding: float = 0.3
    silence: float = 0.5
    create_response: bool = True
    interrupt_response: bool = True


@attrs.frozen(kw_only=True)
class SemanticVAD:
    """The vendor judges by what is said whether a turn is over.

    Args:
        eagerness: how soon: it waits for 8, 4 or 2 s at most with ``low``, ``medium`` (the same as ``auto``), ``high``.
        create_response: whether it answers by itself.
        interrupt_response: whether a voice stops the response that is being made.
    """

    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


TurnDetection = ServerVAD | SemanticVAD | None
"""None: nobody but us says where turns end, by :func:`commit`."""


def socket_url(base: str, model: str) -> str:
    """Return the address of the WebSocket; ``base`` is such as ``wss://api.openai.com/v1``."""
    return f"{base.rstrip('/')}/realtime?{urlencode({'model': model})}"


def session_update(
    *,
    instructions: str,
    voice: str,
    turn_detection: TurnDetection,
    transcription: str = "",
    language: str = "",
    tools: Sequence[ToolDefinition] = (),
    noise_reduction: Literal["", "near_field", "far_field"] = "",
    max_output_tokens: int | None = None,
    parallel_tool_calls: bool | None = None,
    speed: float | None = None,
    reasoning: str = "",
    event_id: str = "",
) -> str:
    """Set up the session, all of it.

    Args:
        instructions: what the model is to be and to do.
        voice: in which it speaks; it cannot be changed after the first audio.
        turn_detection: who looks for the end of a turn.
        transcription: the model that writes down what the caller says; with none, nobody does.
        language: of the caller, as a BCP 47 tag or empty; only the language itself is told.
        tools: what the model may call.
        noise_reduction: for a microphone that is near or far; empty: none.
        max_output_tokens: 1 to 4096, of one response; None: no limit of ours.
        parallel_tool_calls: whether it may call several tools at once; None: as the model does.
        speed: of the speech, 0.25 to 1.5; None: the vendor's, which is 1.
        reasoning: effort, for models that reason; empty: the model's.
        event_id: comes back in a :class:`Refused`.

    Raises:
        ProviderError: a tool is not fit for JSON.
    """
    heard: dict[str, Any] = {
        "format": _AUDIO,
        "turn_detection": _turns(turn_detection),
        "noise_reduction": {"type": noise_reduction} if noise_reduction else None,
        "transcription": None,
    }
    if transcription:
        spoken = language.partition("-")[0].lower()
        heard["transcription"] = {"model": transcription, **({"language": spoken} if spoken else {})}
    said: dict[str, Any] = {"format": _AUDIO, "voice": voice}
    if speed is not None:
        said["speed"] = speed
    session: dict[str, Any] = {
        "type": "realtime",
        "output_modalities": ["audio"],
        "instructions": instructions,
        "audio": {"input": heard, "output": said},
        "tools": _tools(tools),
        "tool_choice": "auto",
        "max_output_tokens": "inf" if max_output_tokens is None else max_output_tokens,
    }
    if parallel_tool_calls is not None:
        session["parallel_tool_calls"] = parallel_tool_calls
    if reasoning:
        session["reasoning"] = {"effort": reasoning}
    return _json({"type": "session.update", "session": session}, event_id)


def session_change(
    *, instructions: str | None = None, tools: Sequence[ToolDefinition] | None = None, event_id: str = ""
) -> str:
    """Change parts of a session that is set up; what is None stays as it is.

    Raises:
        ProviderError: a tool is not fit for JSON.
    """
    session: dict[str, Any] = {"type": "realtime"}
    if instructions is not None:
        session["instructions"] = instructions
    if tools is not None:
        session["tools"] = _tools(tools)
    return _json({"type": "session.update", "session": session}, event_id)


def append(mulaw: bytes) -> str:
    """Let the model hear what comes next."""
    return f'{{"type":"input_audio_buffer.append","audio":"{base64.b64encode(mulaw).decode()}"}}'


def commit(event_id: str = "") -> str:
    """End the caller's turn: what was heard becomes an item. Less than 0.1 s of audio is refused."""
    return _json({"type": "input_audio_buffer.commit"}, event_id)


def clear(event_id: str = "") -> str:
    """Forget what was heard since the last item."""
    return _json({"type": "input_audio_buffer.clear"}, event_id)


def create_response(
    request: str = "", *, instructions: str = "", tools: bool = True, context: bool = True, event_id: str = ""
) -> str:
    """Have the model answer. One response at a time is made: another is refused while it is.

    Args:
        request: comes back in :class:`ResponseStarted`, :class:`ResponseEnded` or :class:`Refused`; at most 512 characters.
        instructions: of this response instead of the session's.
        tools: whether the model may call any.
        context: whether it knows the conversation so far.
        event_id: in a refusal, if it is to be another than ``request``.
    """
    response: dict[str, Any] = {}
    if request:
        response["metadata"] = {REQUEST_KEY: request}
    if instructions:
        response["instructions"] = instructions
    if not tools:
        response["tool_choice"] = "none"
    if not context:
        response["input"] = []
    message = {"type": "response.create", **({"response": response} if response else {})}
    return _json(message, event_id or request)


def cancel(response_id: str = "", *, event_id: str = "") -> str:
    """Stop a response, or the one that is being made; if there is none any more, that is refused, and nothing else."""
    return _json({"type": "response.cancel", **({"response_id": response_id} if response_id else {})}, event_id)


def truncate(item_id: str, audio_end_ms: int, *, event_id: str = "") -> str:
    """Forget of an item of speech what the caller did not hear; its text goes with it.

    Args:
        item_id: of the speech.
        audio_end_ms: milliseconds that were heard; more than came of this item is refused.
        event_id: comes back in a :class:`Refused`.
    """
    cut = {"item_id": item_id, "content_index": 0, "audio_end_ms": max(0, audio_end_ms)}
    return _json({"type": "conversation.item.truncate", **cut}, event_id)


def add_message(
    role: Literal["system", "user", "assistant"],
    text: str,
    *,
    item_id: str = "",
    previous_item_id: str = "",
    event_id: str = "",
) -> str:
    """Add a message to the conversation.

    Args:
        role: whose it is; what an assistant says must be text here, audio cannot be given back.
        text: what it says.
        item_id: of the new item, if it is to be ours; at most 32 characters.
        previous_item_id: behind which it belongs; ``root``: first of all; empty: last of all.
        event_id: comes back in a :class:`Refused`.
    """
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": text}]
    return _item({"type": "message", "role": role, "content": content}, item_id, previous_item_id, event_id)


def add_function_call(
    call_id: str, name: str, arguments: str, *, item_id: str = "", previous_item_id: str = "", event_id: str = ""
) -> str:
    """Add, to the conversation of a new connection, that a tool was called; see :func:`add_message`."""
    call = {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}
    return _item(call, item_id, previous_item_id, event_id)


def add_function_output(
    call_id: str, output: str, *, item_id: str = "", previous_item_id: str = "", event_id: str = ""
) -> str:
    """Add what a tool gave, for the call of this id; the model says something of it when it is asked to."""
    given = {"type": "function_call_output", "call_id": call_id, "output": output}
    return _item(given, item_id, previous_item_id, event_id)


def delete_item(item_id: str, *, event_id: str = "") -> str:
    """Remove an item from the conversation."""
    return _json({"type": "conversation.item.delete", "item_id": item_id}, event_id)


def _item(item: dict[str, Any], item_id: str, previous: str, event_id: str) -> str:
    message = {"type": "conversation.item.create", "item": {**({"id": item_id} if item_id else {}), **item}}
    if previous:
        message["previous_item_id"] = previous
    return _json(message, event_id)


def _turns(detection: TurnDetection) -> dict[str, Any] | None:
    if detection is None:
        return None
    what = {"create_response": detection.create_response, "interrupt_response": detection.interrupt_response}
    if isinstance(detection, SemanticVAD):
        return {"type": "semantic_vad", "eagerness": detection.eagerness, **what}
    return {
        "type": "server_vad",
        "threshold": detection.threshold,
        "prefix_padding_ms": round(detection.prefix_padding * 1000),
        "silence_duration_ms": round(detection.silence * 1000),
        **what,
    }


def _tools(tools: Sequence[ToolDefinition]) -> list[dict[str, Any]]:
    return [
        {"type": "function", "name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
        for tool in tools
    ]


def _json(message: dict[str, Any], event_id: str) -> str:
    if event_id:
        message["event_id"] = event_id
    try:
        text = json.dumps(message, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ProviderError(f"a {message['type']} is not fit for JSON: {type(error).__name__}") from error
    return text.encode("utf-8", "replace").decode()  # halves of characters cannot be written down
