"""What several kinds of provider share."""

from collections.abc import Mapping
from typing import Any

Message = Mapping[str, Any]
"""One message of a conversation.

``{"role": "system" | "user" | "assistant", "content": str}``; of an assistant that called tools also ``"tool_calls"``, a
list of ``{"id", "name", "arguments"}`` with the arguments as JSON text; and what such a call gave:
``{"role": "tool", "tool_call_id": str, "name": str, "content": str}``, one for each, right behind it.
"""


class Prewarmable:
    """A provider that has something to load before its first call, such as a model."""

    async def prewarm(self) -> None:
        """Load what the first call would otherwise wait for.

        Raises:
            ProviderError: it cannot be loaded.
            ConfigurationError: it is missing, or not what it should be.
        """
