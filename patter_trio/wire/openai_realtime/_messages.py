"""OpenAI's Realtime protocol (GA) over a WebSocket, without I/O: one speech-to-speech model.

Protocol: https://developers.openai.com/api/docs/guides/realtime and its reference of client and server events

Audio is mu-law at 8 kHz both ways. Messages need no state between them, and so no codec object: functions make the
outgoing messages, and :func:`receive` decodes the incoming ones. Facts that shape this module:

* **Metadata ties a response to its request.** The vendor repeats it when the response begins and when it ends; a
  refusal has the ``event_id`` of the refused message. Both are the ``request`` of :func:`create_response`. A response
  that the vendor began by itself has none.
* **Tool calls** are read from the end of their item (``response.output_item.done``), and only if the item is complete:
  the arguments' own end is also reported when a response was cancelled in the middle of them, and they would be cut
  off.
* **Speech comes faster than real time**, and the vendor does not know how much was played: :func:`truncate` reports it.
  To truncate beyond the received audio of the item is an error.
* **Most errors leave the session as it was**, such as the one for a cancellation that came too late.
  :attr:`Refused.fatal`.
* The vendor's text about an error can contain a part of the key or of the conversation: it is removed.
"""

import base64
import json
from collections.abc import Sequence
from typing import Any, Final, Literal
from urllib.parse import urlencode

import attrs

from patter_trio.abc import ToolDefinition
from patter_trio.errors import ProviderError
from patter_trio.scripts import primary_language
from patter_trio.wire.openai_realtime._reader import REQUEST_KEY

# Mu-law in and out: what the carrier speaks, so that nothing is resampled.
_AUDIO: Final = {"type": "audio/pcmu"}


# Outgoing messages ----------------------------------------------------------------------------------------------------
@attrs.frozen(kw_only=True)
class ServerVAD:
    """Turn detection by the vendor, from voice and silence; times are seconds.

    Args:
        threshold: the confidence from which audio counts as voice, 0 to 1.
        prefix_padding: seconds of audio before the voice that belong to it.
        silence: seconds of silence that end a turn.
        create_response: True if the vendor answers by itself.
        interrupt_response: True if a voice stops the response in progress.
    """

    # The vendor's defaults, written out so that a change on its side does not change calls.
    threshold: float = 0.5
    prefix_padding: float = 0.3
    silence: float = 0.5
    create_response: bool = True
    interrupt_response: bool = True


@attrs.frozen(kw_only=True)
class SemanticVAD:
    """Turn detection by the vendor, from the meaning of the words.

    Args:
        eagerness: how soon a turn ends: after at most 8, 4 or 2 s with ``low``, ``medium`` (the same as ``auto``) or
            ``high``.
        create_response: True if the vendor answers by itself.
        interrupt_response: True if a voice stops the response in progress.
    """

    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


TurnDetection = ServerVAD | SemanticVAD | None
"""Turn detection of a session. None: only the client ends turns, by :func:`commit`."""


def socket_url(base: str, model: str) -> str:
    """Return the address of the WebSocket; ``base`` looks like ``wss://api.openai.com/v1``."""
    # The key is a header, never a parameter: URLs get into logs.
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
    """Return the message that configures the whole session.

    Args:
        instructions: the model's role and task.
        voice: the voice in which it speaks; it cannot be changed after the first audio.
        turn_detection: the vendor's turn detection, or None.
        transcription: the model that transcribes the caller; empty: no transcripts.
        language: the caller's, as a BCP 47 tag or empty; only the language subtag is sent.
        tools: the tools that the model may call.
        noise_reduction: for a near or a far microphone; empty: none.
        max_output_tokens: of one response, 1 to 4096; None: no limit of ours.
        parallel_tool_calls: True if the model may call several tools at once; None: the model's default.
        speed: of the speech, 0.25 to 1.5; None: the vendor's default, 1.
        reasoning: effort of a reasoning model; empty: the model's default.
        event_id: comes back in a :class:`Refused`.

    Raises:
        ProviderError: a tool cannot be encoded as JSON.
    """
    heard: dict[str, Any] = {
        "format": _AUDIO,
        "turn_detection": _turns(turn_detection),
        # An explicit null switches it off; a key that is left out would keep the vendor's default.
        "noise_reduction": {"type": noise_reduction} if noise_reduction else None,
        "transcription": None,
    }
    if transcription:
        # The vendor takes ISO 639-1 codes, without a region.
        spoken = primary_language(language)
        heard["transcription"] = {"model": transcription, **({"language": spoken} if spoken else {})}
    said: dict[str, Any] = {"format": _AUDIO, "voice": voice}
    if speed is not None:
        said["speed"] = speed
    session: dict[str, Any] = {
        "type": "realtime",
        # Audio alone: it comes with its transcript, and the vendor accepts only one of the two.
        "output_modalities": ["audio"],
        "instructions": instructions,
        "audio": {"input": heard, "output": said},
        "tools": _tools(tools),
        "tool_choice": "auto",
        # "inf", as the vendor spells "no limit".
        "max_output_tokens": "inf" if max_output_tokens is None else max_output_tokens,
    }
    # Left out if not set: not every model knows it.
    if parallel_tool_calls is not None:
        session["parallel_tool_calls"] = parallel_tool_calls
    if reasoning:
        session["reasoning"] = {"effort": reasoning}
    return _json({"type": "session.update", "session": session}, event_id)


