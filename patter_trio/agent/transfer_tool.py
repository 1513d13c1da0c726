"""The tool with which an LLM transfers the caller to a person.

Callers can talk an LLM into anything. An LLM that may dial any number sooner or later dials an expensive one, at the
application's cost. So the application configures named destinations, and the LLM chooses one of the names. The LLM may
dial other numbers only if the application allows their prefixes.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from patter_trio.agent.tools import Tool
from patter_trio.errors import ConfigurationError
from patter_trio.phone_numbers import checked_destination, is_number

# Above the default of 10 s, because it includes the speech before the transfer.
TOOL_TIMEOUT_S: Final = 20.0
"""Seconds for a transfer: the speech before it may take 10 s, the carrier's answer 5 s; the rest is a reserve."""
CONNECTING_RESULT: Final = "The caller is being connected."
DEFAULT_DESCRIPTION: Final = (
    "Connect the caller with somebody else, which ends your part of the call. Tell the caller so in the same answer, "
    "before calling this: nothing can be said after it."
)

# E.164 without its minimum length; "+0" is not a country code.
_PREFIX: Final = re.compile(r"\+[1-9][0-9]{0,13}")


@attrs.frozen
class TransferTool(Tool):
    """The tool that :func:`transfer_call` makes, with the destinations that it knows."""

    destinations: Mapping[str, str] = attrs.field(factory=dict, kw_only=True, repr=False)
    """A number in E.164, or a SIP address, for each name."""


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
    return given


def transfer_call(
    destinations: Mapping[str, str] | None = None,
    *,
    prefixes: Sequence[str] = (),
    error_message: str | None = None,
    name: str = "transfer_call",
    description: str = DEFAULT_DESCRIPTION,
) -> Tool:
    """Make the tool with which an LLM transfers the call, once its last words have been played.

    ::

        tools=[transfer_call({"billing": "+15550100003", "reception": "sip:reception@pbx.example.com"})]

    Args:
        destinations: a number in E.164, or a SIP address, for each name that the LLM may choose.
        prefixes: prefixes of other numbers that the LLM may dial, each with the country code: ``["+1415555"]``. A
            caller can talk the LLM into dialling any number with such a prefix.
        error_message: spoken to the caller if the transfer fails; None: the agent's.
        name: the name for the LLM.
        description: the description for the LLM.

    Raises:
        ConfigurationError: there is neither a destination nor a prefix, or one of them is invalid.
    """
    known = _checked(destinations)
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
        return ""

    async def transfer(arguments: dict[str, Any], call_context: Any) -> str:
        to = known[arguments["destination"]] if "destination" in arguments else arguments["number"]
        # Waited for, so that a refusal of the carrier becomes the tool's result and the LLM can say so.
        await call_context.transfer(to, error_message=error_message, wait=True)
        return CONNECTING_RESULT

    schema = _schema(known, allowed)
    # ``after_speech``: the transfer ends the stream, and with it whatever has not been played.
    return TransferTool(
        name,
        description,
        schema,
        transfer,
        timeout_s=TOOL_TIMEOUT_S,
        after_speech=True,
        check=wrong,
        destinations=known,
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


def _may_dial(number: Any, allowed: tuple[str, ...]) -> bool:
    # WARNING: a whole number first. "+1415555" followed by text must not pass because of its beginning.
    return isinstance(number, str) and is_number(number) and number.startswith(allowed)


def _schema(known: Mapping[str, str], allowed: tuple[str, ...]) -> dict[str, Any]:
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
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
