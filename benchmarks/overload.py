"""More calls than the machine can carry: the number of busy answers, and the quality of the admitted calls.

``python -m benchmarks.overload [--times 2] [--seconds 30] [--json FILE] [--plot FILE]``

First the capacity of the machine is measured: a server that admits every call is offered more calls each time, until
turns are missed or the slowest answers come :data:`MAX_ADDED_LATENCY_S` later than with a few calls. Then ``--times``
as many calls are offered, one after the other, to a server with admission by load, and once more to a server that
admits all. Server and callers run in processes of their own, each pinned to a core, with the real VAD; the callers are
those of ``benchmarks.calls``.
"""

import argparse
import gc
import heapq
import json
import math
import os
import random
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import numpy as np
import trio

from benchmarks.caller import Tally
from benchmarks.client import SAMPLE_INTERVAL_S, CallerSocket, cpu_seconds
from benchmarks.processes import ROOT, description_of, pinned, started
from benchmarks.servers.ours import TOKEN, phone_and_agent
from benchmarks.sounds import INTERRUPTION, QUESTION, frames_of, voiced, write_answer
from patter_trio.server.admission import MAX_LAG_S

# Calls arrive one after the other, as in a rush, and not all at once: admission decides by what it has measured of the
# calls before. The capacity is measured first, in the same run, because it is that of this machine, today. What counts
# is whether the admitted calls are served as if the others did not exist.

WEBHOOK_TIMEOUT_S: Final = 15.0
"""Seconds after which Twilio gives up on a webhook."""
ROUND_S: Final = 12.0
"""Seconds of a round of the callers' script; the measurement begins this long after the last call was offered."""
# Also the number that admission accepts without an estimate.
BASELINE_CALLS: Final = 20
"""A number of calls that any machine carries; the others are compared with their latency."""
STEP_CALLS: Final = 20
# Judged: a delay that people do not notice in an answer of half a second.
MAX_ADDED_LATENCY_S: Final = 0.1
"""Seconds by which the 99th percentile of answers may exceed that of a few calls, if all calls count as carried."""


# The server's process -------------------------------------------------------------------------------------------------
async def serve(answer: bytes, max_lag: float | None) -> None:
    phone, agent = phone_and_agent(answer)
    async with trio.open_nursery() as nursery:
        _, port = await nursery.start(partial(phone.serve, agent, port=0, max_lag=max_lag))
        about = {"port": port, "pid": os.getpid(), "webhook": "/webhooks/twilio/voice", "token": TOKEN}
        # Inside the nursery, which goes on serving; the process is killed from outside.
        print(json.dumps(about | {"public": "http://127.0.0.1"}), flush=True)


@contextmanager
def serving(sounds: Path, max_lag: float | None, nice: int) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.overload", "--serve", str(sounds), "--max-lag", str(max_lag or 0.0)]
    log = sounds / "server.log"
    with started(command, log, pinned(0, nice)) as server:
        yield description_of(server, "ours", log)


# The callers' process -------------------------------------------------------------------------------------------------
class Arrivals:
    """Callers that arrive one after the other; each sets up its call in a thread, because the answer may take long."""

    def __init__(self, server: dict[str, Any], offered: int, gap: float) -> None:
        self._server = server
        self._sounds = frames_of(voiced(QUESTION)), frames_of(voiced(INTERRUPTION))
        self._offered = offered
        self._gap = gap
        self.came: deque[CallerSocket] = deque()
        """Admitted callers whose calls have not begun yet."""
        self.outcomes: Counter[str] = Counter()
        self.webhooks: list[float] = []

    def run(self) -> None:
        began = time.perf_counter()
        for number in range(self._offered):
            time.sleep(max(0.0, began + number * self._gap - time.perf_counter()))
            # A thread for each, because setting up a call blocks, and the next caller does not wait for this one.
            threading.Thread(target=self._arrive, daemon=True).start()

    def _arrive(self) -> None:
        began = time.perf_counter()
        try:
            line = CallerSocket(self._server, self._sounds, 10 + random.randrange(100))
        # How ``client`` reports what a webhook answered; the reason is in the TwiML that it quotes.
        except SystemExit as refused:
            self.outcomes["busy" if 'reason="busy"' in str(refused) else "failed"] += 1
            return
        # No connection, or none in time: the caller hears nothing at all.
        except OSError:
            self.outcomes["failed"] += 1
            return
        took = time.perf_counter() - began
        self.webhooks.append(took)
        # Twilio would have given up; the server does not know.
        if took > WEBHOOK_TIMEOUT_S:
            self.outcomes["failed"] += 1
            line.hang_up()
            return
        self.outcomes["admitted"] += 1
        # A deque, because it is filled by threads and emptied by the loop; append and popleft are atomic.
        self.came.append(line)


