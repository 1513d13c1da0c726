"""Command ``patter-trio simulate``: serve an agent locally and call it with recordings, in real time."""

import argparse
import math
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from patter_trio.abc import Carrier
from patter_trio.audio.g711 import Samples
from patter_trio.audio.wav import WavError, read_wav
from patter_trio.carriers.local import LocalCarrier
from patter_trio.cli.busy import LoadMonitor
from patter_trio.cli.caller import (
    DEFAULT_LINES,
    CallRecords,
    Keys,
    Line,
    SimulatedCall,
    View,
    add_caller_number,
    synthesised,
)
from patter_trio.cli.command_line import (
    RECORDING_OPTION,
    AddKeys,
    AddRecordings,
    AddText,
    Once,
    Step,
)
from patter_trio.cli.interrupts import is_interruptible
from patter_trio.cli.live import Live, Progress
from patter_trio.cli.report import latencies, print_latencies, write_call
from patter_trio.cli.stand_ins import carrier_credentials
from patter_trio.cli.terminal import console_for
from patter_trio.errors import ConfigurationError
from patter_trio.phone_numbers import is_number
from patter_trio.program import Program, load
from patter_trio.server.calls import CallServer, open_call_server
from patter_trio.server.listeners import listening_address, open_listeners, serve_listeners
from patter_trio.server.options import Seams
from patter_trio.testing.carriers.rest import kept_from_carriers, serving_api
from patter_trio.testing.simulation.caller import KEYS
from patter_trio.testing.simulation.carriers import CARRIERS, carrier_object, protocol_of

PLACES_NO_CALLS: Final = (
    "no request leaves patter-trio simulate, which has no other phones: to place calls, use patter-trio call, or the "
    "fixture phone_network in a test"
)
# Judged: as a busy line would bring them; all at once would measure the start of the server.
CALL_INTERVAL_S: Final = 0.4
"""Seconds from one call's beginning to the next one's: calls do not come all at once."""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "simulate",
        help="hold a call with simulated callers",
        description="Serve the agent in FILE on a free port of this machine and call it as a carrier would, in real "
        "time. The caller speaks its recordings and texts and presses its keys in the order of the command line, each "
        "when the agent has finished.",
    )
    parser.add_argument(
        RECORDING_OPTION,
        dest="steps",
        action=AddRecordings,
        nargs="+",
        type=Path,
        metavar="WAV",
        help="the caller's utterances, one recording each (mono or stereo, 8 to 48 kHz: PCM, float, mu-law or A-law); "
        "default: `callers = [...]` in FILE, else a few questions in the local voice",
    )
    parser.add_argument(
        "--say",
        dest="steps",
        action=AddText,
        metavar="TEXT",
        help="the caller says this, in the local voice (English)",
    )
    parser.add_argument(
        "--press",
        dest="steps",
        action=AddKeys,
        metavar="KEYS",
        help="the caller presses these keys, as in 1#",
    )
    add_caller_number(parser)
    parser.add_argument(
        "--carrier",
        action=Once,
        choices=CARRIERS,
        help="the carrier whose protocol is used (default: that of the program's phone, or twilio)",
    )
    parser.add_argument(
        "--interrupt-at",
        action=Once,
        type=float,
        metavar="S",
        help="begin the caller's second turn S seconds after the first reply (not the greeting) became audible",
    )
    parser.add_argument(
        "--calls", action=Once, type=int, default=1, metavar="N", help="calls to hold (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        action=Once,
        type=Path,
        default=Path(),
        metavar="DIR",
        help="write call.wav, call.svg (its picture) and timeline.json to DIR/calls/<call_id>/ (default: the current "
        "folder)",
    )
    parser.set_defaults(command=run)
    return parser


@attrs.frozen
class _Options:
    """The validated options of the command line."""

    steps: tuple["Step | Line", ...]
    """The caller's turns; those with a text still have to be synthesised."""
    number: str
    interrupt_at: float | None
    calls: int
    out: Path
    carrier: str | None


