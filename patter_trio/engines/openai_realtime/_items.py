"""Texts for a Realtime session: instructions to speak a text, and the messages of a conversation.

How a tool's result is sent depends on what the connection knows about the tool's call.
"""

from patter_trio.abc import Message
from patter_trio.wire import openai_realtime as wire


def verbatim(text: str) -> str:
    """Return the instructions to speak exactly this text."""
    return f"Say to the caller, word for word and in the language in which it is written, only this:\n\n{text}"


class KnownItems:
    """The tool calls that one connection knows.

    Each call has at most one output there, and no output exists without its call.
    """

    def __init__(self) -> None:
        self._calls: set[str] = set()
        """Ids of calls without an output."""
        self._outputs: dict[str, str] = {}
        """Outputs by the id of their call."""

    def __repr__(self) -> str:
        return f"<Known {len(self._calls)} calls without an output, {len(self._outputs)} with one>"

    @property
    def waits(self) -> bool:
        """True if a call has no output yet."""
        return bool(self._calls)

    def called(self, call_id: str) -> None:
        """Record a tool call of the model on this connection."""
        self._calls.add(call_id)

    def forget(self, call_ids: set[str]) -> None:
        """Drop calls that were deleted before anybody saw them."""
        self._calls -= call_ids

    def items(self, message: Message) -> list[str]:
        """Return the messages that add ``message`` to the connection; none for an output that it has already."""
        content = message.get("content") or ""
        if message["role"] == "tool":
            return self._output(message["tool_call_id"], message.get("name", ""), content)
        calls = message.get("tool_calls", ())
        # Before the items are sent: their outputs may follow in the next message.
        self._calls.update(call["id"] for call in calls)
        items = [wire.add_message(message["role"], content)] if content else []
        return [*items, *(wire.add_function_call(call["id"], call["name"], call["arguments"]) for call in calls)]

    def _output(self, call_id: str, name: str, content: str) -> list[str]:
        # The history repeats an output that the connection has got already.
        if self._outputs.get(call_id) == content:
            return []
        if call_id not in self._calls:  # it has an output, such as "still to come", or is unknown here
            self._outputs[call_id] = content
            # The vendor takes one output per call, so news about it comes as a message.
            return [wire.add_message("system", f"The tool {name} has given: {content}")]
        self._calls.remove(call_id)
        self._outputs[call_id] = content
        return [wire.add_function_output(call_id, content)]
