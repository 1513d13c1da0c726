"""One call that we place: the request for it, and its state."""

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, cast

import attrs
import trio

from patter_trio.abc import CallInfo, Dialled, MachineDetected, MachineDetection
from patter_trio.agent.agent import Agent
from patter_trio.call.bridge import Party
from patter_trio.call.control import CallControl
from patter_trio.call.second_leg import SecondLeg
from patter_trio.errors import ConfigurationError
from patter_trio.events.callback_registry import Callback, check_callback
from patter_trio.server.answerer import Answering

# Twilio's largest (twilio.com/docs/voice/api/call-resource); a phone that rings for ten minutes is answered by nobody.
MAX_RING_TIMEOUT_S: Final = 600
"""Largest number of seconds that a phone may ring."""

WhoAnswers = bool | Literal["acoustic"]
"""The detection of answering machines: by the carrier, by ourselves from the sound of the line, or none."""
ACOUSTIC: Final = "acoustic"


def check_spoken(name: str, text: object) -> None:
    """Check a text that somebody is to hear; an empty one says nothing.

    Raises:
        ConfigurationError: the text is not a string; or it is blank, and a machine would record silence.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"{name} must be a string, got {text!r}")
    if text and not text.strip():
        raise ConfigurationError(f"{name} must have words, or be empty for none; got {text!r}")


def checked_detection(given: Any, *, found_for: str = "") -> WhoAnswers:
    """Return whether to find out who answers, and how.

    Args:
        given: the option ``machine_detection``; None: by the carrier if a finding is of use, else not at all.
        found_for: the option that a finding is of use for; empty: none is given.

    Raises:
        ConfigurationError: ``given`` is no such value, or False although ``found_for`` is given.
    """
    if given is None:
        return bool(found_for)
    # By type, because 1 == True: a number is a mistake, such as a number of seconds.
    if not isinstance(given, bool) and given != ACOUSTIC:
        raise ConfigurationError(
            f"machine_detection must be True (the carrier listens), {ACOUSTIC!r} (patter_trio listens) or False, "
            f"got {given!r}"
        )
    if given is False and found_for:
        raise ConfigurationError(
            f"machine_detection=False and {found_for}= contradict each other: without detection, no machine is found; "
            f"leave out one of them"
        )
    return cast("WhoAnswers", given)


@attrs.frozen(kw_only=True)
class CallRequest:
    """A call to place, as the application asks for it; the numbers are E.164 and checked.

    Attributes:
        to: the number that is called.
        from_number: the number that is shown.
        agent: the agent of the call; None: the served one.
        first_message: what the agent says first; empty: what the agent's own field says.
        ring_timeout: seconds that the phone rings at most.
        custom_params: the application's own parameters of the call.
        machine_detection: True if the carrier is asked who answers, ``acoustic`` if we listen ourselves.
        on_machine_detection: called with the findings.
        voicemail_message: what is said to a machine after its greeting; empty: nothing.
        second_leg: the transfer for which a person is called; None: the call stands alone.
    """

    to: str
    from_number: str
    agent: Agent | None = None
    first_message: str = ""
    # Judged: five or six rings.
    ring_timeout: int = attrs.field(default=25)
    custom_params: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    machine_detection: WhoAnswers = False
    on_machine_detection: Callback | None = None
    voicemail_message: str = attrs.field(default="", repr=False)
    second_leg: SecondLeg | None = attrs.field(default=None, repr=False)

    @property
    def is_acoustic(self) -> bool:
        """True if we find out by ourselves who answers, and the carrier is not asked."""
        return self.machine_detection == ACOUSTIC

    @property
    def detection(self) -> MachineDetection:
        """The question to the carrier about who answers."""
        if not self.machine_detection or self.is_acoustic:
            return ""
        return "greeting_end" if self.voicemail_message else "answer"

    def find(self, name: str, otherwise: Callable[[str], Callback | None]) -> Callback | None:
        """Return the callback of that name for this call; the server's by ``otherwise``."""
        if name == "on_machine_detection":
            return self.on_machine_detection
        # The keys of a person who is briefed are the decision, and no wish of a caller's.
        return None if name == "on_dtmf" and self.second_leg is not None else otherwise(name)

    def met_by(self, party: Party) -> None:
        """Let the transfer know, for which this call was placed, that the person is there."""
        if self.second_leg is not None:
            self.second_leg.meet(party)

    def __attrs_post_init__(self) -> None:
        """Check what the application gave, before anything is sent."""
        if self.agent is not None and not isinstance(self.agent, Agent):
            raise ConfigurationError(f"agent must be an Agent such as phone.agent(...) returns, got {self.agent!r}")
        check_spoken("first_message", self.first_message)
        check_spoken("voicemail_message", self.voicemail_message)
        if self.on_machine_detection is not None:
            check_callback("on_machine_detection", self.on_machine_detection)
        timeout = self.ring_timeout
        if isinstance(timeout, bool) or not isinstance(timeout, int) or not 1 <= timeout <= MAX_RING_TIMEOUT_S:
            raise ConfigurationError(
                f"ring_timeout must be a whole number of seconds from 1 to {MAX_RING_TIMEOUT_S}, got {timeout!r}"
            )
        params = self.custom_params
        if not isinstance(params, Mapping) or not all(
            isinstance(name, str) and isinstance(value, str) for name, value in params.items()
        ):
            raise ConfigurationError(f"custom_params must be a dict of strings, got {params!r}")


