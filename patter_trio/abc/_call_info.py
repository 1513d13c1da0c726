"""The facts about a call."""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import attrs

Direction = Literal["inbound", "outbound"]

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
