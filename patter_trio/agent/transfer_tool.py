"""The tool with which an LLM transfers the caller to a person.

Callers can talk an LLM into anything. An LLM that may dial any number sooner or later dials an expensive one, at the
application's cost. So the application configures named destinations, and the LLM chooses one of the names. The LLM may
dial other numbers only if the application allows their prefixes.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from patter_trio.agent.tools import MAX_TIMEOUT_S, Tool
from patter_trio.agent.warm_transfer import WarmTransfer
from patter_trio.errors import ConfigurationError, TransferError
from patter_trio.phone_numbers import checked_destination, checked_number, is_number

# Above the default of 10 s, because it includes the speech before the transfer.
TOOL_TIMEOUT_S: Final = 20.0
"""Seconds for a transfer: the speech before it may take 10 s, the carrier's answer 5 s; the rest is a reserve."""
# Judged: 10 s for a function that makes the briefing, 10 s for the request to the carrier, 10 s for its reports.
WARM_RESERVE_S: Final = 30.0
"""Seconds for a warm transfer beyond those of the ring and of the decision."""
CONNECTING_RESULT: Final = "The caller is being connected."
DEFAULT_DESCRIPTION: Final = (
    "Connect the caller with somebody else, which ends your part of the call. Tell the caller so in the same answer, "
    "before calling this: nothing can be said after it."
)

WARM_DESCRIPTION: Final = (
    "Connect the caller with somebody else, who is called and asked first, while the caller is on hold. Tell the "
    "caller so in the same answer, before calling this. If nobody takes the call, the caller comes back to you."
)
BRIEFING_PROPERTY: Final = {
    "type": "string",
    "description": "What that person should know before taking the call, in one or two spoken sentences: who is "
    "calling, and about what.",
}

# E.164 without its minimum length; "+0" is not a country code.
_PREFIX: Final = re.compile(r"\+[1-9][0-9]{0,13}")


@attrs.frozen
class TransferTool(Tool):
    """The tool that :func:`transfer_call` makes, with the destinations that it knows."""

    destinations: Mapping[str, str] = attrs.field(factory=dict, kw_only=True, repr=False)
    """A number in E.164, or a SIP address, for each name."""
    warm: WarmTransfer | None = attrs.field(default=None, kw_only=True, repr=False)
    """The options of a warm transfer; None: a cold one."""


def checked_failure(given: object) -> TransferTool | None:
    """Return an agent's ``on_failure``.

    Raises:
        ConfigurationError: it is not a tool of :func:`transfer_call` with exactly one destination.
    """
    if given is None:
        return None
    # One: nobody is there to choose when the call fails.
    if not isinstance(given, TransferTool) or len(given.destinations) != 1:
        raise ConfigurationError(
            'on_failure must be transfer_call(...) with one destination, such as transfer_call({"desk": '
            '"+15550100003"}), '
            f"got {given!r}"
        )
    # A briefing is spoken by the providers that have just failed.
    if given.warm is not None:
        raise ConfigurationError(
            "on_failure must be a transfer_call(...) without warm=: a call that failed cannot brief"
        )
    return given


