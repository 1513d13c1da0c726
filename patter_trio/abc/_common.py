"""Definitions shared by several kinds of provider."""

from collections.abc import Mapping
from typing import Any

# A dict, not a class: applications and hooks build and change messages, and vendors' formats differ in single keys.
Message = Mapping[str, Any]
"""One message of a conversation.

The form is ``{"role": "system" | "user" | "assistant", "content": str}``. A message of an assistant that called tools
also has ``"tool_calls"``, a list of ``{"id", "name", "arguments"}`` with the arguments as JSON text. The result of each
call follows directly after it: ``{"role": "tool", "tool_call_id": str, "name": str, "content": str}``.

A message with tool calls may have an ``"origin"``, the model that wrote it, and the message and each of its calls an
``"extra"``, the vendor's own keys. A provider returns these keys to the model that wrote them, and to no other."""


class Prewarmable:
    """A provider that has something to load before its first call, such as a model."""

    # Not abstract: most providers have nothing to load.
    async def prewarm(self) -> None:
        """Load what the first call would otherwise wait for.

        Raises:
            ProviderError: loading failed.
            ConfigurationError: a file is missing, or differs from what it should be.
        """