def run(options: argparse.Namespace) -> int:
    """Run the command; return 0 if every call ended as expected, 1 if one failed."""
    if options.calls < 1:
        raise ConfigurationError(f"--calls must be at least 1, got {options.calls}")
    interrupt_at = options.interrupt_at
    if options.number and not is_number(options.number):
        raise ConfigurationError(f"--from must be a number in E.164 such as +15550100003, got {options.number!r}")
    if interrupt_at is not None and not 0 <= interrupt_at < math.inf:
        raise ConfigurationError(f"--interrupt-at must be at least 0, got {interrupt_at:g}")
    # A program with Twilio() must load without an account: the simulator signs with any credentials, and takes another
    # key for Telnyx.
    # Set only if the environment has none.
    program = load(options.file, carrier_credentials())
    if not isinstance(program, Program):
        raise ConfigurationError(f"{options.file} must have a `phone` and an `agent` at its top level to be called")
    steps = options.steps or tuple(Step(recording=file) for file in program.callers)
    _check_steps(steps, interrupt_at)
    # Before the models are loaded: a missing file is reported at once.
    turns = tuple((step.recording.name, _recording(step.recording)) if step.recording else step for step in steps)
    # A call of minutes must not end with a folder that cannot be written.
    _prepare(options.out)
    return trio.run(
        _simulate,
        program,
        _Options(turns, options.number, interrupt_at, options.calls, options.out, options.carrier),
        restrict_keyboard_interrupt_to_checkpoints=True,
    )


def _check_steps(steps: Sequence[Step], interrupt_at: float | None) -> None:
    """Check what the caller shall do.

    Raises:
        ConfigurationError: a text has no words, a key is not one, or ``--interrupt-at`` has nothing to interrupt with.
    """
    for step in steps:
        if step.recording is None and not step.keys and not re.search(r"\w", step.text):
            raise ConfigurationError(f"--say and --press must have a text and keys, got {step.text!r}")
        if wrong := [key for key in step.keys if key.upper() not in KEYS]:
            raise ConfigurationError(f"--press must be keys of a telephone (0-9, *, #, A-D), got {wrong[0]!r}")
    # Without any, the three default questions are spoken.
    if interrupt_at is not None and len(steps) == 1:
        raise ConfigurationError("--interrupt-at needs a second turn of the caller to interrupt with, got only one")
    if interrupt_at is not None and steps and steps[0].keys:
        raise ConfigurationError("--interrupt-at needs a first turn of the caller that is spoken, got --press")


def _prepare(out: Path) -> None:
    """Check before the call that its results can be written."""
    calls = out / "calls"
    try:
        calls.mkdir(parents=True, exist_ok=True)
    # Before the call: a call of minutes must not be held for nothing.
    except OSError as error:
        raise _unwritable(error, calls) from error
    if not os.access(calls, os.W_OK):
        raise ConfigurationError(f"{calls} must be writable")


def _unwritable(error: OSError, place: Path) -> ConfigurationError:
    return ConfigurationError(f"{error.filename or place} cannot be written: {error.strerror}")


def _recording(file: Path) -> Samples:
    try:
        samples = read_wav(file.read_bytes())
    # The file's name in front, because several may be given.
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error
    except WavError as error:
        raise ConfigurationError(f"{file}: {error}") from error
    if not len(samples):
        raise ConfigurationError(f"{file} must contain audio, got an empty recording")
    return samples


async def _lines(steps: Sequence[Step | Line]) -> tuple[Line, ...]:
    """Return the caller's turns as audio and keys; without any, a few questions that suit every agent."""
    if not steps:
        return await synthesised(DEFAULT_LINES)
    # All texts at once, because the voice is loaded once for all.
    texts = [step.text for step in steps if isinstance(step, Step) and step.text]
    spoken_lines = iter(await synthesised(texts) if texts else ())
    return tuple(
        step if not isinstance(step, Step) else Keys(step.keys.upper()) if step.keys else next(spoken_lines)
        for step in steps
    )


def _carrier_of(program: Program, wanted: str | None) -> Carrier:
    """Return the carrier whose protocol the callers speak."""
    # A program's own carrier, so that its webhook is signed as in production.
    given = program.phone.carrier or LocalCarrier()
    try:
        return carrier_object(protocol_of(wanted, given), given)
    except TypeError as error:
        known = "Twilio, Telnyx or Plivo"
        raise ConfigurationError(f"the carrier of a simulation must be {known}, got {type(given).__name__}") from error