def append(mulaw: bytes) -> str:
    """Return the message that sends the caller's next audio to the model."""
    # By hand: this is sent for each frame of a voice, and base64 has no character that JSON would escape.
    return f'{{"type":"input_audio_buffer.append","audio":"{base64.b64encode(mulaw).decode()}"}}'


def commit(event_id: str = "") -> str:
    """Return the message that ends the caller's turn: the audio becomes an item. The vendor refuses less than 0.1 s."""
    return _json({"type": "input_audio_buffer.commit"}, event_id)


def is_confirmed(message: str) -> bool:
    """Return True for a message that the vendor confirms at once: the end of a turn, or the request for an answer."""
    # By its beginning, as ``_json`` writes it: the queue holds finished messages.
    return message.startswith(('{"type": "input_audio_buffer.commit"', '{"type": "response.create"'))


def clear(event_id: str = "") -> str:
    """Return the message that drops the audio since the last item."""
    return _json({"type": "input_audio_buffer.clear"}, event_id)


def create_response(
    request: str = "", *, instructions: str = "", tools: bool = True, context: bool = True, event_id: str = ""
) -> str:
    """Return the message that makes the model answer. The vendor refuses it while another response is in progress.

    Args:
        request: comes back in :class:`ResponseStarted`, :class:`ResponseEnded` or :class:`Refused`; at most 512
            characters.
        instructions: for this response instead of the session's.
        tools: False if the model may not call tools.
        context: False if the model should not see the conversation so far.
        event_id: comes back in a refusal; default: ``request``.
    """
    response: dict[str, Any] = {}
    if request:
        # Comes back at the start and the end of the response; this is the only thread between the two.
        response["metadata"] = {REQUEST_KEY: request}
    if instructions:
        response["instructions"] = instructions
    if not tools:
        response["tool_choice"] = "none"
    if not context:
        # An empty input: the model sees the instructions alone.
        response["input"] = []
    message = {"type": "response.create", **({"response": response} if response else {})}
    # The ``event_id`` comes back in a refusal, which has no response and so no metadata.
    return _json(message, event_id or request)


def cancel(response_id: str = "", *, event_id: str = "") -> str:
    """Return the message that stops a response, or the one in progress.

    If there is none, the vendor refuses the message; nothing else happens.
    """
    return _json({"type": "response.cancel", **({"response_id": response_id} if response_id else {})}, event_id)


def truncate(item_id: str, audio_end_ms: int, *, event_id: str = "") -> str:
    """Return the message that removes from an item of speech what the caller did not hear, with its text.

    Args:
        item_id: the item of the speech.
        audio_end_ms: milliseconds that the caller heard; the vendor refuses more than it sent of this item.
        event_id: comes back in a :class:`Refused`.
    """
    # Never negative: a cut before the first sample removes everything. Our items have one part, whose index is 0.
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
    """Return the message that adds a message to the conversation.

    Args:
        role: the speaker; an assistant's message must be text, because audio cannot be sent back.
        text: the content.
        item_id: the id of the new item, if we choose it; at most 32 characters.
        previous_item_id: the item that it follows; ``root``: it comes first; empty: it comes last.
        event_id: comes back in a :class:`Refused`.
    """
    # The vendor refuses "input_text" from an assistant; an assistant's text must be "output_text".
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": text}]
    return _item({"type": "message", "role": role, "content": content}, item_id, previous_item_id, event_id)


def add_function_call(
    call_id: str, name: str, arguments: str, *, item_id: str = "", previous_item_id: str = "", event_id: str = ""
) -> str:
    """Return the message that adds an earlier tool call to the conversation of a new connection.

    For the arguments see :func:`add_message`.
    """
    call = {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}
    return _item(call, item_id, previous_item_id, event_id)


def add_function_output(
    call_id: str, output: str, *, item_id: str = "", previous_item_id: str = "", event_id: str = ""
) -> str:
    """Return the message that adds the result of the tool call ``call_id``; the model speaks about it when asked to."""
    given = {"type": "function_call_output", "call_id": call_id, "output": output}
    return _item(given, item_id, previous_item_id, event_id)


def delete_item(item_id: str, *, event_id: str = "") -> str:
    """Return the message that removes an item from the conversation."""
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
        # Whole milliseconds: the vendor's schema has integers.
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
        # As for chat completions: NaN is not JSON.
        text = json.dumps(message, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        # Only the type of the error: its text quotes a tool's definition, or the conversation.
        raise ProviderError(f"a {message['type']} cannot be encoded as JSON: {type(error).__name__}") from error
    return text.encode("utf-8", "replace").decode()  # UTF-8 cannot encode lone surrogates
