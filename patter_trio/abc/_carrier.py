"""Carriers: how a call is announced to us, what we answer, and how its audio travels."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import attrs

from patter_trio.errors import ConfigurationError

Direction = Literal["inbound", "outbound"]
Form = Mapping[str, str | Sequence[str]]
"""The fields of a form; a field that came more than once has a sequence of values."""


@attrs.frozen
class StreamStarted:
    """The carrier's media stream opens: ids of stream and call, and the parameters that we gave it."""

    stream_id: str
    call_id: str
    parameters: Mapping[str, str] = attrs.field(repr=False)  # the token is one of them


@attrs.frozen
class AudioReceived:
    """The caller's voice: mu-law at 8 kHz, usually 20 ms."""

    audio: bytes


@attrs.frozen
class MarkReached:
    """All that was sent before the mark of this name has left the carrier's buffer, by playing or by clearing."""

    name: str


@attrs.frozen
class DigitPressed:
    """The caller pressed a key: 0-9, ``*``, ``#`` or A-D."""

    digit: str


@attrs.frozen
class StreamStopped:
    """The carrier ends the stream."""


StreamEvent = StreamStarted | AudioReceived | MarkReached | DigitPressed | StreamStopped


class StreamCodec(ABC):
    """One carrier's media-stream protocol without I/O: messages in, events out; intentions in, messages out.

    One codec serves one stream. ``audio``, ``mark`` and ``clear`` may be used once ``StreamStarted`` has come.
    """

    @abstractmethod
    def receive(self, message: str | bytes) -> StreamEvent | None:
        """Return what a message of the carrier means; None for one that is legal and of no interest.

        Raises:
            WireError: the protocol does not allow it.
        """

    @abstractmethod
    def audio(self, mulaw: bytes) -> str:
        """Return the message that plays mu-law audio to the caller, after all that was sent before."""

    @abstractmethod
    def mark(self, name: str) -> str:
        """Return the message that asks for a :class:`MarkReached`."""

    @abstractmethod
    def clear(self) -> str:
        """Return the message that empties the carrier's buffer, so that the caller hears silence at once."""


@attrs.frozen
class CallInfo:
    """The facts of a call, from its announcement to its end.

    Attributes:
        call_id: the carrier's id of the call.
        caller: the number that calls, E.164.
        callee: the number that is called, E.164.
        direction: ``inbound`` or ``outbound``.
        custom_params: the parameters that came with the call.
        provider: the carrier's name; the server enters it.
    """

    call_id: str
    caller: str
    callee: str
    direction: Direction
    custom_params: Mapping[str, str] = attrs.field(factory=dict)
    provider: str = ""

    def payload(self, *keys: str) -> dict[str, Any]:
        """Return the facts under their keys in payloads: those that are named, or all. The parameters are a copy."""
        facts = {
            "call_id": self.call_id,
            "caller": self.caller,
            "callee": self.callee,
            "direction": self.direction,
            "custom_params": dict(self.custom_params),
            "telephony_provider": self.provider,
        }
        return {key: facts[key] for key in keys} if keys else facts


class Carrier(ABC):
    """A telephone company whose webhooks announce calls and whose media streams carry them.

    ``name`` is what callbacks are told as ``telephony_provider``; ``protocol`` names the routes. ``content_type`` is
    that of the answers which ``connect`` and ``reject`` return.
    """

    name: ClassVar[str]
    protocol: ClassVar[str]
    signature_header: ClassVar[str]
    content_type: ClassVar[str]

    @property
    def voice_path(self) -> str:
        """Where calls are announced."""
        return f"/webhooks/{self.protocol}/voice"

    @property
    def status_path(self) -> str:
        """Where changes of a call's status are told."""
        return f"/webhooks/{self.protocol}/status"

    @property
    def media_prefix(self) -> str:
        """Path of the media streams; the call's id follows."""
        return f"/ws/{self.protocol}/stream/"

    @abstractmethod
    def check(self, url: str, params: Form | bytes, signature: str) -> bool:
        """Say whether the carrier signed this request: its public URL, and its form or (of any other type) its body."""

    @abstractmethod
    def sign(self, url: str, params: Form | bytes) -> str:
        """Return the signature that the carrier would give this request; a simulated carrier uses it."""

    @abstractmethod
    def offer(self, params: Form) -> CallInfo:
        """Return what a voice webhook announces.

        Raises:
            WireError: a field is missing; the message names it.
        """

    @abstractmethod
    def connect(self, url: str, parameters: Mapping[str, str]) -> str:
        """Return the answer that has the call's audio streamed to ``url``, with parameters for its start."""

    @abstractmethod
    def reject(self) -> str:
        """Return the answer that lets the caller hear that we are busy."""

    async def transfer(self, call: CallInfo, to: str) -> None:
        """Connect the caller of a live call with ``to``, a number in E.164 or a SIP address; its stream ends by that.

        Returns when the carrier has said that it does.

        Raises:
            CallEnded: the call is over.
            ProviderError: it was not done, so that the call goes on; a timeout: nobody knows.
            ConfigurationError: this carrier cannot.
        """
        raise ConfigurationError(
            f"calls of {type(self).__name__} cannot be transferred, such as {call.call_id} to {to}"
        )

    @abstractmethod
    def new_codec(self) -> StreamCodec:
        """Return a codec for one media stream."""
