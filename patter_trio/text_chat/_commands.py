"""The meaning of a line that somebody types in a call in text. Pure."""

from typing import Final

import attrs

from patter_trio.agent.keypad import KEYS
from patter_trio.errors import did_you_mean

# Judged: a page of text. A paste of a whole book would cost a fortune at an LLM.
MAX_LINE_CHARACTERS: Final = 10_000
"""Longest line that a caller may type, in characters."""

COMMANDS: Final = {
    "/press": "press keys: /press 1#",
    "/hang": "hang up",
    "/state": "show whose turn it is, the turn's number and the cost so far",
    "/help": "show these commands",
}
"""The commands, and what they do."""


@attrs.frozen
class SayLine:
    """A text that the caller says."""

    text: str


@attrs.frozen
class PressKeys:
    """Keys that the caller presses."""

    keys: str


@attrs.frozen
class HangUpNow:
    """The caller hangs up."""


@attrs.frozen
class ShowState:
    """The person at the keyboard asks for the state of the call."""


@attrs.frozen
class ShowHelp:
    """The person at the keyboard asks for the commands."""


@attrs.frozen
class Mistake:
    """A line that means nothing.

    Attributes:
        why: what must hold, for the person at the keyboard.
    """

    why: str


Command = SayLine | PressKeys | HangUpNow | ShowState | ShowHelp | Mistake


def keys_problem(keys: str) -> str:
    """Return why a caller cannot press these keys; empty if they are keys of a telephone."""
    if not keys:
        return "/press must have keys, as in /press 1#"
    wrong = [key for key in keys if key.upper() not in KEYS]
    return f"keys must be those of a telephone (0-9, *, #, A-D), got {wrong[0]!r}" if wrong else ""


def command_of(line: str) -> Command | None:
    """Return what a line means; None for a blank one.

    A line that begins with ``//`` says a text that begins with ``/``.
    """
    text = " ".join(line.split())
    if not text:
        return None
    if len(text) > MAX_LINE_CHARACTERS:
        return Mistake(f"a line must have at most {MAX_LINE_CHARACTERS} characters, got {len(text)}")
    if text.startswith("//"):
        return SayLine(text[1:])
    if not text.startswith("/"):
        return SayLine(text)
    word, _, value = text.partition(" ")
    match word:
        case "/press":
            keys = value.replace(" ", "").upper()
            return Mistake(problem) if (problem := keys_problem(keys)) else PressKeys(keys)
        case "/hang" | "/hangup" | "/quit" | "/exit":
            return HangUpNow()
        case "/state":
            return ShowState()
        case "/help":
            return ShowHelp()
    hint = did_you_mean(word, COMMANDS)
    return Mistake(f"a command must be one of {', '.join(COMMANDS)}, got {word}{hint} (// says a text that begins so)")
