"""Strangers flood the port of a server, and healthy calls beside them are measured: what do their callers hear?

``python -m benchmarks.siege [--floods pings idle ...] [--seconds 20] [--json FILE]``

Each flood is directed at the server of the calls, and then, as a control, at another process of the same machine: the
difference is what the flood costs the calls. Server, callers and strangers run in processes of their own, with real
sockets and the real VAD; the callers are those of ``benchmarks.calls``. While the flood lasts, new callers ring.
"""

import argparse
import gc
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import attrs
import trio
from websockets.frames import Frame, Opcode

from benchmarks.client import CallerSocket
from benchmarks.overload import Arrivals, Floor, serve
from benchmarks.processes import ROOT, description_of, pinned, started
from benchmarks.sounds import INTERRUPTION, QUESTION, frames_of, voiced, write_answer
from patter_trio.server.admission import MAX_LAG_S

SETTLING_TIME_S: Final = 6.0
"""Seconds of calls before the flood begins: a question and the beginning of its answer."""
# Judged: nobody hears a hundredth of a second.
MAX_ADDED_LATENCY_S: Final = 0.02
"""Seconds by which the slowest answer may exceed that of the control."""
SEND_INTERVAL_S: Final = 0.02
"""Seconds between two sends of a stranger with a rate."""
PIECE_BYTES: Final = 16 * 1024
"""Largest send of a stranger without a rate."""

