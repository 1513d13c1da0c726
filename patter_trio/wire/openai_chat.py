"""OpenAI's chat completions, as OpenAI and many compatible servers implement them: requests out, streamed chunks in.

The decoder tolerates differences between servers: chunks without ``choices`` or with more keys; usage in its own chunk,
in every chunk or under ``x_groq``; calls without ``index`` or ``id``; arguments as an object instead of text. It leaves
out text that is not meant to be spoken (``reasoning``, ``reasoning_content``). A refusal is part of the model's answer,
and is spoken.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import attrs

from patter_trio.abc import Message, ToolCall, ToolDefinition, Usage
from patter_trio.errors import AuthenticationError, ProviderError, RateLimitError

DONE_DATA: Final = "[DONE]"
"""Data of the last event."""
# At most one call per definition is plausible; the bound keeps a model that repeats itself from filling memory.
MAX_TOOL_CALLS: Final = 128
"""Most tool calls in one answer; OpenAI accepts as many definitions."""
# Judged: two lines of a log.
MAX_REASON_CHARACTERS: Final = 300
"""Most characters of a vendor's reason that are shown."""

# In a stream the status is 200, so the code is all that tells a refused key from a crash.
_ERRORS: Final[Mapping[str, type[ProviderError]]] = {
    "authentication_error": AuthenticationError,
    "invalid_api_key": AuthenticationError,
    "permission_denied": AuthenticationError,
    "rate_limit_exceeded": RateLimitError,
    "rate_limit_error": RateLimitError,
    "insufficient_quota": RateLimitError,
}
"""Error types by ``code`` or ``type`` of an error within a stream."""


# Outgoing -------------------------------------------------------------------------------------------------------------
def request(
    model: str,
    messages: Sequence[Message],
    tools: Sequence[ToolDefinition] = (),
    options: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the body of a request for a streamed answer.

    Raises:
        ProviderError: a message or an option cannot be encoded as JSON.
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": [message_out(message) for message in messages],
        "stream": True,
        # Last, so that an option of the application can replace any of the three.
        **(options or {}),
    }
    # Left out if empty: OpenAI refuses an empty list.
    if tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
            }
            for tool in tools
        ]
    try:
        # ``allow_nan``: NaN is not JSON, and servers answer it with a status that explains nothing. ``replace``: UTF-8
        # cannot encode lone surrogates, which models and applications produce by cutting text.
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    # The application's tools and options are in it; the error names the model for which they were meant.
    except (TypeError, ValueError) as error:
        raise ProviderError(f"a message for {model} cannot be encoded as JSON: {error}") from error


def message_out(message: Message) -> dict[str, Any]:
    """Return a message in the vendor's form; a message in that form is returned unchanged."""
    if message.get("role") == "tool":
        # Only these keys: strict servers refuse others, such as a ``name``.
        return {key: message[key] for key in ("role", "tool_call_id", "content") if key in message}
    calls = message.get("tool_calls")
    if not calls:
        # An empty list of calls is refused by OpenAI.
        return {key: value for key, value in message.items() if key != "tool_calls"}
    return {
        **message,
        # None, as OpenAI itself writes a message that only calls tools.
        "content": message.get("content") or None,
        "tool_calls": [
            # The vendor's own form passes: an application may keep messages as it received them.
            call
            if "function" in call
            else {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"]},
            }
            for call in calls
        ],
    }


# Incoming -------------------------------------------------------------------------------------------------------------
@attrs.define
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = attrs.field(factory=list)


