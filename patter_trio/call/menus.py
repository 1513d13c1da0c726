"""The menu of one call: it speaks the prompt, acts on the caller's keys, and repeats the prompt after silence."""

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Never

import trio

from patter_trio.agent.agent import CHOICE_FAILED_MESSAGE, ERROR_MESSAGE
from patter_trio.agent.menu import DATA_KEY, Choice, Menu, called_by_key
from patter_trio.agent.transfer_tool import TransferTool
from patter_trio.call.control import CallControl
from patter_trio.call.limits import Limits
from patter_trio.errors import PatterError
from patter_trio.user_code import invoke
from patter_trio.user_code.signatures import name_of, parameters_of, positional

# Judged: a function that books or looks up something; the caller hears nothing meanwhile.
CHOICE_TIMEOUT_S: Final = 30.0
"""Seconds that the function of a choice may take."""
# Judged: nobody needs that many; they are of impatience.
MAX_WAITING_CHOICES: Final = 16
"""Choices that may wait for the one before; further ones are dropped."""

_log = logging.getLogger("patter_trio.events")


class MenuRunner:
    """Runs the menus of one call.

    Args:
        control: the control of the call.
        limits: knows since when both sides are silent.
    """

    def __init__(self, control: CallControl, limits: Limits) -> None:
        self._control = control
        self._limits = limits
        self._send, self._receive = trio.open_memory_channel[str](MAX_WAITING_CHOICES)
        self._path: list[Menu] = []
        """The menus that led to the present one, which is last."""
        self._error_message = ""

    def __repr__(self) -> str:
        return f"<MenuRunner of {self._control.call_id}, {len(self._path)} menus deep>"

    def choose(self, keys: str) -> None:
        """Take the keys that the caller has pressed; never waits."""
        try:
            self._send.send_nowait(keys)
        except trio.WouldBlock:
            _log.warning("call %s: a choice was dropped: the one before takes too long", self._control.call_id)

    async def run(self, menu: Menu, greeting: str, error_message: str) -> Never:
        """Begin with a menu, and go on until cancelled."""
        self._error_message = error_message
        # In one text with the prompt: a key that silences the greeting silences the prompt behind it, too.
        # Behind the notice that the call is recorded, and what on_call_start has said: nobody has chosen yet.
        self._enter(menu, greeting, interrupt=False)
        while True:
            keys = await self._next_choice()
            menu = self._path[-1]
            if keys in menu.choices:
                await self._follow(keys, menu.choices[keys])
            else:
                self._say(f"{menu.invalid} {menu.prompt}")

    def _enter(self, menu: Menu, before: str = "", *, interrupt: bool = True) -> None:
        self._path.append(menu)
        self._control.data[DATA_KEY] = menu
        self._say(f"{before} {menu.prompt}".lstrip(), interrupt=interrupt)

    def _say(self, text: str, *, interrupt: bool = True) -> None:
        # In place of what is being said: the caller has chosen, and has heard enough.
        if not self._control.ended:
            self._control.say(text, interrupt=interrupt)

    async def _next_choice(self) -> str:
        """Return the caller's next choice; repeat the prompt after silence meanwhile."""
        menu, turn, left = self._path[-1], self._control.turn_idx, self._path[-1].repeats
        asked = trio.current_time()
        while True:
            # After a word of the caller's, the conversation is with the agent.
            done = not left or self._control.turn_idx != turn
            with trio.CancelScope(deadline=math.inf if done else self._silent_until(menu, asked)):
                # A wait that is cancelled takes nothing, so that a key at the deadline is not lost.
                return await self._receive.receive()
            # Computed anew: somebody may have spoken meanwhile.
            if self._control.turn_idx == turn and self._silent_until(menu, asked) <= trio.current_time():
                left -= 1
                self._say(menu.prompt)
                asked = trio.current_time()

    def _silent_until(self, menu: Menu, asked: float) -> float:
        """Return when the silence will have lasted for long enough, if it goes on."""
        since = self._limits.silent_since
        # Silence from before the prompt does not count: the prompt may not be audible yet.
        return (trio.current_time() if since is None else max(since, asked)) + menu.repeat_after

    async def _follow(self, keys: str, choice: Choice) -> None:
        """Do what a choice leads to."""
        match choice:
            case None:
                # From the first menu, back to itself.
                del self._path[len(self._path) - 1 or 1 :]
                self._enter(self._path.pop())
            case str():
                self._say(choice)
            case Menu():
                self._enter(choice)
            case TransferTool():
                [to] = choice.destinations.values()
                await self._try(f"choice {keys}", partial(self._control.transfer, to, warm=choice.warm))
            case _:
                found = await self._try(f"choice {keys} ({name_of(choice)})", choice, *self._arguments(choice))
                if isinstance(found, Menu) or (isinstance(found, str) and found.strip()):
                    # As if it had been chosen: a function may lead to another menu, or say a text.
                    await self._follow(keys, found)
                elif found is not None and not isinstance(found, str):
                    self._fail(
                        f"choice {keys} ({name_of(choice)})", f"it must return a text, a Menu or None, got {found!r}"
                    )

    def _arguments(self, function: Callable[..., Any]) -> tuple[CallControl, ...]:
        return (self._control,) if positional(parameters_of(called_by_key(function))) else ()

    async def _try(self, name: str, function: Callable[..., Any], *arguments: object) -> Any:
        """Call a function, and return its result; tell the caller if it fails."""
        try:
            with trio.fail_after(CHOICE_TIMEOUT_S):
                return await invoke.call(function, *arguments)
        except (PatterError, trio.TooSlowError) as error:
            why = f"took longer than {CHOICE_TIMEOUT_S:g} s" if isinstance(error, trio.TooSlowError) else str(error)
            self._fail(name, why, error.__cause__)
            return None

    def _fail(self, name: str, why: str, cause: BaseException | None = None) -> None:
        """Log why a choice led nowhere, and tell the caller that something went wrong."""
        _log.warning("call %s: %s failed: %s", self._control.call_id, name, why, exc_info=cause)
        is_own = self._error_message != ERROR_MESSAGE
        self._say(self._error_message if is_own else f"{CHOICE_FAILED_MESSAGE} {self._path[-1].prompt}")