UPGRADE: Final = (
    b"GET /ws/twilio/stream/CAstranger HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
FORM: Final = b"CallSid=CA" + b"0" * 32 + b"&From=%2B15550100001&To=%2B15550100002"
POST: Final = b"POST /webhooks/twilio/voice HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"


def _frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return bytes(Frame(opcode, data, fin).serialize(mask=True))


@attrs.frozen(kw_only=True)
class Flood:
    """What each of a number of strangers sends, again and again; ``rate`` is in bytes per second for each of them."""

    strangers: int
    rate: float = math.inf
    opening: bytes = UPGRADE
    data: bytes = b""
    """Sent repeatedly behind the opening; empty: nothing more."""
    renewed_after: float = math.inf
    """Seconds after which a stranger ends its connection and opens another one."""
    files: int = 0
    """The server's limit of open files; 0: that of the system."""


_PING: Final = _frame(Opcode.PING)
_UNKNOWN: Final = _frame(Opcode.TEXT, b'{"event":"x"}')
FLOODS: Final = {
    "pings": Flood(strangers=20, rate=100e3, data=_PING),
    "pings of many": Flood(strangers=60, rate=30e3, data=_PING),
    "pings without limit": Flood(strangers=20, data=_PING),
    "pings of 90 without limit": Flood(strangers=90, data=_PING),
    "pings of one": Flood(strangers=1, rate=1.5e6, data=_PING),
    "pongs": Flood(strangers=20, rate=100e3, data=_frame(Opcode.PONG)),
    "unknown events": Flood(strangers=40, rate=100e3, data=_UNKNOWN),
    "unknown events without limit": Flood(strangers=20, data=_UNKNOWN),
    "fragments": Flood(
        strangers=20,
        rate=100e3,
        opening=UPGRADE + _frame(Opcode.TEXT, fin=False),
        data=_frame(Opcode.CONT, fin=False),
    ),
    "close frames": Flood(
        strangers=20, rate=100e3, opening=UPGRADE + _frame(Opcode.CLOSE, b"\x0f\xa0\n12:00:00 INFO call CA1: started")
    ),
    "no start": Flood(strangers=120, renewed_after=9.0),
    "unsigned webhooks": Flood(
        strangers=20, opening=POST + b"Content-Length: %d\r\n\r\n" % len(FORM) + FORM, renewed_after=5.0
    ),
    "webhooks in crumbs": Flood(
        strangers=4,
        opening=POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 60_000 + b"0\r\n\r\n",
        renewed_after=1.0,
    ),
    "slow heads": Flood(strangers=200, rate=20, opening=b"GET /health HTTP/1.1\r\nX: ", data=b"x"),
    "idle": Flood(strangers=900, opening=b"", renewed_after=9.0),
    "idle, few descriptors": Flood(strangers=300, opening=b"", renewed_after=9.0, files=256),
}


# The strangers' process -----------------------------------------------------------------------------------------------
@attrs.define
class Sent:
    """What all strangers have sent."""

    bytes: int = 0
    connections: int = 0


class Stranger:
    """One stranger, who opens the next connection when the server has ended the one before."""

    def __init__(self, flood: Flood, port: int, sent: Sent) -> None:
        self._flood = flood
        self._port = port
        self._sent = sent
        self._own = 0
        self._began = trio.current_time()

    async def run(self) -> None:
        # Spread out: strangers in step would be one burst.
        await trio.sleep(random.random())
        self._began = trio.current_time()
        while True:
            # The server has no descriptor left, or the system no port.
            with suppress(OSError):
                async with await trio.open_tcp_stream("127.0.0.1", self._port) as stream:
                    self._sent.connections += 1
                    with trio.move_on_after(self._flood.renewed_after):
                        await self._connected(stream)
            await trio.sleep(0.001)

    async def _connected(self, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, stream, nursery.cancel_scope)
            # The server has ended the connection, which the reader notices as well.
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._send(stream)
            await trio.sleep_forever()

    @staticmethod
    async def _read(stream: trio.abc.Stream, connection: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while await stream.receive_some(65536):
                pass
        connection.cancel(reason="the server ended the connection")

    async def _send(self, stream: trio.abc.Stream) -> None:
        await self._piece(stream, self._flood.opening)
        data = self._flood.data
        if not data:
            return
        size = PIECE_BYTES if math.isinf(self._flood.rate) else max(1, int(self._flood.rate * SEND_INTERVAL_S))
        piece = data * max(1, size // len(data))
        while True:
            await self._piece(stream, piece)

    async def _piece(self, stream: trio.abc.Stream, piece: bytes) -> None:
        # At its rate from the beginning, new connections included.
        await trio.sleep_until(self._began + self._own / self._flood.rate)
        await stream.send_all(piece)
        self._own += len(piece)
        self._sent.bytes += len(piece)


async def flood(name: str, port: int, seconds: float) -> dict[str, Any]:
    """Run a flood, and return what it sent."""
    sent = Sent()
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for _ in range(FLOODS[name].strangers):
                nursery.start_soon(Stranger(FLOODS[name], port, sent).run)
    return attrs.asdict(sent)


# The callers' process -------------------------------------------------------------------------------------------------
def call(server: dict[str, Any], calls: int, newcomers: int, seconds: float) -> dict[str, Any]:
    """Hold calls, print a line when the flood may begin, have more callers ring meanwhile, and measure all of them."""
    arrivals = Arrivals(server, newcomers, seconds / (newcomers + 1))
    floor = Floor(arrivals)
    sounds = frames_of(voiced(QUESTION)), frames_of(voiced(INTERRUPTION))
    for number in range(calls):
        arrivals.came.append(CallerSocket(server, sounds, 10 + 40 * number, number))
    # A garbage collection in this process would delay frames and count as latency of the server.
    gc.disable()
    floor.run(time.perf_counter() + SETTLING_TIME_S)
    floor.collect()
    print("{}", flush=True)
    threading.Thread(target=arrivals.run, daemon=True).start()
    load, total = floor.window(server["pid"], seconds)
    return {
        "load": load,
        "answers_ms": sorted(1000 * value for value in total.answers),
        "clears_ms": sorted(1000 * value for value in total.clears),
        **{name: getattr(total, name) for name in ("turns", "missed", "gaps", "lost")},
        "newcomers": newcomers,
        "taken": arrivals.outcomes["admitted"],
        "busy": arrivals.outcomes["busy"],
    }


# The benchmark --------------------------------------------------------------------------------------------------------
@contextmanager
def serving(
    sounds: Path, name: str, files: int, prepare: Callable[[], None] | None
) -> Iterator[tuple[dict[str, Any], Path]]:
    log = sounds / f"{name}.log"
    command = [sys.executable, "-m", "benchmarks.siege", "--serve", str(sounds), "--files", str(files)]
    with started(command, log, prepare) as server:
        yield description_of(server, name, log), log


def measure(name: str, options: argparse.Namespace, *, control: bool) -> dict[str, Any]:
    """Measure calls beside a flood: at their server or, as a control, at another process."""
    server_core, other_core = (-1, -1) if options.unpinned else (0, 1)
    with tempfile.TemporaryDirectory() as folder:
        sounds = Path(folder)
        write_answer(sounds)
        files = FLOODS[name].files
        with (
            serving(sounds, "server", files, pinned(server_core, options.nice)) as (server, log),
            serving(sounds, "target", files, pinned(other_core, options.nice)) as (other, _),
        ):
            task = {
                "server": server,
                "calls": options.calls,
                "newcomers": options.newcomers,
                "seconds": options.seconds,
            }
            callers = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.siege", "--call", json.dumps(task)],
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                preexec_fn=pinned(other_core, options.nice),  # noqa: PLW1509 (this process has no threads)
            )
            assert callers.stdout is not None
            if not callers.stdout.readline():
                raise SystemExit("the callers failed before the flood")
            target = {"name": name, "port": (other if control else server)["port"], "seconds": options.seconds}
            strangers = subprocess.run(
                [sys.executable, "-m", "benchmarks.siege", "--flood", json.dumps(target)],
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                check=True,
                # Below the callers, with which the strangers share a core.
                preexec_fn=pinned(other_core, options.nice + 10),
            )
            heard = json.loads(callers.communicate()[0])
            return heard | {
                "flood": name,
                "control": control,
                "log_bytes": log.stat().st_size,
                **{f"sent_{key}": value for key, value in json.loads(strangers.stdout).items()},
            }


def held(attacked: dict[str, Any], control: dict[str, Any]) -> bool:
    """Return True if the callers heard what they hear without the flood, and all new ones were taken."""
    slowest, slowest_control = (max(row["answers_ms"], default=math.inf) for row in (attacked, control))
    return bool(
        slowest <= slowest_control + 1000 * MAX_ADDED_LATENCY_S
        and not (attacked["missed"] or attacked["gaps"] or attacked["lost"])
        and attacked["taken"] == attacked["newcomers"]
    )


def markdown(rows: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """Return the table: one line for each flood, with its control beside it."""
    lines = [
        (
            "| flood | MB sent, connections | core | answer ms p50 / slowest | clear ms slowest | gaps | missed, lost "
            "| new callers taken | log kB | control: answer ms p50 / slowest | gaps | held |"
        ),
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for attacked, control in rows:
        lines.append(
            f"| {attacked['flood']} | {attacked['sent_bytes'] / 1e6:.1f}, {attacked['sent_connections']} "
            f"| {100 * attacked['load']:.0f} % | {_times(attacked['answers_ms'])} "
            f"| {max(attacked['clears_ms'], default=math.nan):.0f} | {attacked['gaps']} "
            f"| {attacked['missed']}, {attacked['lost']} | {attacked['taken']} of {attacked['newcomers']} "
            f"| {attacked['log_bytes'] / 1e3:.0f} | {_times(control['answers_ms'])} | {control['gaps']} "
            f"| {'yes' if held(attacked, control) else 'no'} |"
        )
    return "\n".join(lines)


def _times(values: Sequence[float]) -> str:
    return f"{values[len(values) // 2]:.0f} / {values[-1]:.0f}" if values else "none"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.siege", description=__doc__.partition("\n")[0])
    parser.add_argument("--floods", nargs="*", choices=FLOODS, default=list(FLOODS), help="floods (default: all)")
    parser.add_argument("--calls", type=int, default=3, help="calls beside the flood (default: 3)")
    parser.add_argument("--newcomers", type=int, default=8, help="callers who ring during the flood (default: 8)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each flood, in seconds (default: 20)")
    parser.add_argument("--nice", type=int, default=0, help="niceness of all processes, for a shared machine")
    parser.add_argument("--unpinned", action="store_true", help="leave the choice of cores to the system")
    parser.add_argument("--json", type=Path, help="file for the measurements")
    for internal, kind in (("--serve", Path), ("--call", str), ("--flood", str)):
        parser.add_argument(internal, type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--files", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Measure all floods; return each with its control."""
    rows = []
    for name in options.floods:
        rows.append((measure(name, options, control=False), measure(name, options, control=True)))
        print(markdown(rows).splitlines()[-1], file=sys.stderr, flush=True)
    return rows


def main() -> None:
    options = parse()
    if options.serve:
        if options.files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (options.files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        trio.run(serve, (options.serve / "answer.ulaw").read_bytes(), MAX_LAG_S)
    elif options.call:
        print(json.dumps(call(**json.loads(options.call))))
    elif options.flood:
        print(json.dumps(trio.run(lambda: flood(**json.loads(options.flood)))))
    else:
        rows = run(options)
        print(markdown(rows))
        if options.json:
            options.json.write_text(json.dumps({"seconds": options.seconds, "rows": rows}, indent=1))
        sys.exit(os.EX_OK if all(held(*row) for row in rows) else 1)


if __name__ == "__main__":
    main()
