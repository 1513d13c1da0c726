"""Carriers: how they announce a call, how the server answers, and how the call's audio travels."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

import attrs

from patter_trio.errors import ConfigurationError

Direction = Literal["inbound", "outbound"]
# As ``parse_qs`` returns it: a field may occur twice.
Form = Mapping[str, str | Sequence[str]]
"""Fields of a form. A field that occurs more than once has a sequence of values."""


@attrs.frozen
class StreamStarted:
    """The start of the carrier's media stream: the id of the call, and the parameters given to the carrier."""

    call_id: str
    # Kept as they came: the server looks for its token, the application for its own.
    parameters: Mapping[str, str] = attrs.field(repr=False)  # the one-time token is one of them


@attrs.frozen
class AudioReceived:
    """Audio from the caller: mu-law at 8 kHz, usually 20 ms."""

    audio: bytes


@attrs.frozen
class MarkReached:
    """A mark whose preceding audio has left the carrier's buffer, because it was played or cleared."""

    name: str


@attrs.frozen
class DigitPressed:
    """A key that the caller pressed: 0-9, ``*``, ``#`` or A-D."""

    digit: str


@attrs.frozen
class StreamStopped:
    """The end of the stream, announced by the carrier."""


# Closed: a codec translates whatever its carrier has into these five.
StreamEvent = StreamStarted | AudioReceived | MarkReached | DigitPressed | StreamStopped


@attrs.frozen
class CallStatus:
    """The end of a call as the carrier's status webhook reports it.

    Attributes:
        call_id: the carrier's id of the call.
        outcome: our word for the carrier's status, such as ``no_answer``.
    """

    call_id: str
    outcome: str


# Without I/O, so that a codec can be tested byte by byte, and cannot hold up the call's reader.
class StreamCodec(ABC):
    """The media-stream protocol of one carrier, without I/O: messages to events, commands to messages.

    Each codec serves one stream. ``audio``, ``mark`` and ``clear`` may be used only after ``StreamStarted``.
    """

    @abstractmethod
    def receive(self, message: str | bytes) -> StreamEvent | None:
        """Return the event that a carrier's message contains; None for a valid message without one.

        Raises:
            WireError: the protocol does not allow the message.
        """

    # Text, because all known carriers take JSON; the call sends it unchanged.
    @abstractmethod
    def audio(self, mulaw: bytes) -> str:
        """Return the message that plays mu-law audio to the caller after everything sent before it."""

    @abstractmethod
    def mark(self, name: str) -> str:
        """Return the message that requests a :class:`MarkReached`."""

    @abstractmethod
    def clear(self) -> str:
        """Return the message that empties the carrier's buffer, so that the caller hears silence at once."""


_SEVEN_DIGITS: Final = re.compile(r"\d{7}\Z")


def _last_digits(number: str) -> str:
    # Enough to recognise a call in a traceback; of a short number, or of a name, nothing.
    return f"***{number[-4:]}" if _SEVEN_DIGITS.search(number) else "***"


@attrs.frozen
class CallInfo:
    """The facts about a call, from its announcement to its end; its repr has no whole number and no parameters.

    Attributes:
        call_id: the carrier's id of the call.
        caller: the calling number, E.164.
        callee: the called number, E.164.
        direction: ``inbound`` or ``outbound``.
        custom_params: the parameters that came with the call.
        provider: the carrier's name; the server sets it.
    """

    call_id: str
    caller: str = attrs.field(repr=_last_digits)
    callee: str = attrs.field(repr=_last_digits)
    direction: Direction
    custom_params: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    provider: str = ""

    # One place for the keys: payloads of different events must not differ in them.
    def payload(self, *keys: str) -> dict[str, Any]:
        """Return the facts under their payload keys: the named ones, or all. The parameters are a copy."""
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

    Callbacks receive ``name`` as ``telephony_provider``. ``protocol`` is part of the routes. ``content_type`` is the
    type of the answers that ``connect`` and ``reject`` return.
    """

    # Class variables: they are facts about the protocol, not about an account.
    name: ClassVar[str]
    protocol: ClassVar[str]
    signature_header: ClassVar[str]
    content_type: ClassVar[str]

    @property
    def voice_path(self) -> str:
        """Path of the webhook that announces calls."""
        return f"/webhooks/{self.protocol}/voice"

    @property
    def status_path(self) -> str:
        """Path of the webhook that reports changes of a call's status."""
        return f"/webhooks/{self.protocol}/status"

    @property
    def media_prefix(self) -> str:
        """Prefix of the media streams' paths; the call's id follows it."""
        # The id is part of the path, so that a socket says which call it wants before anything is read.
        return f"/ws/{self.protocol}/stream/"

    @abstractmethod
    def check(self, url: str, params: Form | bytes, signature: str) -> bool:
        """Return True if the carrier signed this request.

        Args:
            url: the public URL of the request.
            params: the fields of its form, or its body as bytes if it has any other type.
            signature: the value of the signature header.
        """

    # Public, because the simulator signs as the carrier does: a test then runs the same check as a real call.
    @abstractmethod
    def sign(self, url: str, params: Form | bytes) -> str:
        """Return the signature that the carrier would put on this request; a simulated carrier uses it."""

    @abstractmethod
    def offer(self, params: Form) -> CallInfo:
        """Return the facts about the call that a voice webhook announces.

        Raises:
            WireError: a field is missing; the message names it.
        """

    # Not abstract: a carrier that reports no status is complete; its unconnected calls are given up by their age.
    def ended(self, params: Form) -> "CallStatus | None":  # noqa: ARG002 (for carriers that report a status)
        """Return the call that a status webhook reports as over; None if the status is not final, or names no call."""
        return None

    @abstractmethod
    def connect(self, url: str, parameters: Mapping[str, str]) -> str:
        """Return the answer that makes the carrier stream the call's audio to ``url``.

        The stream's start message carries ``parameters``.
        """

    @abstractmethod
    def reject(self) -> str:
        """Return the answer that tells the caller that the line is busy."""

    # Not abstract: a carrier without transfers is complete.
    async def transfer(self, call: CallInfo, to: str) -> None:
        """Connect the caller of a live call to ``to``, an E.164 number or a SIP address, which ends the call's stream.

        Return once the carrier has confirmed it.

        Raises:
            CallEnded: the call is over.
            ProviderError: the transfer failed and the call goes on. After a
                :class:`~patter_trio.errors.ProviderTimeout`, the outcome is unknown.
            ConfigurationError: this carrier cannot transfer calls.
        """
        raise ConfigurationError(
            f"{type(self).__name__} cannot transfer calls: call {call.call_id} was not sent to {to}"
        )

    # One codec per stream: it has the stream's id.
    @abstractmethod
    def new_codec(self) -> StreamCodec:
        """Return a codec for one media stream."""
