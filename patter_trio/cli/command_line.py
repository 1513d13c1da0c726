"""The parser of the command line: no abbreviation, each option once, and a suggestion for a misspelt one."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from patter_trio.cli.log_lines import FORMATS
from patter_trio.errors import did_you_mean

RECORDING_OPTION: Final = "--caller"
TUNNEL_OPTION: Final = "--tunnel"
LOG_OPTION: Final = "--log"
_PROGRAM_SUFFIX: Final = ".py"


class CommandParser(argparse.ArgumentParser):
    """A parser that reports each mistake with the usage of the command that it was made in.

    ``given`` in its result is the set of the options that were given (by :class:`Once`), whatever their values.
    """

    def __init__(self, **options: Any) -> None:
        # Without abbreviations: ``--call 3`` would otherwise be taken for ``--calls``, or for ``--caller``.
        super().__init__(allow_abbrev=False, **options)

    # The signature of the method that this one replaces has overloads, which matter to no caller here.
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments, and end the program if one of them is unknown."""
        # A command's own words: the main parser, which has the commands, gets them with the command in front.
        if self._subparsers is None:
            args = _program_first(args)
        parsed, unknown = super().parse_known_args(args, namespace)
        # Here and not in ``parse_args``, which only the main parser has: the usage of the command is what helps.
        if unknown:
            self.error(self._complaint(unknown))
        return parsed, unknown

    # argparse's own hook: its message about a wrong word lists the valid ones, and the hint comes behind.
    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            hint = did_you_mean(str(value), map(str, action.choices or ()))
            raise argparse.ArgumentError(action, f"{error.message}{hint}") from None

    def _complaint(self, unknown: Sequence[str]) -> str:
        # The options alone, if there are any: the words beside them are most likely their values.
        options = [word for word in unknown if word.startswith("-")]
        if not options:
            # The other commands take a program, so it is easily given to one that reads the call log.
            reads_log = LOG_OPTION in self._option_string_actions and unknown[0].endswith(_PROGRAM_SUFFIX)
            hint = f" (this command reads a call log, not a program; {LOG_OPTION} names it)" if reads_log else ""
            return f"unknown arguments: {' '.join(unknown)}{hint}"
        for option in options:
            if hint := did_you_mean(option.partition("=")[0], self._option_string_actions):
                return f"unknown option {option}{hint}"
        return f"unknown option {options[0]}"


def _program_first(arguments: Sequence[str]) -> list[str]:
    """Move programs that stand behind ``--caller`` or ``--tunnel`` to the front.

    The one option takes all words that follow it, and the other may have one: FILE would be taken for it.
    """
    programs: list[str] = []
    others: list[str] = []
    among = False
    for word in arguments:
        among = word in (RECORDING_OPTION, TUNNEL_OPTION) if word.startswith("-") else among
        (programs if among and word.endswith(_PROGRAM_SUFFIX) else others).append(word)
    return [*programs, *others]


class Once(argparse.Action):
    """An option that may be given once: with two values, one of them would be ignored in silence."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 (argparse passes it)
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002 (argparse passes it)
    ) -> None:
        """Store the value, and that it was given."""
        given: set[str] = vars(namespace).setdefault("given", set())
        if self.dest in given:
            raise argparse.ArgumentError(self, "may be given only once")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


def add_common(command: argparse.ArgumentParser, level: str) -> None:
    """Add what each command about a program takes: the log's level, by default ``level``, its format, and FILE."""
    add_log_options(command, level)
    command.add_argument("file", metavar="FILE", type=Path, help="the program with your phone and agent")


def add_log_options(command: argparse.ArgumentParser, level: str) -> None:
    """Add what each command takes: the log's level, by default ``level``, and its format."""
    command.add_argument(
        "--log-level",
        action=Once,
        default=level,
        choices=("debug", "info", "warning", "error"),
        help="least level to log; debug also shows the origin of a mistake (default: %(default)s)",
    )
    command.add_argument(
        "--log-format",
        action=Once,
        default=FORMATS[0],
        choices=FORMATS,
        help="text, or one JSON object for each line (default: %(default)s)",
    )


@attrs.frozen
class Step:
    """One turn of a simulated caller, which plays a recording, says a text, or presses keys."""

    recording: Path | None = None
    text: str = ""
    keys: str = ""


class _AddSteps(argparse.Action):
    """An option that adds to the list of the caller's steps, in the order of the command line."""

    def step(self, value: Any) -> Step:
        """Return the step for one value of the option."""
        raise NotImplementedError

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 (argparse passes it)
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002 (argparse passes it)
    ) -> None:
        """Add one step for each value."""
        added = map(self.step, values if isinstance(values, list) else [values])
        # A new list: the one that is there may be the default of the next command.
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or ()), *added])


class AddRecordings(_AddSteps):
    """The option whose values are recordings to play."""

    def step(self, value: Any) -> Step:
        """Return the step that plays this file."""
        return Step(recording=value)


class AddText(_AddSteps):
    """The option whose value is a text to say."""

    def step(self, value: Any) -> Step:
        """Return the step that says this text."""
        return Step(text=value)


class AddKeys(_AddSteps):
    """The option whose value are keys to press."""

    def step(self, value: Any) -> Step:
        """Return the step that presses these keys."""
        # As typed: a complaint about a key shows what stands on the command line.
        return Step(keys=value)
