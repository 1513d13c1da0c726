"""Command ``patter-trio test``: hold a call with the agent by keyboard, without carrier, voice and their accounts."""

import argparse
import codecs
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from typing import Any, Final, TextIO, cast

import attrs
import trio

from patter_trio.abc import EventRecord
from patter_trio.cli.caller import add_caller_number
from patter_trio.cli.chat_view import Beside, ChatView, JsonView, TerminalView
from patter_trio.cli.command_line import AddKeys, AddText, Step
from patter_trio.cli.interrupts import is_interruptible
from patter_trio.cli.stand_ins import carrier_credentials, voice_keys
from patter_trio.defaults import standing_in
from patter_trio.errors import CallEnded, ConfigurationError
from patter_trio.phone_numbers import is_number
from patter_trio.program import Program, load
from patter_trio.text_chat import TextCall
from patter_trio.text_chat._commands import (
    COMMANDS,
    MAX_LINE_CHARACTERS,
    Mistake,
    PressKeys,
    SayLine,
    ShowHelp,
    ShowState,
    command_of,
    keys_problem,
)
from patter_trio.text_chat._providers import NoSpeech, Shown

# Judged: many lines of a person's; what a pipe brings beyond it waits for the next read.
READ_BYTES: Final = 4096
"""Bytes that are read from the keyboard at once."""

