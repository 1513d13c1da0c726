"""Menus of other people: a tool that presses keys, and reports of menus that repeat themselves and of silence."""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import trio

from patter_trio.agent.tools import Tool
from patter_trio.call.control import CallControl
from patter_trio.conversation.digits import checked_digits
from patter_trio.conversation.repetition import Repetitions
from patter_trio.errors import CallEnded, ConfigurationError, PatterError
from patter_trio.events.bus import EventBus
from patter_trio.events.kinds import PatterEventType
from patter_trio.logs import shown_value
from patter_trio.providers.other_names import other_names
from patter_trio.user_code import invoke
from patter_trio.user_code.signatures import name_of, parameters_of, positional, takes_at_most_one

# The default of getpatter's class of this name.
MAX_SILENCE_S: Final = 5.0
# Judged: the event follows the outcome at once; a call that still rings down its tasks has ended a second later.
END_TIMEOUT_S: Final = 2.0
"""Seconds after the end of a call in which the bus must report it."""
LOOP_MESSAGE: Final = "[You have heard this menu before. Press another key, say what you want, or hang up.]"
SILENCE_MESSAGE: Final = "[Nobody has spoken for {seconds:g} seconds. Press a key, say something, or wait.]"
PRESSED_RESULT: Final = "The keys were pressed."

Report = Callable[..., Any]
"""A function of ``()`` or ``(call_control)``, sync or async."""

_log = logging.getLogger("patter_trio.events")


async def _press(arguments: dict[str, Any], call_context: Any) -> str:
    await call_context.send_dtmf(arguments["digits"])
    return PRESSED_RESULT


def _wrong(arguments: Mapping[str, Any]) -> str:
    try:
        checked_digits(arguments["digits"])
    except ConfigurationError as error:
        return str(error)
    return ""


press_keys: Final = Tool(
    "press_keys",
    "Press keys of the telephone, to choose from a menu that you hear or to enter a number. Wait until the menu has "
    "named its choices. The keys are 0-9, * and #; w is a pause of half a second, W one of a second.",
    {
        "type": "object",
        "properties": {"digits": {"type": "string", "description": "The keys in their order, such as 1 or 4711#."}},
        "required": ["digits"],
        "additionalProperties": False,
    },
    _press,
    # The model is not asked again before the menu has answered: what it said about its keys would be spoken to a
    # machine.
    after_speech=True,
    check=_wrong,
)
"""The tool with which a model presses keys, for ``phone.agent(tools=[press_keys])``."""


