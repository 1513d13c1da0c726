"""OpenAI's chat completions, as OpenAI and many compatible servers implement them: requests out, streamed chunks in.

The decoder tolerates differences between servers: chunks without ``choices`` or with more keys; usage in its own chunk,
in every chunk or under ``x_groq``; calls without ``index`` or ``id``; arguments as an object instead of text. It leaves
out text that is not meant to be spoken (``reasoning``, ``reasoning_content``), but keeps it for the model that wrote
it: some models refuse the results of their tool calls without the reasoning before the call. A refusal is part of the
model's answer, and is spoken.
"""

import hashlib
import json
import re
import string
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NoReturn

import attrs

from patter_trio.abc import Message, ToolCall, ToolDefinition, Usage
from patter_trio.errors import AnswerCut, AuthenticationError, ProviderError, RateLimitError, reported

CUT_REASONS: Final = ("length", "content_filter")
"""Finish reasons of answers that the model would have continued."""
DONE_DATA: Final = "[DONE]"
"""Data of the last event."""
# At most one call per definition is plausible; the bound keeps a model that repeats itself from filling memory.
MAX_TOOL_CALLS: Final = 128
"""Most tool calls in one answer; OpenAI accepts as many definitions."""

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


_CALL_ID: Final = re.compile(r"[A-Za-z0-9]{9}")
"""Form of the id of a tool call that every server takes; the strictest demand it."""
_MADE_UP_ID: Final = re.compile(r"call_[0-9]{1,6}")
"""Form of the ids that a call gives to tool calls whose vendor gave none."""
_ALPHANUMERIC: Final = string.ascii_letters + string.digits
# By their beginnings. Others, such as annotations, are about the answer, and strict servers refuse them in a request.
_RETURNED: Final = ("reasoning", "thinking", "extra_content")
"""Keys of an answer that go back to the model that wrote it."""
# Judged: half an hour of reading. Longer reasoning is not returned, because every later request would repeat it.
MAX_RETURNED_CHARACTERS: Final = 200_000
"""Most characters of each of these keys."""
_INSTRUCTING: Final = ("system", "developer")
"""Roles of messages that come before the conversation."""
_STANDARD: Final = frozenset({"id", "index", "type", "function"})
"""Keys of a tool call that the protocol itself defines."""


# Outgoing -------------------------------------------------------------------------------------------------------------
def as_request(tool: ToolDefinition) -> dict[str, Any]:
    """Return a tool as the body of a request has it."""
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def request(
    model: str,
    messages: Sequence[Message],
    tools: Sequence[ToolDefinition] = (),
    options: Mapping[str, Any] | None = None,
    *,
    origin: str = "",
    opening: str = "",
) -> bytes:
    """Return the body of a request for a streamed answer.

    ``origin`` is the model, as its tool calls name it. ``opening`` is the user's message that precedes a conversation
    which the assistant begins; empty for none.

    Raises:
        ProviderError: a message or an option cannot be encoded as JSON.
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": alternating(messages_out(messages, origin), opening),
        "stream": True,
        # Last, so that an option of the application can replace any of the three.
        **(options or {}),
    }
    # Left out if empty: OpenAI refuses an empty list.
    if tools:
        body["tools"] = [as_request(tool) for tool in tools]
    try:
        # ``allow_nan``: NaN is not JSON, and servers answer it with a status that explains nothing. ``replace``: UTF-8
        # cannot encode lone surrogates, which models and applications produce by cutting text.
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    # The application's tools and options are in it; the error names the model for which they were meant.
    except (TypeError, ValueError) as error:
        raise ProviderError(f"a message for {model} cannot be encoded as JSON: {error}") from error


def messages_out(messages: Sequence[Message], origin: str = "") -> list[dict[str, Any]]:
    """Return messages in the vendor's form for the model ``origin``; messages in that form are returned unchanged."""
    # Ids by those that the conversation has: a result must have the id of its call, which comes first.
    ids: dict[str, str] = {}
    return [_message_out(message, origin, ids) for message in messages]


