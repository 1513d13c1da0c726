"""What a Realtime session is told in words: a text to be said, and the messages of a conversation.

What a connection knows of the tools that were called decides how it is told what they gave.
"""

from patter_trio.abc import Message
from patter_trio.wire import openai_realtime as wire


def verbatim(text: str) -> str:
    """Return the instructions to say a text, and only that."""
    return f"Say to the caller, word for word and in the language in which it is written, only this:\n\n{text}"


class KnownItems:
    """What one connection knows of the calls of tools: each has one output there, and none without the call itself."""

    def __init__(self) -> None:
        self._calls: set[str] = set()
        """Without an output."""
        self._outputs: dict[str, str] = {}
        """By the call."""

    def __repr__(self) -> str:
        return f"<Known {len(self._calls)} calls without an output, {len(self._outputs)} with one>"

    @property
    def waits(self) -> bool:
        """Whether a call has no output yet."""
        return bool(self._calls)

    def called(self, call_id: str) -> None:
        """Learn that the model there wants a tool called."""
        self._calls.add(call_id)

    def forget(self, call_ids: set[str]) -> None:
        """Learn that calls were taken back before anybody saw them."""
        self._calls -= call_ids

    def items(self, message: Message) -> list[str]:
        """Return what tells a message to the connection; nothing, if it is an output that it was told already."""
        content = message.get("content") or ""
        if message["role"] == "tool":
            return self._output(message["tool_call_id"], message.get("name", ""), content)
        calls = message.get("tool_calls", ())
        self._calls.update(call["id"] for call in calls)
        items = [wire.add_message(message["role"], content)] if content else []
        return [*items, *(wire.add_function_call(call["id"], call["name"], call["arguments"]) for call in calls)]

    def _output(self, call_id: str, name: str, content: str) -> list[str]:
        if self._outputs.get(call_id) == content:
            return []
        if call_id not in self._calls:  # it has one, such as that it was still to come; or was never heard of
            self._outputs[call_id] = content
            return [wire.add_message("system", f"The tool {name} has given: {content}")]
        self._calls.remove(call_id)
        self._outputs[call_id] = content
        return [wire.add_function_output(call_id, content)]
