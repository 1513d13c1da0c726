"""A conversation for programs that talk to an LLM themselves: build it, shorten it, convert it to vendors' formats."""

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import attrs

from patter_trio.errors import ConfigurationError

Role = Literal["system", "user", "assistant", "tool"]
_ROLES: Final = ("system", "user", "assistant", "tool")


def _checked_role(_: object, __: object, role: Any) -> None:
    if role not in _ROLES:
        raise ConfigurationError(f"a message's role must be one of {', '.join(_ROLES)}, got {role!r}")


def _checked_content(_: object, __: object, content: Any) -> None:
    if not isinstance(content, str):
        raise ConfigurationError(f"a message's content must be a string, got {content!r}")


@attrs.frozen(kw_only=True)
class ChatMessage:
    """One message; ``timestamp`` is Unix time in seconds."""

    role: Role = attrs.field(validator=_checked_role)
    content: str = attrs.field(validator=_checked_content)
    tool_call_id: str = ""
    """Id of the tool call whose result this is."""
    # Short: it appears in logs, and need only be unique within one conversation.
    id: str = attrs.field(factory=lambda: uuid.uuid4().hex[:12])
    timestamp: float = attrs.field(factory=time.time)


class ChatContext:
    """The messages of a conversation, oldest first.

    Args:
        system_prompt: the first message, if given.
    """

    def __init__(self, system_prompt: str | None = None) -> None:
        self._messages: list[ChatMessage] = []
        if system_prompt:
            self.add_system(system_prompt)

    def __repr__(self) -> str:
        return f"<ChatContext of {self.length} messages>"

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def length(self) -> int:
        """Number of messages."""
        return len(self._messages)

    def add_user(self, content: str) -> ChatMessage:
        """Add a message of the user."""
        return self._add(ChatMessage(role="user", content=content))

    def add_assistant(self, content: str) -> ChatMessage:
        """Add a message of the model."""
        return self._add(ChatMessage(role="assistant", content=content))

    def add_system(self, content: str) -> ChatMessage:
        """Add an instruction."""
        return self._add(ChatMessage(role="system", content=content))

    def add_tool_result(self, content: str, tool_call_id: str) -> ChatMessage:
        """Add the result of a tool call."""
        return self._add(ChatMessage(role="tool", content=content, tool_call_id=tool_call_id))

    def _add(self, message: ChatMessage) -> ChatMessage:
        self._messages.append(message)
        return message

    def get_messages(self) -> tuple[ChatMessage, ...]:
        """Return all messages."""
        return tuple(self._messages)

    def get_last_n(self, n: int) -> tuple[ChatMessage, ...]:
        """Return the newest ``n`` messages."""
        return tuple(self._messages[-n:]) if n > 0 else ()

    def truncate(self, max_messages: int) -> None:
        """Keep the newest messages, ``max_messages`` at most, the system prompt among them if there is one.

        The system prompt stays even with 0, and a negative number keeps all. A tool's result is dropped if its call
        was: vendors refuse such a result.
        """
        if max_messages < 0 or len(self._messages) <= max_messages:
            return
        first = self._messages[0]
        # The prompt stays, whatever its age: without it the model plays no role.
        head = [first] if first.role == "system" else []
        tail = list(self.get_last_n(max_messages - len(head)))
        # At the beginning only: a result is always behind its call.
        while tail and tail[0].role == "tool":
            tail.pop(0)
        self._messages = head + tail

    def to_openai(self) -> list[dict[str, Any]]:
        """Return the messages in OpenAI's format, which ``LanguageModel.stream`` accepts, too."""
        return [
            {"role": message.role, "content": message.content}
            # Only for a tool: vendors refuse the key elsewhere.
            | ({"tool_call_id": message.tool_call_id} if message.role == "tool" else {})
            for message in self._messages
        ]

    def to_anthropic(self) -> dict[str, Any]:
        """Return ``system`` and ``messages`` in Anthropic's format.

        All instructions become the system prompt, which is None without any. A tool's result becomes a message of the
        user, because its call is not stored here. Adjacent messages of the same role are joined, because the vendor
        requires alternating roles.
        """
        messages: list[dict[str, Any]] = []
        for message in self._messages:
            if message.role == "system":
                continue
            role = "assistant" if message.role == "assistant" else "user"
            # Marked in words, or the model would take the result for the user's.
            content = f"[tool result] {message.content}" if message.role == "tool" else message.content
            if messages and messages[-1]["role"] == role:
                # A blank line: two messages are two paragraphs.
                messages[-1]["content"] += f"\n\n{content}"
            else:
                messages.append({"role": role, "content": content})
        prompts = [message.content for message in self._messages if message.role == "system"]
        return {"system": "\n\n".join(prompts) or None, "messages": messages}

    def copy(self) -> "ChatContext":
        """Return an independent context with the same messages."""
        other = ChatContext()
        other._messages = list(self._messages)
        return other

    def to_json(self) -> dict[str, Any]:
        """Return the whole context in a form that ``json.dumps`` accepts."""
        return {
            "messages": [
                {key: value for key, value in attrs.asdict(message).items() if key != "tool_call_id" or value}
                for message in self._messages
            ]
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ChatContext":
        """Return the context that :meth:`to_json` produced; an empty one for an empty dict.

        Raises:
            ConfigurationError: ``data`` is not the output of ``to_json``.
        """
        context = cls()
        messages = data.get("messages", () if not data else None) if isinstance(data, Mapping) else None
        if not isinstance(messages, Sequence) or isinstance(messages, str):
            raise ConfigurationError("a ChatContext's JSON must have a list under 'messages'")
        for message in messages:
            try:
                context._add(ChatMessage(**message))
            # ``TypeError`` for wrong keys, ``ValueError`` for wrong values.
            except (TypeError, ValueError) as error:
                raise ConfigurationError(
                    f"a message of a ChatContext must have a role and a content, got {message!r}"
                ) from error
        return context
