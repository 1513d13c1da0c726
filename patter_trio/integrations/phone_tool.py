"""The phone as a tool of another agent, which calls somebody with a goal and gets the conversation as the result.

::

    tool = PatterTool(phone, agent, allowed=["+15550100003", "+4930*"])
    tools=[tool.openai_schema()]                      # of a request to a model of your own
    answer = await tool.answer(call.arguments)        # the JSON for that model
    phone.agent("...", llm=llm, tools=[tool])         # or: the tool of an agent that is on the phone itself
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from patter_trio.agent.agent import Agent
from patter_trio.agent.tools import MAX_TIMEOUT_S, Tool
from patter_trio.errors import ConfigurationError, PatterError
from patter_trio.phone import Patter
from patter_trio.phone_numbers import checked_number, is_number
from patter_trio.providers.other_names import other_names
from patter_trio.server.outbound_call import OutboundCall
from patter_trio.server.placed import WhoAnswers, checked_detection

# getpatter's limits (https://pypi.org/project/getpatter/).
DEFAULT_DURATION_S: Final = 180
MIN_DURATION_S: Final = 5
MAX_DURATION_S: Final = 1800
# Ringing for 25 s and what carriers add, the carrier's answer, and 10 s for the last speech.
AROUND_CALL_S: Final = 60.0
"""Seconds that a call may take besides its conversation, as the tool of an agent."""
# Judged: several sentences. A longer text is one that the model copies from elsewhere.
MAX_TEXT_CHARACTERS: Final = 2000
"""Longest goal or first message, in characters."""

DEFAULT_DESCRIPTION: Final = (
    "Call a person on the phone and have a conversation to reach a goal. The result, after the call has ended, has how "
    "it ended, its duration, and the words of both sides. Use it only if the user wants somebody to be called."
)
# At most 14 digits: the star stands for one at least of the 15 that E.164 allows.
_PREFIX: Final = re.compile(r"\+[1-9][0-9]{0,13}\*")


@other_names()
@attrs.frozen(init=False)
class PatterTool(Tool):
    """A tool with which an LLM calls somebody; it returns when the call is over.

    It is a :class:`~patter_trio.Tool`, so it can stand in ``tools=`` of an agent, where a call and the waiting for it
    take 600 s at most. Other programs use :meth:`openai_schema` or :meth:`anthropic_schema`, and :meth:`answer`. The
    phone must be served. A cancelled tool hangs up.

    Args:
        phone: the phone that calls.
        agent: the agent that talks, or a dict of its options.
        name: the name for the LLM.
        description: the purpose of the tool and when to call it.
        max_duration_sec: seconds after which a call is ended, from 5 to 1800. The LLM may ask for less.
        allowed: the numbers that may be called, E.164; one that ends with ``*`` stands for all with that prefix, such
            as ``+4930*``. None: any number, and then a person who talks to the LLM can have it call expensive numbers
            at your cost.
        machine_detection: True: ask the carrier who answers, for which some charge; ``"acoustic"``: find out by the
            sound of the line. A machine is hung up, or hears the ``voicemail_message`` of
            :meth:`~patter_trio.Patter.serve`, and the outcome is ``voicemail``. False: the agent talks to machines,
            too.

    Raises:
        ConfigurationError: an argument has a wrong type or value.
    """

    _phone: Patter = attrs.field(kw_only=True, repr=False, eq=False)
    _agent: Agent = attrs.field(kw_only=True, repr=False, eq=False)
    max_duration_sec: int = attrs.field(kw_only=True)
    """Seconds after which a call is ended."""
    allowed: tuple[str, ...] | None = attrs.field(kw_only=True, repr=False)
    """The numbers and prefixes that may be called; None: any number."""
    machine_detection: WhoAnswers = attrs.field(kw_only=True)
    """The detection of answering machines, as for ``Patter.call``. A machine is hung up, or hears the
    ``voicemail_message`` of the server."""

    def __init__(
        self,
        phone: Patter,
        agent: Agent | Mapping[str, Any],
        name: str = "make_phone_call",
        description: str = DEFAULT_DESCRIPTION,
        max_duration_sec: int = DEFAULT_DURATION_S,
        *,
        allowed: Iterable[str] | None = None,
        machine_detection: WhoAnswers = True,
    ) -> None:
        if not isinstance(phone, Patter):
            raise ConfigurationError(f"phone must be a Patter, got {phone!r}")
        seconds = max_duration_sec
        whole = isinstance(seconds, int) and not isinstance(seconds, bool)
        if not whole or not MIN_DURATION_S <= seconds <= MAX_DURATION_S:
            raise ConfigurationError(
                f"max_duration_sec must be a whole number of seconds from {MIN_DURATION_S} to {MAX_DURATION_S}, "
                f"got {seconds!r}"
            )
        self.__attrs_init__(
            name=name,
            description=description,
            parameters=_parameters(seconds),
            handler=self._call_for_llm,
            timeout_s=min(MAX_TIMEOUT_S, seconds + AROUND_CALL_S),
            phone=phone,
            agent=_agent_of(phone, agent),
            max_duration_sec=seconds,
            allowed=_allowed_of(allowed),
            machine_detection=checked_detection(machine_detection),
        )

    def openai_schema(self) -> dict[str, Any]:
        """Return the tool as an entry of ``tools`` in OpenAI's Chat Completions."""
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": dict(self.parameters)},
        }

    def anthropic_schema(self) -> dict[str, Any]:
        """Return the tool as an entry of ``tools`` in Anthropic's Messages."""
        return {"name": self.name, "description": self.description, "input_schema": dict(self.parameters)}

    async def execute(
        self, to: str, goal: str | None = None, first_message: str | None = None, max_duration_sec: int | None = None
    ) -> dict[str, Any]:
        """Call a number, and return when the call is over; if this is cancelled, the call ends at once.

        Args:
            to: the number, E.164.
            goal: what the agent should reach, added to its ``system_prompt``.
            first_message: what the agent says first, instead of its own.
            max_duration_sec: seconds after which the call is ended, from 5 on; at most the tool's own are used.

        Returns:
            A dict that is JSON: ``call_id``; ``status``, the outcome of the call as of ``OutboundCall.ended``;
            ``duration_seconds`` of the conversation, 0 without one; ``transcript``, a list of ``role``, ``text`` and
            ``timestamp``, the newest 200; and ``cost_usd``, None if it is unknown.

        Raises:
            ConfigurationError: the number is not allowed or cannot be dialled, another argument has a wrong type or
                value, or no server of the phone is running.
            PatterError: the carrier did not take the call.
        """
        self._check_number(to)
        goal, first_message = _checked_text("goal", goal), _checked_text("first_message", first_message)
        agent = attrs.evolve(
            self._agent,
            system_prompt=_prompt(self._agent.system_prompt, goal),
            max_call_duration=self._duration(max_duration_sec),
        )
        # The phone has loaded the models of the agent that it serves, which may be others.
        await self._agent.prewarm()
        # dial, not call: a program that gives up the wait for the result must not leave somebody on the line.
        async with self._phone.dial(to, agent, first_message, machine_detection=self.machine_detection) as call:
            await call.ended()
        return _result(call)

    async def answer(self, arguments: str | Mapping[str, Any]) -> str:
        """Return the JSON of the result for the arguments of a model, or ``{"error": ...}`` with the reason for it.

        Args:
            arguments: the model's arguments: OpenAI's JSON text, or Anthropic's dict.
        """
        try:
            given = json.loads(arguments) if isinstance(arguments, str) else arguments
        except ValueError as error:
            return json.dumps({"error": f"the arguments must be JSON: {error}"})
        known = self.parameters["properties"].keys()
        if not isinstance(given, Mapping) or "to" not in given or given.keys() - known:
            return json.dumps({"error": f"the arguments must be an object with to, and of {', '.join(known)}"})
        return json.dumps(await self._call_for_llm(**given))

    async def _call_for_llm(
        self, to: str, goal: str | None = None, first_message: str | None = None, max_duration_sec: int | None = None
    ) -> dict[str, Any]:
        """Return what :meth:`execute` returns, or its error as a result, from which the model learns the reason."""
        try:
            return await self.execute(to, goal, first_message, max_duration_sec)
        except PatterError as error:
            return {"error": str(error)}

    def _check_number(self, to: Any) -> None:
        number = checked_number(to, "to")
        if self.allowed is not None and not any(
            number.startswith(entry[:-1]) if entry.endswith("*") else number == entry for entry in self.allowed
        ):
            # Without the list: the model may tell it to the person who talks to it.
            raise ConfigurationError(f"to must be one of the numbers that {self.name} may call, got {number}")

    def _duration(self, asked: Any) -> float:
        if asked is not None and (isinstance(asked, bool) or not isinstance(asked, int) or asked < MIN_DURATION_S):
            raise ConfigurationError(
                f"max_duration_sec must be a whole number of seconds from {MIN_DURATION_S} on, got {asked!r}"
            )
        limits = (self.max_duration_sec, asked, self._agent.max_call_duration)
        return float(min(limit for limit in limits if limit is not None))


