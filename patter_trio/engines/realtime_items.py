"""What a Realtime session is told in words: a text to be said, and the messages of a conversation."""

from patter_trio.abc import Message
from patter_trio.wire import openai_realtime as wire


def verbatim(text: str) -> str:
    """Return the instructions to say a text, and only that."""
    return f"Say to the caller, word for word and in the language in which it is written, only this:\n\n{text}"


def items_of(message: Message) -> list[str]:
    """Return a message of a conversation as the vendor's items."""
    content = message.get("content") or ""
    if message["role"] == "tool":
        return [wire.add_function_output(message["tool_call_id"], content)]
    items = [wire.add_message(message["role"], content)] if content else []
    calls = message.get("tool_calls", ())
    return [*items, *(wire.add_function_call(call["id"], call["name"], call["arguments"]) for call in calls)]