_EPILOG: Final = """
What you type is what the caller says. A line while the agent speaks interrupts it. Lines that begin with a slash:

{commands}

  patter-trio test examples/front_desk.py
  patter-trio test bakery.py --say "When do you open?" --say "Bye."
  patter-trio test bakery.py --press 1# --json | jq -r 'select(.type == "transcript_final").data.text'
  echo "When do you open?" | patter-trio test bakery.py

The LLM, on_message or the engine is the real one and needs its key; carrier, STT and TTS need none. Tools, hooks,
guardrails and callbacks run as in a call by telephone; those of speech edges are not called. Transfers, DTMF and calls
to others are shown and not made.
Exit status: 0 the call went well; 1 a reply failed, the call failed, it was over before everything was said, or a line
of a pipe meant nothing; 2 a mistake in the command or in FILE; 130 a script was stopped by Ctrl-C.
"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "test",
        help="talk to the agent by keyboard",
        description="Hold a call with the agent in FILE by keyboard, in this terminal. With --say or --press\n"
        "the caller says and presses these in the order of the command line, each when the agent\n"
        "has answered, and hangs up.",
        epilog=_EPILOG.format(commands="\n".join(f"  {name:<8}{what}" for name, what in COMMANDS.items())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--say", dest="steps", action=AddText, metavar="TEXT", help="the caller says this")
    parser.add_argument(
        "--press", dest="steps", action=AddKeys, metavar="KEYS", help="the caller presses these keys, as in 1#"
    )
    add_caller_number(parser)
    parser.add_argument(
        "--json", action="store_true", help="write one JSON object in a line for each event, for machines"
    )
    parser.set_defaults(command=run)
    return parser


def run(options: argparse.Namespace) -> int:
    """Run the command; return 0 if the call went well, 1 if not."""
    steps: tuple[Step, ...] = tuple(options.steps or ())
    _check(steps, options.number)
    out = sys.stdout
    # What the program prints must not stand between the objects.
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        with standing_in(NoSpeech(), Shown()):
            program = load(options.file, {**carrier_credentials(), **voice_keys()})
        if not isinstance(program, Program):
            raise ConfigurationError(f"{options.file} must have a `phone` and an `agent` at its top level to be tested")
        chat = _Chat(program, steps, options.number, out, is_json=options.json)
        return trio.run(chat.run, restrict_keyboard_interrupt_to_checkpoints=True)


def _check(steps: Sequence[Step], number: str) -> None:
    if number and not is_number(number):
        raise ConfigurationError(f"--from must be a number in E.164 such as +15550100003, got {number!r}")
    for step in steps:
        if step.keys and (problem := keys_problem(step.keys)):
            raise ConfigurationError(f"--press: {problem}")
        if not step.keys and not step.text.strip():
            raise ConfigurationError(f"--say and --press must have a text and keys, got {step.text!r}")
        if len(step.text) > MAX_LINE_CHARACTERS:
            raise ConfigurationError(f"--say must have at most {MAX_LINE_CHARACTERS} characters, got {len(step.text)}")


@attrs.define(eq=False)
class _Chat:
    """One conversation, from the command line or by keyboard."""

    program: Program
    steps: tuple[Step, ...]
    number: str
    out: TextIO
    is_json: bool = attrs.field(kw_only=True)
    is_stopped: bool = attrs.field(default=False, init=False)
    """True from Ctrl-C on."""
    failure: str = attrs.field(default="", init=False)
    """The first reason why the call did not go well."""
    is_read: bool = attrs.field(default=True, init=False)
    """False once nobody reads the output."""

    @property
    def by_keyboard(self) -> bool:
        """True if a person types at a terminal."""
        return not self.steps and sys.stdin is not None and sys.stdin.isatty()

    async def run(self) -> int:
        """Hold the call; return the exit status."""
        view: ChatView = JsonView(self.out) if self.is_json else self._terminal()
        # The log, and what the program prints, would stand within the agent's line.
        with _beside(view):
            return await self._hold(view)

    async def _hold(self, view: ChatView) -> int:
        phone, agent, callbacks = self.program.phone, self.program.agent, self.program.callbacks
        async with phone.text_call(agent, caller=self.number, **callbacks) as call, trio.open_nursery() as beside:
            if is_interruptible():
                # ``start``: Ctrl-C from here on hangs up.
                await beside.start(self._stop, call)
            # Inside the block of the call, which both tasks use.
            beside.start_soon(self._talk, call, view)
            async for event in call:
                self._judge(event)
                self._show(view, event, call)
            # Also the task that waits for the keyboard: nobody answers any more.
            beside.cancel_scope.cancel(reason="the call is over")
        return self._status()

    def _terminal(self) -> TerminalView:
        if reconfigure := getattr(self.out, "reconfigure", None):
            # A terminal without the characters of a language shows others in their place.
            reconfigure(errors="replace")
        view = TerminalView(self.out, prompts=self.by_keyboard and self.out.isatty())
        if self.by_keyboard:
            name = self.program.path.name
            view.note(f"{name}: type what the caller says. /help shows the commands, Ctrl-D hangs up.")
        return view

    def _status(self) -> int:
        if not self.is_read:
            return 1
        # For a person at the keyboard, Ctrl-C is a way to hang up.
        if self.is_stopped and not self.by_keyboard:
            raise KeyboardInterrupt
        if self.failure:
            print(f"FAILED: {self.failure}", file=sys.stderr)
        return int(bool(self.failure))

    def _judge(self, event: EventRecord) -> None:
        why = ""
        if event["type"] == "reply_failed":
            why = f"a reply failed: {event['data']['reason']}"
        elif event["type"] == "call_ended":
            why = event["data"].get("error", "the call failed" if event["data"]["outcome"] == "failed" else "")
        self._fail(why)

    def _fail(self, why: str) -> None:
        self.failure = self.failure or why

    def _show(self, view: ChatView, event: EventRecord, call: TextCall) -> None:
        if not self.is_read:
            return
        try:
            view.event(event)
        except BrokenPipeError:
            self._lose_reader()
            call.hang_up()

    def _lose_reader(self) -> None:
        self.is_read = False
        # What the program prints, and Python flushes at its end, would otherwise fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.out.fileno())

    async def _stop(self, call: TextCall, *, task_status: trio.TaskStatus[None]) -> None:
        """Hang up at the first Ctrl-C; the second one ends the command at once."""
        with trio.open_signal_receiver(signal.SIGINT) as interrupts:
            task_status.started()
            async for _ in interrupts:
                if self.is_stopped:
                    raise KeyboardInterrupt
                self.is_stopped = True
                call.hang_up()

    # The caller -------------------------------------------------------------------------------------------------------
    async def _talk(self, call: TextCall, view: ChatView) -> None:
        """Say everything, and hang up."""
        try:
            if self.steps:
                await self._by_script(call, view)
            elif self.by_keyboard:
                await self._by_keyboard(call, view)
            else:
                await self._by_pipe(call, view)
        except CallEnded:
            return  # the events say why
        except BrokenPipeError:
            self._lose_reader()
        call.hang_up()

    async def _by_script(self, call: TextCall, view: ChatView) -> None:
        await call.settled()
        for step in self.steps:
            what = step.text or f"/press {step.keys}"
            if call.is_over:
                self._fail(f"the call was over before the caller could say {what!r}")
                return
            view.caller(what)
            if step.keys:
                await call.press(step.keys)
            else:
                call.say(step.text)
            await call.settled()

    async def _by_keyboard(self, call: TextCall, view: ChatView) -> None:
        async for line in _lines():
            view.typed(line)
            await self._line(call, view, line)

    async def _by_pipe(self, call: TextCall, view: ChatView) -> None:
        await call.settled()
        async for line in _lines():
            match command_of(line):
                case SayLine() | PressKeys() if call.is_over:
                    self._fail(f"the call was over before the caller could say {_begin_of(line)!r}")
                    return
                case SayLine() | PressKeys():
                    view.caller(line)
                # Not only a note, as for a person at the keyboard: the script would pass for a good one.
                case Mistake(why):
                    self._fail(why)
            await self._line(call, view, line)
            await call.settled()

    async def _line(self, call: TextCall, view: ChatView, line: str) -> None:
        match await call.line(line):
            case ShowHelp():
                view.note("\n".join(f"{name:<8}{what}" for name, what in COMMANDS.items()))
            case ShowState():
                view.note(_state_of(call))
            case Mistake(why):
                view.note(why)
            case None:
                view.note("")
            case _:
                pass


@contextmanager
def _beside(view: ChatView) -> Iterator[None]:
    if not isinstance(view, TerminalView):
        yield
        return
    # A ``Beside`` is a stream by what it passes on.
    out, errors = (cast("TextIO", Beside(view, stream)) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(errors):
        yield


def _begin_of(line: str) -> str:
    # Judged: enough to find the line again.
    return textwrap.shorten(line, 60, placeholder=" ...")


def _state_of(call: TextCall) -> str:
    state, metrics = call.state, call.metrics
    cost = "" if metrics is None else f", ${metrics.cost.total:.4f} so far"
    return f"caller {state.get('user', '')}, agent {state.get('agent', '')}, turn {call.turn_idx}{cost}"


async def _lines() -> AsyncIterator[str]:
    """Yield the lines of standard input until its end."""
    decoder = codecs.getincrementaldecoder(sys.stdin.encoding or "utf-8")("replace")
    waiting = ""
    while True:
        # The descriptor and not the stream: a thread that waits in the stream would hold its lock at Python's end.
        # Abandoned when the call is over: nothing ends a read of a terminal.
        data = await trio.to_thread.run_sync(os.read, sys.stdin.fileno(), READ_BYTES, abandon_on_cancel=True)
        # Final at the end of the input: half a character that is left there becomes a replacement.
        waiting += decoder.decode(data, not data)
        *lines, waiting = waiting.split("\n")
        for line in lines:
            yield line
        if not data:
            if waiting:
                yield waiting
            return
        # One that never ends must not fill the memory; the line is refused as too long.
        waiting = waiting[: MAX_LINE_CHARACTERS + 1]