class ChatDecoder:
    """Decoder of the events of one answer."""

    def __init__(self) -> None:
        # By index, because the pieces of several calls can arrive interleaved.
        self._calls: dict[int, _Call] = {}
        self._newest = 0
        self._half = ""  # a high surrogate whose other half comes with the next event
        self._said = False
        self.usage: Usage | None = None
        """Usage that the vendor will bill, as it reported it last."""
        self.finish_reason: str = ""
        """Why the answer ended; empty until it has."""
        self.done: bool = False
        """True once nothing more will come."""

    def __repr__(self) -> str:
        return f"<ChatDecoder {self.finish_reason or 'open'}, {len(self._calls)} calls>"

    def take(self, data: str) -> str:
        """Take the data of an event; return the text in it.

        Raises:
            ProviderError: the data is not a chunk, or reports that the model failed.
        """
        if data.strip() == DONE_DATA:
            self.done = True
            return ""
        # Not msgspec: servers differ too much for fixed types, and tokens are few beside audio.
        try:
            chunk = json.loads(data)
        # ``RecursionError``: nesting without end.
        except (ValueError, RecursionError) as error:
            raise ProviderError(f"the model's event must be JSON, got {data[:MAX_REASON_CHARACTERS]!r}") from error
        if not isinstance(chunk, dict):
            raise ProviderError(f"the model's event must be a JSON object, got {data[:MAX_REASON_CHARACTERS]!r}")
        # Truthy: a null or an empty error reports nothing.
        if chunk.get("error"):
            _fail(chunk["error"])
        # Before the choices: the chunk with the usage has none.
        self._use(chunk)
        choice = _first(chunk.get("choices"))
        if choice.get("error"):
            _fail(choice["error"])
        delta = _mapping(choice.get("delta"))
        for call in _list(delta.get("tool_calls")):
            self._call(_mapping(call))
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self.finish_reason = reason
        # A refusal is spoken like any text: the caller must hear why the answer is missing.
        text = self._whole(_text(delta.get("content")) + _text(delta.get("refusal")))
        # Content that was withheld after words have been spoken is a cut-off answer, not a failed one.
        self._said = self._said or bool(text)
        return text

    def calls(self) -> list[ToolCall]:
        """Return the tool calls of the finished answer, in their order.

        Raises:
            ProviderError: the answer was withheld, or broke off.
        """
        if self.finish_reason == "content_filter" and not self._said:
            raise ProviderError("the vendor's content filter withheld the answer")
        # Either sign is enough: some servers send only one of the two.
        if not self.finish_reason and not self.done:
            raise ProviderError("the stream ended before the answer was complete")
        return [
            # Without arguments: "{}", because some servers send none for a tool without parameters, and "" is not JSON.
            ToolCall(call.id, call.name, "".join(call.arguments) or "{}")
            for _, call in sorted(self._calls.items())
            if call.name
        ]

    def _call(self, delta: Mapping[str, Any]) -> None:
        function, name = _mapping(delta.get("function")), delta.get("id")
        index = delta.get("index")
        # Servers without an index: an id starts a new call, a piece without one continues the newest.
        # ``True`` is an int, too.
        if not isinstance(index, int) or isinstance(index, bool):
            index = self._newest if not name and self._calls else len(self._calls)
        known = self._calls.get(index)
        # Both have an id and the ids differ, so these are two calls.
        if known is not None and isinstance(name, str) and name and known.id not in ("", name):
            index = max(self._calls) + 1  # some servers number every call 0
        if index not in self._calls and len(self._calls) >= MAX_TOOL_CALLS:
            raise ProviderError(f"the model called more than {MAX_TOOL_CALLS} tools at once")
        self._newest = index
        call = self._calls.setdefault(index, _Call())
        if isinstance(name, str) and name:
            call.id = name
        # Replaced, not appended: the name comes whole.
        if isinstance(function.get("name"), str) and function["name"]:
            call.name = function["name"]
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping):
            # Some servers send an object, in one piece.
            arguments = json.dumps(arguments)
        if isinstance(arguments, str):
            call.arguments.append(arguments)

    # The last report counts: servers that report in each chunk report totals.
    def _use(self, chunk: Mapping[str, Any]) -> None:
        usage = chunk.get("usage") or _mapping(chunk.get("x_groq")).get("usage")
        if not isinstance(usage, Mapping):
            return
        prompt, cached = (
            _count(usage, "prompt_tokens"),
            _count(_mapping(usage.get("prompt_tokens_details")), "cached_tokens"),
        )
        # The cached tokens are a part of the prompt. Clamped, because a negative count would lower the bill.
        cached = min(cached, prompt)
        self.usage = Usage(
            stage="llm",
            input_tokens=prompt - cached,
            cache_read_tokens=cached,
            output_tokens=_count(usage, "completion_tokens"),
        )

    def _whole(self, text: str) -> str:
        """Return text without lone surrogates; a high surrogate at the end waits for its other half."""
        # Nearly all text: without this test each token would be encoded and decoded twice.
        if text.isascii() and not self._half:
            return text
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        # UTF-16 joins the two halves of a character; what stays alone becomes a replacement character.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def reason_of_refusal(body: bytes) -> str:
    """Return the vendor's reason for an error, from the body of an answer; empty if it has none that can be read."""
    try:
        error = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    error = _first(error) if isinstance(error, list) else error  # Google's compatible server sends a list
    # Some servers put the error at the top, without the key.
    error = _mapping(error).get("error", error)
    if isinstance(error, str):
        return error[:MAX_REASON_CHARACTERS]
    message = _mapping(error).get("message")
    return message[:MAX_REASON_CHARACTERS] if isinstance(message, str) else ""


def _fail(error: object) -> NoReturn:
    about = _mapping(error)
    message = about.get("message", error)
    kinds = (about.get("code"), about.get("type"))
    # ``code`` first: it is the more precise of the two.
    kind = next((_ERRORS[key] for key in kinds if isinstance(key, str) and key in _ERRORS), ProviderError)
    raise kind(f"the model failed: {str(message)[:MAX_REASON_CHARACTERS]}")


def _text(content: object) -> str:
    """Return the text of a ``content``, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    parts = [_mapping(part) for part in _list(content)]
    return "".join(text for part in parts if part.get("type") == "text" and isinstance(text := part.get("text"), str))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _first(value: object) -> Mapping[str, Any]:
    return _mapping(next(iter(_list(value)), None))


def _count(usage: Mapping[str, Any], key: str) -> int:
    value = usage.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