@other_names()
class IVRActivity:
    """The watch over a call in which an agent goes through the menus of somebody else.

    ::

        async with phone.dial("+15550100009", agent) as call, trio.open_nursery() as nursery:
            await call.answered()
            nursery.start_soon(IVRActivity(call.control).run, phone.events)
            await call.ended()

    The agent needs :data:`press_keys` among its tools.

    Args:
        call_control: the control of the call.
        max_silence_duration: seconds without speech from either side that are reported; each further such silence is,
            too.
        loop_detector: report announcements that are heard again.
        on_loop_detected: called, with the control if it takes an argument, when an announcement is heard again; None:
            the model gets a message about it.
        on_silence: the same for silence.

    Raises:
        ConfigurationError: an option has a wrong type or value.
    """

    def __init__(
        self,
        call_control: CallControl,
        *,
        max_silence_duration: float = MAX_SILENCE_S,
        loop_detector: bool = True,
        on_loop_detected: Report | None = None,
        on_silence: Report | None = None,
    ) -> None:
        if not isinstance(call_control, CallControl):
            raise ConfigurationError(f"call_control must be a CallControl, got {shown_value(call_control)}")
        seconds = max_silence_duration
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
            raise ConfigurationError(f"max_silence_duration must be a number of seconds above 0, got {seconds!r}")
        for name, report in (("on_loop_detected", on_loop_detected), ("on_silence", on_silence)):
            if report is not None and not (callable(report) and takes_at_most_one(report)):
                raise ConfigurationError(
                    f"{name} must be a function of () or (call_control), got {shown_value(report)}"
                )
        self._control = call_control
        self._max_silence = float(seconds)
        self._silence_message = SILENCE_MESSAGE.format(seconds=self._max_silence)
        self._repetitions = Repetitions() if loop_detector else None
        self._on_loop_detected = on_loop_detected
        self._on_silence = on_silence

    def __repr__(self) -> str:
        return f"<IVRActivity of {self._control.call_id}>"

    @property
    def tools(self) -> list[Tool]:
        """The tools that the agent needs; :data:`press_keys` is the one."""
        return [press_keys]

    async def run(self, events: EventBus) -> None:
        """Watch until the call is over.

        Args:
            events: the bus of the call's phone: ``phone.events``.

        Raises:
            ConfigurationError: ``events`` is not a bus, or is that of another phone; the latter is noticed at the
                end of the call.
        """
        if not isinstance(events, EventBus):
            raise ConfigurationError(f"events must be the bus of the call's phone, phone.events, got {events!r}")
        is_told = False
        async with (
            events.subscribe(PatterEventType.CALL_ENDED, scope="all") as ends,
            events.subscribe(PatterEventType.TRANSCRIPT_FINAL, scope="all") as transcripts,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._listen, transcripts)
            nursery.start_soon(self._watch_silence, nursery.cancel_scope)
            # Subscribed before the check, so that an end in between is not missed.
            while not self._control.outcome:
                event = await ends.receive()
                if event["call_id"] == self._control.call_id:
                    break
            is_told = True
            nursery.cancel_scope.cancel(reason="the call is over")
        if not is_told:
            raise ConfigurationError(
                "events must be the bus of the phone that has the call: the call has ended, and no event has said so"
            )

    async def on_user_transcribed(self, text: str) -> None:
        """Take what the other side has said; :meth:`run` does so by itself."""
        # Our own messages are among the user's, and would be heard again, too.
        for message in (LOOP_MESSAGE, self._silence_message):
            text = text.replace(message, "")
        if self._repetitions is not None and self._repetitions.hear(text):
            _log.info("call %s: an announcement was heard again", self._control.call_id)
            await self._report(self._on_loop_detected, LOOP_MESSAGE)

    async def _listen(self, transcripts: trio.MemoryReceiveChannel[dict[str, Any]]) -> None:
        async for event in transcripts:
            # What is revised was heard before.
            if event["call_id"] == self._control.call_id and event["role"] == "user" and "revises" not in event:
                await self.on_user_transcribed(event["text"])

    async def _watch_silence(self, watch: trio.CancelScope) -> None:
        """Report silences; end the watch if no event says that the call is over."""
        reported = -math.inf
        while not self._control.outcome:
            now = trio.current_time()
            # A silence that was reported counts anew from then on.
            since = max(now - self._control.silence, reported)
            if now - since >= self._max_silence - 1e-6:
                reported = now
                await self._report(self._on_silence, self._silence_message)
            else:
                # Silence that begins meanwhile needs the whole time from then on.
                await trio.sleep(self._max_silence - (now - since))
        # The event of the end usually comes first, and cancels this wait. A bus of another phone never has it.
        await trio.sleep(END_TIMEOUT_S)
        watch.cancel(reason="the call is over, and its phone has another bus")

    async def _report(self, report: Report | None, message: str) -> None:
        try:
            if report is None:
                self._control.send_text(message)
            else:
                await invoke.call(report, *((self._control,) if positional(parameters_of(report)) else ()))
        except CallEnded:
            pass  # run() learns of it by the event
        except PatterError as error:
            name = "a report to the model" if report is None else name_of(report)
            _log.warning("call %s: %s failed: %s", self._control.call_id, name, error, exc_info=error.__cause__)