class Floor:
    """A scheduler for all lines: it sends the frames of each at their instants, and reads data in between."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._poll = select.epoll()
        self._by_fd: dict[int, CallerSocket] = {}
        self._due: list[tuple[float, int]] = []
        self.lines: list[CallerSocket] = []

    def run(self, until: float) -> None:
        fd = [self._poll.fileno()]
        while (now := time.perf_counter()) < until:
            # In the loop, not in the thread: only one thread may touch callers and poll.
            while self._arrivals.came:
                self._welcome(self._arrivals.came.popleft(), now)
            due = self._due[0][0] if self._due else now + SAMPLE_INTERVAL_S
            # As in ``client``: epoll's own timeout has only milliseconds.
            if now < due and select.select(fd, [], [], min(due, until) - now)[0]:
                self._read()
            now = time.perf_counter()
            while self._due and self._due[0][0] <= now:
                due, number = self._due[0]
                self.lines[number].tick(now)
                # From when it was due, not from now: the pace is kept after a delay.
                heapq.heapreplace(self._due, (due + SAMPLE_INTERVAL_S, number))
            self._read()

    def collect(self) -> Tally:
        """Return what the callers have counted, and let them count from zero again; a lost call stays lost."""
        total = Tally()
        for line in self.lines:
            total.add(line.caller.tally)
            line.caller.tally = Tally(lost=line.caller.tally.lost)
        return total

    def window(self, pid: int, seconds: float) -> tuple[float, Tally]:
        """Run for a time, and return the share of a core that a process used, and what the callers counted."""
        began, cpu = time.perf_counter(), cpu_seconds(pid)
        self.run(began + seconds)
        load = (cpu_seconds(pid) - cpu) / (time.perf_counter() - began)
        return load, self.collect()

    def _welcome(self, line: CallerSocket, now: float) -> None:
        self._by_fd[line.socket.fileno()] = line
        self._poll.register(line.socket.fileno(), select.EPOLLIN)
        # At a random place within the 20 ms, as callers are.
        heapq.heappush(self._due, (now + random.random() * SAMPLE_INTERVAL_S, len(self.lines)))
        self.lines.append(line)

    def _read(self) -> None:
        for fd, _ in self._poll.poll(0):
            line = self._by_fd[fd]
            line.readable(time.perf_counter())
            if not line.caller.alive:
                self._poll.unregister(fd)


def offer(server: dict[str, Any], offered: int, gap: float, seconds: float) -> dict[str, Any]:
    """Offer calls, and measure the admitted ones, from one round of the script after the last offer."""
    arrivals = Arrivals(server, offered, gap)
    floor = Floor(arrivals)
    threading.Thread(target=arrivals.run, daemon=True).start()
    # A garbage collection in this process would delay frames and count as latency of the server.
    gc.disable()
    # The arrivals, then one round for the last of them to get into the script, then the window.
    floor.run(time.perf_counter() + offered * gap)
    floor.run(time.perf_counter() + ROUND_S)
    # What happened while they came is reported apart: it is what a rush is like for those already on the line.
    coming = floor.collect()
    load, total = floor.window(server["pid"], seconds)
    return {
        "offered": offered,
        **{name: arrivals.outcomes[name] for name in ("admitted", "busy", "failed")},
        # Threads that still wait for their webhook.
        "unanswered": offered - arrivals.outcomes.total(),
        "webhook_ms": 1000 * max(arrivals.webhooks, default=0.0),
        "load": load,
        "answers_ms": _percentiles(total.answers),
        "clears_ms": _percentiles(total.clears),
        "coming_p99_ms": _percentiles(coming.answers)[-1],
        "coming_missed": coming.missed,
        **{name: getattr(total, name) for name in ("turns", "missed", "gaps", "lost")},
    }


def _percentiles(values: Sequence[float]) -> list[float]:
    return [1000 * float(np.percentile(values, p)) for p in (50, 99)] if values else [float("nan")] * 2


# The benchmark --------------------------------------------------------------------------------------------------------
def run(times: float, gap: float, seconds: float, nice: int) -> list[dict[str, Any]]:
    """Measure everything; return the rows of the table."""

    def offering(calls: int, max_lag: float | None) -> dict[str, Any]:
        with serving(sounds, max_lag, nice) as server:
            task = {"server": server, "offered": calls, "gap": gap, "seconds": seconds}
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.overload", "--offer", json.dumps(task)],
                capture_output=True,
                text=True,
                cwd=ROOT,
                check=False,
                preexec_fn=pinned(1, nice),
            )
        if done.returncode:
            raise SystemExit(f"the callers failed: {done.stderr[-2000:]}")
        result: dict[str, Any] = {"max_lag": max_lag, **json.loads(done.stdout)}
        print(result, file=sys.stderr)
        return result

    with tempfile.TemporaryDirectory() as folder:
        sounds = Path(folder)
        write_answer(sounds)
        # Each in a fresh server: a server that was overloaded before may not have recovered.
        rows = [offering(BASELINE_CALLS, None)]
        few, carried = rows[0], BASELINE_CALLS
        while True:
            row = offering(carried + STEP_CALLS, None)
            rows.append(row)
            if (
                row["missed"]
                or row["coming_missed"]
                # Not a number if there were no answers: then turns were missed, and the first condition holds.
                or row["answers_ms"][1] > few["answers_ms"][1] + 1000 * MAX_ADDED_LATENCY_S
            ):
                break
            carried += STEP_CALLS
        offered = round(times * carried)
        print(f"{carried} calls are carried; {offered} are offered", file=sys.stderr)
        return [*rows, offering(offered, MAX_LAG_S), offering(offered, None)]


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table."""
    lines = [
        (
            "| offered | admission | taken | busy | failed | core | answer ms p50 / p99 | clear ms p50 / p99 | missed "
            "turns | gaps | answer p99, missed while they came |"
        ),
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        answers, clears = (
            " / ".join("none" if math.isnan(value) else f"{value:.0f}" for value in row[key])
            for key in ("answers_ms", "clears_ms")
        )
        lines.append(
            f"| {row['offered']} | {'by load' if row['max_lag'] else 'everybody'} | {row['admitted']} | {row['busy']} "
            f"| {row['failed'] + row['unanswered']} | {100 * row['load']:.0f} % | {answers} | {clears} "
            f"| {row['missed']} of {row['turns']} | {row['gaps']} | {row['coming_p99_ms']:.0f}, {row['coming_missed']} "
            "|"
        )
    return "\n".join(lines)


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw answers and missed turns over the number of offered calls."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (only for the picture, and of an extra)

    figure = Figure(figsize=(10, 4), layout="constrained")
    answers, missed = figure.subplots(1, 2)
    everybody = sorted((row for row in rows if not row["max_lag"]), key=itemgetter("offered"))
    admitting = [row for row in rows if row["max_lag"]]
    for name, style, chosen in (
        ("everybody taken", "o-", everybody),
        ("admission by load (beside it: calls taken)", "*", admitting),
    ):
        offered = [row["offered"] for row in chosen]
        (line,) = answers.plot(offered, [row["answers_ms"][1] for row in chosen], style, label=name, markersize=8)
        shares = [100 * row["missed"] / max(1, row["turns"]) for row in chosen]
        missed.plot(offered, shares, style, color=line.get_color(), label=name, markersize=8)
    for row in admitting:
        answers.annotate(f" {row['admitted']}", (row["offered"], row["answers_ms"][1]))
    answers.set_title("answer, ms, 99th percentile")
    missed.set_title("missed turns, %")
    for axis in (answers, missed):
        axis.set_xlabel("calls offered to one core")
        axis.set_xlim(0, 1.1 * max(row["offered"] for row in rows))
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    missed.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=float, default=2.0, help="offered calls, as a multiple of what a core carries")
    parser.add_argument("--gap", type=float, default=0.2, help="seconds from one call to the next (default: 0.2)")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the measurement window, in seconds")
    parser.add_argument("--nice", type=int, default=0, help="niceness of server and callers, for a shared machine")
    parser.add_argument("--json", type=Path, help="file for the measurements")
    parser.add_argument("--plot", type=Path, help="file for the plot (needs the extra 'bench')")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--max-lag", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--offer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        trio.run(serve, (options.serve / "answer.ulaw").read_bytes(), options.max_lag or None)
    elif options.offer:
        print(json.dumps(offer(**json.loads(options.offer))))
    else:
        rows = run(options.times, options.gap, options.seconds, options.nice)
        print(markdown(rows))
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))
        if options.plot:
            plot(rows, options.plot)


if __name__ == "__main__":
    main()