@attrs.define(eq=False)
class PlacedCall:
    """The state of one call that we place."""

    request: CallRequest
    answering: Answering
    # In no log: it is one half of what makes a webhook about this call, the other is the signature.
    reference: str = attrs.field(factory=secrets.token_urlsafe, repr=False)
    info: CallInfo | None = None
    """The facts about the call; None while its id is not known."""
    control: CallControl | None = None
    taken_id: str = ""
    """The id in the answer to the request that placed the call."""
    request_id: str = ""
    is_hung_up: bool = False
    """True as soon as somebody asks the carrier to end the call."""
    outcome: str = ""
    """The outcome; empty while the call lives."""
    known: trio.Event = attrs.field(factory=trio.Event)
    """Set when the id is known, or the call is over."""
    settled: trio.Event = attrs.field(factory=trio.Event)
    """Set when somebody has answered, or the call is over."""
    talking: trio.Event = attrs.field(factory=trio.Event)
    """Set when both sides can talk, or the call is over."""
    greeting: trio.Event = attrs.field(factory=trio.Event)
    """Set when a machine has answered whose greeting is awaited."""
    left_message: trio.Event = attrs.field(factory=trio.Event)
    """Set when the message is said to a machine, or the call is ended because of it."""
    findings: list[MachineDetected] = attrs.field(factory=list)
    """The carrier's findings about who has answered, each once."""
    over: trio.Event = attrs.field(factory=trio.Event)
    released: trio.Event = attrs.field(factory=trio.Event)
    """Set when the call is over and no request about it is under way."""
    is_ending: bool = False
    is_answered: bool = False
    is_live: bool = False
    ringing: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """The wait for an answer."""
    running: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """The live call."""

    def take(self, dialled: Dialled) -> None:
        """Keep the ids in the carrier's answer."""
        self.taken_id, self.request_id = dialled.call_id, dialled.request_id

    def begin(self, info: CallInfo, control: CallControl) -> None:
        """Begin the call, because its id is known."""
        self.info, self.control = info, control
        self.known.set()

    def answer(self) -> None:
        """Note that somebody has answered."""
        self.is_answered = True
        self.settled.set()

    def go_live(self) -> None:
        """Note that the media stream has begun."""
        self.is_live = True
        # Some carriers open the stream without asking before.
        self.answer()

    def begin_end(self) -> None:
        """Note that we end the call, and not the carrier or its stream."""
        self.is_ending = True

    def claim_hang_up(self) -> bool:
        """Return True to the first who asks: that one asks the carrier to end the call."""
        first, self.is_hung_up = not self.is_hung_up, True
        return first

    def end(self, outcome: str) -> None:
        """Set the outcome and wake all who wait; a call ends once."""
        if not self.over.is_set():
            self.outcome = outcome
            for event in (self.known, self.settled, self.talking, self.over):
                event.set()