def transfer_call(
    destinations: Mapping[str, str] | None = None,
    *,
    prefixes: Sequence[str] = (),
    warm: WarmTransfer | None = None,
    error_message: str | None = None,
    name: str = "transfer_call",
    description: str | None = None,
) -> Tool:
    """Make the tool with which an LLM transfers the call, once its last words have been played.

    ::

        tools=[transfer_call({"billing": "+15550100003", "reception": "sip:reception@pbx.example.com"})]

    Args:
        destinations: a number in E.164, or a SIP address, for each name that the LLM may choose.
        prefixes: prefixes of other numbers that the LLM may dial, each with the country code: ``["+1415555"]``. A
            caller can talk the LLM into dialling any number with such a prefix.
        warm: the person is called, briefed and asked first, while the caller is on hold. If it has no ``briefing``, the
            LLM writes one. Destinations must be numbers.
        error_message: spoken to the caller if the transfer fails; None: the agent's, or that nobody can take the
            call.
        name: the name for the LLM.
        description: the description for the LLM; None: a general one.

    Raises:
        ConfigurationError: there is neither a destination nor a prefix, or one of them is invalid.
    """
    if warm is not None and not isinstance(warm, WarmTransfer):
        raise ConfigurationError(f"warm must be a WarmTransfer(...), got {warm!r}")
    if error_message is not None and not isinstance(error_message, str):
        raise ConfigurationError(f"error_message must be a string, or None for the agent's, got {error_message!r}")
    known = _checked(destinations)
    if warm is not None:
        known = {name: checked_number(to, f"destination {name} of a warm transfer") for name, to in known.items()}
    allowed = _checked_prefixes(prefixes)
    if not known and not allowed:
        raise ConfigurationError(
            'transfer_call must have destinations or prefixes, such as {"billing": "+15550100003"}; got neither'
        )

    # Beyond the schema, because "exactly one of two" and prefixes cannot be said in what all vendors understand.
    def wrong(arguments: Mapping[str, Any]) -> str:
        if ("destination" in arguments) == ("number" in arguments):
            return "give one of destination and number" if known and allowed else "give it one argument"
        if "number" in arguments and not _may_dial(arguments["number"], allowed):
            # Names what is allowed, so that the LLM can correct itself.
            return f"number must be in E.164, and begin with {' or '.join(allowed)}"
        return _why_impossible(arguments["number"]) if "number" in arguments else ""

    async def transfer(arguments: dict[str, Any], call_context: Any) -> str:
        to = known[arguments["destination"]] if "destination" in arguments else arguments["number"]
        how = warm if warm is None or warm.briefing else warm.with_briefing(arguments["briefing"])
        # Waited for, so that a refusal becomes the tool's result and the LLM can say so.
        try:
            await call_context.transfer(to, warm=how, error_message=error_message, wait=True)
        except TransferError as error:
            # No mistake of the LLM's: it goes on talking with the caller, and knows why.
            return f"{error}. The caller is with you again."
        return CONNECTING_RESULT

    schema = _schema(known, allowed, asks_for_briefing=warm is not None and not warm.briefing)
    seconds = TOOL_TIMEOUT_S
    if warm is not None:
        seconds = min(MAX_TIMEOUT_S, seconds + WARM_RESERVE_S + warm.longest)
    # ``after_speech``: the transfer ends the stream, and with it whatever has not been played.
    return TransferTool(
        name,
        description or (DEFAULT_DESCRIPTION if warm is None else WARM_DESCRIPTION),
        schema,
        transfer,
        timeout_s=seconds,
        after_speech=True,
        check=wrong,
        destinations=known,
        warm=warm,
    )


def _checked(destinations: Any) -> dict[str, str]:
    if destinations is None:
        return {}
    if not isinstance(destinations, Mapping):
        raise ConfigurationError(
            f'destinations must be a dict of numbers by name, like {{"billing": "+15550100003"}}, got {destinations!r}'
        )
    nameless = [name for name in destinations if not isinstance(name, str) or not name.strip()]
    if nameless:
        raise ConfigurationError(f"the name of a destination must be a string that is not blank, got {nameless[0]!r}")
    return {name: checked_destination(to) for name, to in destinations.items()}


def _checked_prefixes(prefixes: Any) -> tuple[str, ...]:
    if isinstance(prefixes, str) or not isinstance(prefixes, Sequence):
        raise ConfigurationError(f'prefixes must be a list such as ["+1415555"], got {prefixes!r}')
    for prefix in prefixes:
        if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
            raise ConfigurationError(f"a prefix must be + and a country code, such as +1415555, got {prefix!r}")
    return tuple(prefixes)


def _why_impossible(number: str) -> str:
    """Return why nobody can have the number that the LLM asks for; empty: somebody may have it."""
    try:
        checked_number(number, "number")
    except ConfigurationError as error:
        return str(error)
    return ""


def _may_dial(number: Any, allowed: tuple[str, ...]) -> bool:
    # WARNING: a whole number first. "+1415555" followed by text must not pass because of its beginning.
    return isinstance(number, str) and is_number(number) and number.startswith(allowed)


def _schema(known: Mapping[str, str], allowed: tuple[str, ...], *, asks_for_briefing: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    if known:
        # An enum of names: the LLM never sees the numbers, so it cannot say or change one.
        properties["destination"] = {"type": "string", "enum": list(known), "description": "Whom to connect with."}
    if allowed:
        begins = " or ".join(allowed)
        what = f"The number to connect with, in E.164: + and digits, no spaces. It must begin with {begins}."
        properties["number"] = {"type": "string", "description": what}
    # With both kinds none can be required: one of them is always absent.
    required = list(properties) if len(properties) == 1 else []
    if asks_for_briefing:
        properties["briefing"] = BRIEFING_PROPERTY
        required.append("briefing")
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