def _parameters(max_duration_sec: int) -> dict[str, Any]:
    """Return the JSON Schema of the arguments; the names are those of getpatter's tool."""
    return {
        "type": "object",
        "properties": {
            "to": {"type": "string", "description": "The number to call, in E.164, such as +15550100003."},
            "goal": {"type": "string", "description": "What the call should reach, with all that is needed for it."},
            "first_message": {"type": "string", "description": "The first words to the person who answers."},
            "max_duration_sec": {
                "type": "integer",
                "description": f"Seconds after which the call is ended; {max_duration_sec} if left out.",
                "minimum": MIN_DURATION_S,
                "maximum": max_duration_sec,
            },
        },
        "required": ["to"],
        "additionalProperties": False,
    }


def _agent_of(phone: Patter, given: Any) -> Agent:
    if isinstance(given, Mapping):
        given = phone.agent(**{"system_prompt": "", **given})
    if not isinstance(given, Agent):
        raise ConfigurationError(f"agent must be an Agent such as phone.agent(...) returns, or a dict, got {given!r}")
    # The default providers are made once, not for each call.
    return given.resolved


def _allowed_of(given: Any) -> tuple[str, ...] | None:
    if given is None:
        return None
    # A text is an iterable of texts, too.
    entries = () if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
    if not entries or not all(
        isinstance(entry, str) and (is_number(entry) or _PREFIX.fullmatch(entry)) for entry in entries
    ):
        raise ConfigurationError(
            'allowed must be a list of at least one E.164 number, or prefix such as "+4930*"; left out, any number may '
            f"be called; got {given!r}"
        )
    return entries


def _checked_text(name: str, text: Any) -> str:
    if text is None:
        return ""
    if not isinstance(text, str) or len(text) > MAX_TEXT_CHARACTERS:
        raise ConfigurationError(f"{name} must be a text of at most {MAX_TEXT_CHARACTERS} characters, got {text!r:.80}")
    return text


def _prompt(own: str, goal: str) -> str:
    # Added, not instead: the rules of the application hold for each call, whatever goal a model thinks of.
    return "\n\n".join(part for part in (own, f"The goal of this call: {goal}" if goal else "") if part)


def _result(call: OutboundCall) -> dict[str, Any]:
    metrics = call.control.metrics
    return {
        "call_id": call.call_id,
        "status": call.outcome,
        "duration_seconds": 0.0 if metrics is None else round(metrics.duration_seconds, 3),
        "transcript": [
            {"role": entry["role"], "text": entry["text"], "timestamp": entry["timestamp"]}
            for entry in call.control.history
        ],
        "cost_usd": None if metrics is None else metrics.cost.total,
    }