async def _simulate(program: Program, options: _Options) -> int:
    carrier = _carrier_of(program, options.carrier)
    print("Loading ...", file=sys.stderr)
    # Before the calls: the first one would otherwise measure the loading.
    await program.agent.prewarm()
    lines = await _lines(options.steps)
    # On a free port of this machine only.
    listeners = await open_listeners("127.0.0.1", 0)
    host, port = listening_address(listeners)
    public_url = program.phone.public_url((host, port))
    view: View = (
        Live(console_for(sys.stdout)) if options.calls == 1 else Progress(options.calls, console_for(sys.stderr))
    )
    calls = tuple(
        SimulatedCall(
            connect=partial(trio.open_tcp_stream, host, port),
            public_url=public_url,
            carrier=carrier,
            phone=program.phone,
            agent=program.agent,
            lines=lines,
            interrupt_at=options.interrupt_at,
            view=view,
            number=options.number,
        )
        for _ in range(options.calls)
    )
    busy, stop = LoadMonitor(), _Stop(calls)
    async with (
        # Around everything: the cursor comes back whatever happens.
        AsyncExitStack() as views,
        # Around the server: it may end calls with its last breath.
        _answering(calls, carrier, program.phone.carrier),
        _open_server(program, public_url, carrier, calls) as call_server,
        trio.open_nursery() as serving,
    ):
        views.callback(view.close)
        await serving.start(serve_listeners, call_server.context, listeners)
        # Beside the calls: it says whether the latencies can be trusted.
        serving.start_soon(busy.watch)
        if is_interruptible():
            # ``start``: Ctrl-C from here on ends the calls, which are then written.
            await serving.start(stop.run)
        await _hold(calls, stop)
        # All calls have ended and been reported: nothing else uses the server.
        serving.cancel_scope.cancel(reason="all simulated calls are over")
    status = await _report(calls, options.out, busy, program.path.name)
    if stop.asked:
        # Only now, when what was held of the calls is written; the launcher knows what to say and to return.
        raise KeyboardInterrupt
    return status


def _open_server(
    program: Program, public_url: str, carrier: Carrier, calls: Sequence[SimulatedCall]
) -> AbstractAsyncContextManager[CallServer]:
    """Return the program's server, which reports to each call what becomes of it."""
    served = program.phone._serve_options(  # noqa: SLF001 (the launcher is the package's own)
        program.agent, public_url=public_url, carrier=carrier, callbacks=program.callbacks
    )
    records = CallRecords({call.call_id: call for call in calls})
    return open_call_server(
        attrs.evolve(served, recorder=served.recorder.also_for(records)),
        Seams(tap=records.tap, bus_tap=records.bus_tap),
    )


async def _hold(calls: Sequence[SimulatedCall], stop: "_Stop") -> None:
    """Hold the calls, each from a little later on than the one before."""
    # A nursery of its own, inside the server's: the server outlives the calls.
    async with trio.open_nursery() as callers:
        for call in calls:
            # Ctrl-C between two calls: the others need not begin.
            if stop.asked:
                break
            callers.start_soon(call.run)
            # Not for a single call, which should begin at once.
            await trio.sleep(CALL_INTERVAL_S if len(calls) > 1 else 0)


@asynccontextmanager
async def _answering(calls: Sequence[SimulatedCall], carrier: Carrier, real: Carrier | None) -> AsyncIterator[None]:
    """Carry out the server's requests about the calls while the block runs; refuse others to a carrier."""
    with ExitStack() as interfaces:
        for call in calls:
            interfaces.enter_context(serving_api(call.carrier, carrier.api_url))
        interfaces.enter_context(kept_from_carriers(PLACES_NO_CALLS, carrier, real))
        yield


@attrs.define
class _Stop:
    """Ctrl-C during the calls: the callers hang up, and the calls end and are written as any other."""

    calls: tuple[SimulatedCall, ...]
    asked: bool = False

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Hang up at the first Ctrl-C; the second one ends the command at once."""
        with trio.open_signal_receiver(signal.SIGINT) as interrupts:
            task_status.started()
            async for _ in interrupts:
                if self.asked:
                    raise KeyboardInterrupt
                self.asked = True
                for call in self.calls:
                    call.stop()


async def _report(calls: Sequence[SimulatedCall], out: Path, busy: LoadMonitor, program: str = "") -> int:
    """Write and print the results of the calls; return the exit status."""
    try:
        # Without events the call never began, and there is nothing to write.
        places = [await write_call(call, out, program) for call in calls if call.log.events]
    # The call has been held, so the reason of the loss must be plain.
    except OSError as error:
        raise _unwritable(error, out) from error
    failed = [call for call in calls if call.failure]
    print()
    if len(calls) > 1:
        print(f"{len(calls) - len(failed)} of {len(calls)} calls ended as expected.")
    print_latencies([turn for call in calls for turn in latencies(call.log.events)])
    if verdict := busy.verdict():
        print(f"\n{verdict}")
    if places:
        what = places[0] if len(places) == 1 else places[0].parent
        print(
            f"\nResults: {what}{os.sep}{'' if len(places) == 1 else '<call_id>' + os.sep}"
            "{call.wav,call.svg,timeline.json}"
        )
    return 1 if failed else 0