def alternating(messages: Sequence[dict[str, Any]], opening: str = "") -> list[dict[str, Any]]:
    """Return messages in which user and assistant take turns, as the templates of many models demand.

    A greeting, a reply that was cut before its first word, or two texts in a row break the order. Neighbours of one
    role become one message. If the assistant begins, ``opening`` is put before it as a message of the user, unless it
    is empty.
    """
    joined: list[dict[str, Any]] = []
    for message in messages:
        if joined and (both := _joined(joined[-1], message)) is not None:
            joined[-1] = both
        else:
            joined.append(message)
    first = next((place for place, message in enumerate(joined) if message.get("role") not in _INSTRUCTING), None)
    if opening and first is not None and joined[first].get("role") == "assistant":
        joined.insert(first, {"role": "user", "content": opening})
    return joined


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return two messages in a row as one; None if they have to stay apart."""
    role = one.get("role")
    # The results of an assistant's tool calls stand behind it, so nothing can be added to a message with calls.
    if role != other.get("role") or role not in ("user", "assistant") or "tool_calls" in one:
        return None
    texts = [message.get("content", "") for message in (one, other)]
    # Others, such as a message of several parts, are the application's own.
    if not all(isinstance(text, str) for text in texts) or one.keys() - {"role", "content"}:
        return None
    return {**one, **other, "content": "\n".join(text for text in texts if text)}


def _message_out(message: Message, origin: str, ids: dict[str, str]) -> dict[str, Any]:
    if message.get("role") == "tool":
        # Only these keys: strict servers refuse others, such as a ``name``.
        result = {key: message[key] for key in ("role", "tool_call_id", "content") if key in message}
        if "tool_call_id" in result:
            result["tool_call_id"] = ids.get(result["tool_call_id"], result["tool_call_id"])
        return result
    calls = message.get("tool_calls")
    # Our own keys, which no vendor knows. An empty list of calls is refused by OpenAI.
    rest = {key: value for key, value in message.items() if key not in ("tool_calls", "origin", "extra")}
    if not calls:
        return rest
    # What another model wrote is not returned: only its own vendor can read it, and strict servers refuse it.
    mine = bool(origin) and message.get("origin") == origin
    # Left out, not null: it is optional beside calls, and some servers refuse a null, others an empty text.
    if not rest.get("content"):
        rest.pop("content", None)
    extra = message.get("extra", {}) if mine else {}
    return {**extra, **rest, "tool_calls": [_call_out(call, ids, mine=mine) for call in calls]}


def _call_out(call: Mapping[str, Any], ids: dict[str, str], *, mine: bool) -> Mapping[str, Any]:
    # The vendor's own form passes: an application may keep messages as it received them.
    if "function" in call:
        return call
    name = call["id"]
    # The vendor's own go back as they came: it may find its own records by them.
    as_it_is = _CALL_ID.fullmatch(name) or (mine and not _MADE_UP_ID.fullmatch(name))
    ids[name] = name if as_it_is else _short_id(name)
    return {
        **(call.get("extra", {}) if mine else {}),
        "id": ids[name],
        "type": "function",
        "function": {"name": call["name"], "arguments": call["arguments"]},
    }


def _short_id(call_id: str) -> str:
    """Return nine letters and digits that stand for an id, always the same for the same one."""
    digest = hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).digest()
    return "".join(_ALPHANUMERIC[byte % len(_ALPHANUMERIC)] for byte in digest[:9])


# Incoming -------------------------------------------------------------------------------------------------------------
@attrs.define
class _Call:
    index: int
    id: str = ""
    name: str = ""
    arguments: list[str] = attrs.field(factory=list)
    extra: dict[str, Any] = attrs.field(factory=dict)

    @property
    def is_complete(self) -> bool:
        """True if the arguments are complete JSON, so that nothing more of them can come."""
        try:
            json.loads("".join(self.arguments))
        # ``RecursionError``: nesting without end.
        except (ValueError, RecursionError):
            return False
        return True


class ChatDecoder:
    """Decoder of the events of one answer.

    Args:
        names: of the tools that were offered; they tell a piece of a name from the name of another call.
        origin: the model, as its tool calls shall name it.
    """

    def __init__(self, names: Collection[str] = (), origin: str = "") -> None:
        self._names = names
        self._origin = origin
        self._choice: object = None  # the index of the choice that is spoken
        self._kept: dict[str, Any] = {}  # what goes back to the model with the results of its calls
        self._calls: list[_Call] = []
        # By index, because the pieces of several calls can arrive interleaved.
        self._open: dict[int, _Call] = {}
        self._newest = 0
        self._half = ""  # a high surrogate whose other half comes with the next event
        self._said = False
        self.usage: Usage | None = None
        """Usage that the vendor will bill, as it reported it last; None if it reported only zeros, or nothing."""
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
        # Some servers keep the connection alive with empty events.
        if not data.strip():
            return ""
        if data.strip() == DONE_DATA:
            self.done = True
            return ""
        # Not msgspec: servers differ too much for fixed types, and tokens are few beside audio.
        try:
            chunk = json.loads(data)
        # ``RecursionError``: nesting without end.
        except (ValueError, RecursionError):
            # Not quoted, nor by the error behind it: it may be what somebody said.
            raise ProviderError(f"the model's event must be JSON, got {len(data)} other characters") from None
        if not isinstance(chunk, dict):
            raise ProviderError(f"the model's event must be a JSON object, got {type(chunk).__name__}")
        # Truthy: a null or an empty error reports nothing.
        if chunk.get("error"):
            _fail(chunk["error"])
        # Before the choices: the chunk with the usage has none.
        self._use(chunk)
        choice = self._chosen(chunk.get("choices"))
        if choice.get("error"):
            _fail(choice["error"])
        delta = _mapping(choice.get("delta"))
        for call in _list(delta.get("tool_calls")):
            self._call(_mapping(call))
        # The form before tools: one call, without index and id.
        if isinstance(delta.get("function_call"), Mapping):
            self._call({"function": delta["function_call"]})
        self._keep(delta)
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
            AnswerCut: the vendor ended the answer after some of its text.
            ProviderError: the answer was withheld, or broke off.
        """
        if self._said and self.finish_reason in CUT_REASONS:
            raise AnswerCut(f"the vendor ended it early ({self.finish_reason})")
        if self.finish_reason == "content_filter":
            raise ProviderError("the vendor's content filter withheld the answer")
        # Either sign is enough: some servers send only one of the two.
        if not self.finish_reason and not self.done:
            raise ProviderError("the stream ended before the answer was complete")
        return [
            # Without arguments: "{}", because some servers send none for a tool without parameters, and "" is not JSON.
            ToolCall(call.id, call.name, "".join(call.arguments) or "{}", self._origin, call.extra, self._returned())
            for call in sorted(self._calls, key=lambda call: call.index)
            if call.name
        ]

    def _call(self, delta: Mapping[str, Any]) -> None:
        function, name = _mapping(delta.get("function")), delta.get("id")
        name = name if isinstance(name, str) else ""
        arguments = function.get("arguments")
        # Some servers send an object, in one piece.
        arguments = json.dumps(arguments) if isinstance(arguments, Mapping) else arguments
        arguments = arguments if isinstance(arguments, str) else ""
        called = function.get("name")
        called = called if isinstance(called, str) else ""
        index = delta.get("index")
        # Servers without an index: an id starts a new call, a piece without one continues the newest.
        # ``True`` is an int, too.
        if not isinstance(index, int) or isinstance(index, bool):
            index = self._newest if not name and self._calls else len(self._calls)
        call = self._open.get(index)
        # Some servers number every call 0; further pieces with that number belong to the newest of them.
        if call is None or (name and call.id not in ("", name)) or self._begins_another(call, called, arguments):
            if len(self._calls) >= MAX_TOOL_CALLS:
                raise ProviderError(f"the model called more than {MAX_TOOL_CALLS} tools at once")
            call = self._open[index] = _Call(index)
            self._calls.append(call)
        self._newest = index
        call.id = name or call.id
        if called and not call.arguments:
            call.name = self._longer(call.name, called)
        if arguments:
            call.arguments.append(arguments)
        call.extra |= {key: value for key, value in delta.items() if key not in _STANDARD and value is not None}

    def _begins_another(self, call: _Call, name: str, arguments: str) -> bool:
        """Return True if a piece with a name belongs to another call than ``call``, although nothing says so."""
        if not name or not call.name:
            return False
        # A server may repeat the name with each piece of the arguments, so only what cannot be a piece counts.
        if call.arguments:
            return name != call.name or bool(arguments.strip() and call.is_complete)
        # Two calls without arguments, or two pieces of one name: only the tools that exist can tell.
        return name != call.name and call.name in self._names and not self._is_begun(call.name + name)

    def _longer(self, known: str, piece: str) -> str:
        """Return a tool's name with one more piece, which may also be the whole name once more."""
        if piece.startswith(known) and not self._is_begun(known + piece):
            return piece
        return known + piece

    def _is_begun(self, name: str) -> bool:
        return any(tool.startswith(name) for tool in self._names)

    def _chosen(self, choices: object) -> Mapping[str, Any]:
        """Return the part of a chunk that belongs to the one choice that is spoken: the first that came."""
        for choice in map(_mapping, _list(choices)):
            number = choice.get("index") or 0
            if self._choice is None:
                self._choice = number
            if number == self._choice:
                return choice
        return {}

    def _keep(self, delta: Mapping[str, Any]) -> None:
        """Keep the pieces of reasoning: texts and lists grow, anything else is replaced."""
        for key, value in delta.items():
            if not key.startswith(_RETURNED) or value is None:
                continue
            known = self._kept.get(key)
            both_grow = isinstance(value, str | list) and type(known) is type(value)
            self._kept[key] = known + value if both_grow else value

    def _returned(self) -> dict[str, Any]:
        return {
            key: value
            for key, value in self._kept.items()
            if value and len(value if isinstance(value, str) else json.dumps(value)) <= MAX_RETURNED_CHARACTERS
        }

    # The last report counts for each side: servers that report in each chunk report totals, and some end with zeros.
    def _use(self, chunk: Mapping[str, Any]) -> None:
        usage = chunk.get("usage") or _mapping(chunk.get("x_groq")).get("usage")
        if not isinstance(usage, Mapping):
            return
        prompt, output = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        known = self.usage or Usage(stage="llm")
        # The cached tokens are a part of the prompt. Clamped, because a negative count would lower the bill.
        cached = min(_count(_mapping(usage.get("prompt_tokens_details")), "cached_tokens"), prompt)
        if prompt:
            known = attrs.evolve(known, input_tokens=prompt - cached, cache_read_tokens=cached)
        if output:
            known = attrs.evolve(known, output_tokens=output)
        # Zeros say nothing: the estimate of the call is better.
        if prompt or output:
            self.usage = known

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
        return reported(error)
    message = _mapping(error).get("message")
    return reported(message) if isinstance(message, str) else ""


def _fail(error: object) -> NoReturn:
    about = _mapping(error)
    message = about.get("message", error)
    kinds = (about.get("code"), about.get("type"))
    # ``code`` first: it is the more precise of the two.
    kind = next((_ERRORS[key] for key in kinds if isinstance(key, str) and key in _ERRORS), ProviderError)
    raise kind(f"the model failed: {reported(str(message))}")


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
