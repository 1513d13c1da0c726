"""Language models, and the tools that they are told of."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs

from patter_trio.abc._common import Message, Prewarmable


@attrs.frozen
class ToolDefinition:
    """What a model is told of a tool; ``parameters`` is the JSON Schema of its arguments, an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@attrs.frozen
class ToolCall:
    """A model wants a tool called; ``arguments`` is the JSON text that it wrote, of which nothing is sure.

    ``id`` is what the vendor calls it; empty where it has no name for it.
    """

    id: str
    name: str
    arguments: str


class LanguageModel(Prewarmable, ABC):
    """A model that answers.

    One that knows no tools may leave ``tools`` out of its ``stream``: it is passed only where there are any.
    """

    provider: str
    model: str

    @abstractmethod
    def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolDefinition] = ()
    ) -> AbstractAsyncContextManager[AsyncIterator[str | ToolCall]]:
        """Open the streamed answer to a conversation; iterating yields text as it is generated.

        A tool that the model wants called is yielded whole. After the end the caller runs them, adds what they gave
        to the messages, and asks again. Leaving the context, by its end or by cancellation, stops the generation.

        Raises:
            ProviderError: the model failed, before or while answering.
        """

    async def connect(self) -> None:
        """Open what the next answer would otherwise wait for, such as a connection; asked in each call, in advance.

        Raises:
            ProviderError: it could not be had; the next answer says so again.
        """
