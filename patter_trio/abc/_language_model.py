"""Language models (LLMs), and the tools that they may call."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs

from patter_trio.abc._common import Message, Prewarmable


@attrs.frozen
class ToolDefinition:
    """A tool as a model sees it; ``parameters`` is the JSON Schema of its arguments, an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@attrs.frozen
class ToolCall:
    """A tool that the model wants to call. ``arguments`` is the JSON text that the model wrote, not validated.

    ``id`` is the vendor's id of the call, or empty if the vendor has none.
    """

    # The vendor's, because its next request must repeat it.
    id: str
    name: str
    # Text, not a dict: what the model wrote may not be JSON, and the model gets an error then.
    arguments: str
    # The three below do not count in comparisons: two calls are the same if they call the same.
    origin: str = attrs.field(default="", eq=False)
    """The model that wrote the call, in words of the provider's own; empty if it does not say."""
    extra: Mapping[str, Any] = attrs.field(factory=dict, eq=False, repr=False)
    """The vendor's own keys of the call, such as a signature, which its next request must repeat."""
    answer_extra: Mapping[str, Any] = attrs.field(factory=dict, eq=False, repr=False)
    """The vendor's own keys of the answer that the call is a part of, such as its reasoning."""


class LanguageModel(Prewarmable, ABC):
    """A model that answers."""

    provider: str
    model: str
    takes_tools: bool = True
    """False for a model that cannot call tools. An agent refuses to combine it with ``tools=``, so ``stream`` is never
    given any, and need not have the parameter."""

    # A context manager with an iterator: leaving it must close the vendor's connection, at any point and even if
    # cancelled.
    @abstractmethod
    def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolDefinition] = ()
    ) -> AbstractAsyncContextManager[AsyncIterator[str | ToolCall]]:
        """Open the streamed answer to a conversation. Iterating yields text as the model generates it.

        ``tools`` are given only if there are any. A tool call is yielded whole. After the end, the caller of ``stream``
        runs the tools, adds their results to the messages, and calls ``stream`` again. Leaving the context, by its end
        or by cancellation, stops the generation.

        Raises:
            AnswerCut: the vendor ended the answer early; raised behind its text, whose whole sentences are spoken.
            ProviderError: the model failed, before or while answering.
        """

    # Not abstract: many models have no connection to prepare.
    async def connect(self) -> None:
        """Open in advance what the next answer would otherwise wait for, such as a connection.

        Each call awaits it once.

        Raises:
            ProviderError: the connection failed; the next answer will report the error again.
        """
