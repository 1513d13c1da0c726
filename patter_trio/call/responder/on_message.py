"""The handlers for each form of ``on_message``; the form is determined once, when the agent is served.

========================================  ==========================================================================
form                                      what it is
========================================  ==========================================================================
a coroutine, ``async def f(event)``       awaited; its text is the reply
a plain function                          called on the event loop; what it returns may be awaitable, or an iterator
an async generator                        each text that it yields is a piece of the reply
any of them with ``(event, call)``        also gets the :class:`~patter_trio.call.control.CallControl`
``https://...``                           the event is POSTed there (``call/responder/on_message_urls.py``)
``wss://...``                             one connection per call (``call/responder/on_message_urls.py``)
========================================  ==========================================================================
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import attrs
import trio

from patter_trio.call.control import CallControl
from patter_trio.call.output import reply as replies
from patter_trio.call.responder import streamed
from patter_trio.user_code.signatures import name_of


class CallMessageHandler(ABC):
    """Handler of the messages of one call."""

    async def run(self) -> None:
        """Keep open what the answers need, in the call's nursery, for as long as the call lives. Raises nothing."""
        # Nothing by default; the checkpoint makes it a well-behaved async function.
        await trio.lowlevel.checkpoint()

    @abstractmethod
    def answer_source(self, event: dict[str, Any]) -> replies.AnswerSource:
        """Return the source of the answer to one message."""


# One for all calls beside one for each: the form of on_message is inspected, and its URL
# checked, before any caller waits.
class MessageHandler(ABC):
    """Handler of the messages of all calls; ``name`` is the model in ``llm_token``."""

    name: str

    @abstractmethod
    def for_call(self, control: CallControl) -> CallMessageHandler:
        """Return the handler for one call."""


@attrs.frozen
class FunctionHandler(MessageHandler):
    """A function of the application that answers messages."""

    function: Callable[..., Any]
    takes_control: bool
    """True if the function takes the call's control as its second argument."""

    @property
    def name(self) -> str:  # type: ignore[override]
        """The function's name."""
        return getattr(self.function, "__name__", name_of(self.function))

    def for_call(self, control: CallControl) -> CallMessageHandler:
        """Return a handler that calls the function for one call."""
        return _FunctionCallHandler(self.function, (control,) if self.takes_control else ())


@attrs.frozen
class _FunctionCallHandler(CallMessageHandler):
    function: Callable[..., Any]
    more: tuple[CallControl, ...]

    def answer_source(self, event: dict[str, Any]) -> replies.AnswerSource:
        return streamed.from_function(self.function, event, *self.more)
