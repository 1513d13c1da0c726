"""Menus: keys that lead to a text, a function, a person or another menu."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Union

import attrs

from patter_trio.agent.keypad import KEYS, Keypad
from patter_trio.agent.tools import Tool
from patter_trio.agent.transfer_tool import TransferTool
from patter_trio.errors import ConfigurationError
from patter_trio.providers.other_names import other_names
from patter_trio.user_code.signatures import takes_at_most_one

Choice = Union[str, Callable[..., Any], TransferTool, "Menu", None]
"""What a key leads to."""

INVALID_MESSAGE: Final = "That is not one of the choices."
# Judged: a caller who has understood presses within some seconds; one who has not wants to hear it again.
REPEAT_AFTER_S: Final = 6.0
MAX_REPEATS: Final = 2
DATA_KEY: Final = "menu"
"""The key of ``call_control.data`` under which the menu is that the caller is in."""


def called_by_key(choice: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that a choice calls: a tool such as ``end_call`` is that of its handler."""
    return choice.handler if isinstance(choice, Tool) and choice.handler is not None else choice


def _checked_choices(_: object, __: object, given: Any) -> None:
    if not isinstance(given, Mapping) or not given:
        raise ConfigurationError(f'choices must be a dict by keys, like {{"1": "We open at nine."}}, got {given!r}')
    for keys, choice in given.items():
        if not isinstance(keys, str) or not keys or not KEYS.issuperset(keys):
            raise ConfigurationError(f"a choice must have keys of 0-9, *, #, A-D, got {keys!r}")
        if isinstance(choice, TransferTool) and len(choice.destinations) != 1:
            raise ConfigurationError(f"choice {keys} must be a transfer_call(...) with one destination")
        if isinstance(choice, str) and not choice.strip():
            raise ConfigurationError(
                f"choice {keys} must have a text that is not blank; None leads back to the menu before"
            )
        if isinstance(choice, Tool) and not isinstance(choice, TransferTool) and choice.handler is None:
            raise ConfigurationError(f"choice {keys} must be a tool with a handler, got one with webhook_url=")
        # A menu and a transfer are callable, too, and are never called.
        if (
            callable(choice)
            and not isinstance(choice, Menu | TransferTool)
            and not takes_at_most_one(called_by_key(choice))
        ):
            raise ConfigurationError(f"choice {keys} must be a function of () or (call_control), got {choice!r}")
        if choice is not None and not isinstance(choice, str) and not callable(choice):
            raise ConfigurationError(
                f"choice {keys} must be a text, a function, a transfer_call(...), a Menu, or None, got {choice!r}"
            )


def _text(_: object, attribute: "attrs.Attribute[Any]", given: Any) -> None:
    if not isinstance(given, str) or not given.strip():
        raise ConfigurationError(f"{attribute.name} must be a text that is not blank, got {given!r}")


def _seconds(_: object, attribute: "attrs.Attribute[Any]", given: Any) -> None:
    if isinstance(given, bool) or not isinstance(given, int | float) or not given > 0:
        raise ConfigurationError(f"{attribute.name} must be a number of seconds above 0, got {given!r}")


def _count(_: object, attribute: "attrs.Attribute[Any]", given: Any) -> None:
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise ConfigurationError(f"{attribute.name} must be a whole number of at least 0, got {given!r}")


@other_names()
@attrs.frozen
class Menu:
    """A menu of a call: what each key leads to.

    ::

        menu = Menu(
            {"1": "We open at nine.", "2": book, "0": transfer_call({"desk": "+15550100003"})},
            prompt="Press 1 for our hours, 2 to book, 0 for the desk.",
        )

    ``phone.serve(agent, on_message=menu)`` makes it the whole agent; ``phone.agent(llm=..., dtmf=menu)`` puts it beside
    a model, which answers what the caller says. In a call, ``call_control.data["menu"]`` is the menu that the caller is
    in.

    Args:
        choices: by keys, such as ``"1"`` or ``"12"``: a text, which is spoken, a number, too; a function of ``()`` or
            ``(call_control)``, sync or async, whose text or menu is next; :data:`~patter_trio.end_call`; a
            ``transfer_call(...)`` with one destination; another menu; or None, which leads back to the menu before, and
            in the first menu to its prompt. If all keys have one digit, a choice is made at once; longer ones are
            complete after ``#`` or a pause of 2 s.
        prompt: spoken when the caller comes to the menu.
        invalid: spoken before the prompt when the caller has pressed keys that lead nowhere.
        repeat_after: seconds of silence after which the prompt is spoken again.
        repeats: number of times that it is repeated, unless the caller does something.

    Raises:
        ConfigurationError: an option has a wrong type or value.
    """

    choices: Mapping[str, Choice] = attrs.field(validator=_checked_choices)
    prompt: str = attrs.field(kw_only=True, validator=_text)
    invalid: str = attrs.field(default=INVALID_MESSAGE, kw_only=True, validator=_text)
    repeat_after: float = attrs.field(default=REPEAT_AFTER_S, kw_only=True, validator=_seconds)
    repeats: int = attrs.field(default=MAX_REPEATS, kw_only=True, validator=_count)

    def __call__(self, event: Mapping[str, Any], call_control: Any) -> str:  # noqa: ARG002 (the form of on_message)
        """Answer what a caller says instead of pressing a key: with the prompt of the menu that the caller is in."""
        menu = call_control.data.get(DATA_KEY, self)
        return menu.prompt if isinstance(menu, Menu) else self.prompt

    @property
    def keypad(self) -> Keypad:
        """The keypad of a call with this menu and those below it."""
        keys = [*self._keys()]
        # Ended by # unless that is a choice itself; one of the longest choices needs no end.
        return Keypad(terminator="" if any("#" in one for one in keys) else "#", max_digits=max(map(len, keys)))

    def _keys(self) -> set[str]:
        below = [choice._keys() for choice in self.choices.values() if isinstance(choice, Menu)]  # noqa: SLF001 (of the same class)
        return set(self.choices).union(*below)
