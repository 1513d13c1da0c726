"""Hours of calls in virtual time: ``python -m benchmarks.soak [--hours H] [--plot FILE]``.

Several lines place one random call after another (``soak_script.py``) to two servers: one with an LLM, which runs as
long as the soak, and one with ``on_message``, which is cancelled during calls at every ebb. At an ebb the lines pause
until the last call, callback and announced call is over; then the process is measured, and must be as it was before. In
between, the maximum depth of each queue is recorded every second. Every call is checked for the invariants of all
calls.

Exit code 1: a measure grew, something was left behind, or a call violated an invariant.
"""
# ruff: noqa: SLF001 (it reads the depth of private queues)

import argparse
import gc
import logging
import os
import sys
import time
import tracemalloc
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs
import trio
import trio.testing

from benchmarks.soak_line import CARRIER, Line, Server, Tally
from benchmarks.soak_report import MB, Peak, Record, Rest, lines, plot, verdict
from benchmarks.soak_script import Dice
from patter_trio.audio.formats import RATE_HZ
from patter_trio.call import inbox
from patter_trio.call.input import transcription, voice_activity
from patter_trio.call.output import reply
from patter_trio.call.pipeline import PipelineBackend
from patter_trio.events import callbacks
from patter_trio.testing.carriers import network
from patter_trio.testing.carriers.protocol import RESTAnswer, RESTRequest
from patter_trio.testing.carriers.rest import answering

# Memory is compared between moments in which nothing happens: with calls up, it depends on what they are doing. So the
# calls come in tides, and at each ebb all of them have ended, with everything that may outlive a call. Virtual time
# makes hours affordable; what a real clock would add, such as latency, is the business of the other benchmarks.

REST_S: Final = 100.0
"""Seconds of an ebb: longer than an announced call lives (60 s) and callbacks are waited for (32 s), one after the
other.
"""
# Many points for a slope over hours, few enough not to be a growing measure themselves.
STRETCH_S: Final = 60.0
"""Seconds for which the deepest queues make one point of the plot."""
# Not the first: it fills the caches.
TRACED_EVERY_STRETCHES: Final = 9
"""Interval of the stretches that tracemalloc traces, beginning with the second; tracing takes four times the time."""
MAX_SHOWN_FINDINGS: Final = 10
"""Maximum number of findings that are shown."""
BOUNDS: Final = {
    "inbox": inbox.MAX_INBOX_INPUTS,
    # The package's own bounds: a queue that holds more than it may is found, whatever the number.
    "frames to the VAD": voice_activity.MAX_WAITING_FRAMES,
    "audio to the STT": transcription.MAX_UNSENT_FRAMES,
    "playout queue, samples": reply.MAX_PLAYOUT_SAMPLES + RATE_HZ,  # a chunk of audio comes on top
    "callbacks": callbacks.MAX_QUEUED_EVENTS,
    "messages of the simulated line": network.MAX_MESSAGES_IN_FLIGHT,
}
MAY_FILL: Final = frozenset({"frames to the VAD", "audio to the STT", "playout queue, samples"})
"""Queues that may be full: the script makes the VAD and the STT stall, and a TTS is faster than the playout."""


class Errors(logging.Handler):
    """A handler that keeps the records at ERROR: each is a bug of ours."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(f"logged as an error: {self.format(record)}")


@attrs.define
class Soak:
    """One run; all times are seconds of virtual time."""

    seconds: float
    tide: float = 600.0
    """Seconds from one ebb to the next."""
    callers: int = 4
    seed: int = 1
    show: bool = True
    record: Record = attrs.field(factory=lambda: Record(bounds=dict(BOUNDS), may_fill=MAY_FILL))
    tally: Tally = attrs.field(factory=Tally)
    left_at: list[str] = attrs.field(factory=list)
    """The lines that allocated what the last traced stretch left behind."""
    _began: float = attrs.field(factory=time.monotonic)

    def run(self) -> list[str]:
        """Run the soak, and return the findings."""
        errors = Errors()
        logger = logging.getLogger("patter_trio")
        level, propagate = logger.level, logger.propagate
        logger.addHandler(errors)
        logger.setLevel(logging.ERROR)  # thousands of calls fail on purpose
        # The log of thousands of failing calls would bury the report.
        logger.propagate = False
        try:
            trio.run(self._soak, clock=trio.testing.MockClock(autojump_threshold=0))
        # Also after a crash: the process may run another soak, as the tests do.
        finally:
            tracemalloc.stop()
            logger.removeHandler(errors)
            logger.setLevel(level)
            logger.propagate = propagate
        return verdict(self.record) + self.tally.findings + errors.found

    async def _soak(self) -> None:
        dice = Dice(self.seed)
        # One that lives as long as the soak, whose leaks would add up; one that is ended with calls up again and again.
        lasting, passing = servers = Server(dice, model=True), Server(dice, model=False)
        phones = [Line(number, servers, dice, self.tally) for number in range(self.callers)]
        # Without a host: no request may leave, and virtual time would not wait for its answer.
        with answering(CARRIER.api_url, _unknown):
            await self._tides(phones, servers, lasting, passing)

    async def _tides(self, phones: Sequence[Line], servers: Sequence[Server], lasting: Server, passing: Server) -> None:
        async with trio.open_nursery() as serving:
            # In the outer nursery: it lives through every ebb.
            await serving.start(lasting.run)
            ebb = self.tide
            while trio.current_time() < self.seconds:
                # Cleaned first: what was made before the tracing does not count, and must not be freed within it.
                if len(self.record.rests) % TRACED_EVERY_STRETCHES == 1:
                    _clean()
                    tracemalloc.start()
                await self._flow(phones, servers, passing, ebb)
                self._rest(servers)
                ebb += self.tide
            serving.cancel_scope.cancel()

    async def _flow(self, phones: Sequence[Line], servers: Sequence[Server], passing: Server, ebb: float) -> None:
        """Place calls, end the second server during some of them, and wait until all are over."""
        async with trio.open_nursery() as sampling:
            sampling.start_soon(self._watch, phones, servers)
            async with trio.open_nursery() as calling:
                # Before the callers, who would be refused.
                await calling.start(passing.run)
                for phone in phones:
                    calling.start_soon(phone.call_until, ebb - REST_S)
                await trio.sleep_until(ebb - REST_S)
                # While calls are up: what a cancelled server leaves behind is looked for at the ebb.
                passing.scope.cancel()
            # After the last call: the deepest queues may be those of the end.
            sampling.cancel_scope.cancel()
        # From the last call on, if that took longer: everything that may outlive a call has to be over.
        await trio.sleep_until(max(ebb, trio.current_time() + REST_S))

    async def _watch(self, phones: Sequence[Line], servers: Sequence[Server]) -> None:
        while True:
            until = trio.current_time() + STRETCH_S
            live = tasks = descriptors = 0
            depths = dict.fromkeys(BOUNDS, 0)
            try:
                while trio.current_time() < until:
                    # A sample a second of virtual time: maxima between them are missed,
                    # which hours of samples make up for.
                    await trio.sleep(1.0)
                    live = max(live, sum(len(server.phone._live) for server in servers))
                    tasks = max(tasks, trio.lowlevel.current_statistics().tasks_living)
                    descriptors = max(descriptors, _descriptors())
                    _deepen(depths, phones, servers)
            # A stretch that was cut off by the ebb is a point of the plot, too.
            finally:
                self.record.peaks.append(Peak(trio.current_time() / 3600, live, tasks, descriptors, depths))
            self._progress(live)

    def _progress(self, live: int) -> None:
        if self.show:
            print(
                f"{trio.current_time() / 3600:6.2f} h of {self.seconds / 3600:g}, {self.tally.calls} calls, {live} at "
                "once,"
                f" {_rss() / MB:.1f} MB, {len(self.tally.findings)} findings,"
                f" {time.monotonic() - self._began:.0f} s",
                flush=True,
            )

    def _rest(self, servers: Sequence[Server]) -> None:
        """Measure the process while nothing happens."""
        for server in servers:
            ends = server.application.ends
            # Counted by the application, and not by the server that has to call it.
            twice = [f"{call_id}: on_call_end came {count} times" for call_id, count in ends.items() if count != 1]
            self.tally.findings += twice
            # Otherwise the record itself would grow with the calls.
            ends.clear()
        _clean()
        left = self._left()
        kept = sum(_kept(server) for server in servers)
        self.record.rests.append(
            Rest(
                hours=trio.current_time() / 3600,
                calls=self.tally.calls,
                blocks=sys.getallocatedblocks(),
                rss=_rss(),
                objects=len(gc.get_objects()),
                tasks=trio.lowlevel.current_statistics().tasks_living,
                descriptors=_descriptors(),
                kept=kept,
                left=left,
            )
        )
        if self.show:
            print(lines(self.record)[-1], flush=True)

    def _left(self) -> float | None:
        """End the tracing, if there is any, and return the bytes left behind per call."""
        if not tracemalloc.is_tracing():
            return None
        # Read before the snapshot, which allocates.
        left = tracemalloc.get_traced_memory()[0]
        self.left_at = [str(line) for line in tracemalloc.take_snapshot().statistics("lineno")[:MAX_SHOWN_FINDINGS]]
        tracemalloc.stop()
        return left / max(1, self.tally.calls - self.record.rests[-1].calls)


async def _unknown(_: RESTRequest) -> RESTAnswer:
    """Answer as the carrier does when it is asked about a call that its network has forgotten."""
    await trio.lowlevel.checkpoint()
    return RESTAnswer(404, {"code": 20404, "message": "there is no such call", "status": 404})


def _clean() -> None:
    """Free unused memory: garbage, and the standard library's caches of URLs, which change with every call."""
    urllib.parse.clear_cache()
    gc.collect()


def _deepen(depths: dict[str, int], phones: Sequence[Line], servers: Sequence[Server]) -> None:
    """Record the depth of each queue if it is the maximum so far."""
    now: dict[str, list[int]] = {name: [0] for name in depths}
    for server in servers:
        for call in server.phone._live.values():
            now["inbox"].append(call._inbox.waiting)
            now["frames to the VAD"].append(call._conversation._voice_activity._frames.waiting)
            if isinstance(backend := call._conversation.backend, PipelineBackend):
                now["audio to the STT"].append(backend._transcription._feed.waiting)
            now["playout queue, samples"].append(call._conversation.live_reply.samples_waiting)
            now["callbacks"].append(len(call._reporter._callback_queue._queue))
    for phone in phones:
        if phone.carrier is not None:
            now["messages of the simulated line"].append(phone.carrier._network.waiting)
    for name, seen in now.items():
        depths[name] = max(depths[name], *seen)


def _kept(server: Server) -> int:
    call_server = server.call_server
    # Each of these is empty when no call is up; together they are all that holds calls.
    known = (
        0 if call_server is None else len(call_server._events._grace) + len(call_server._events._deliveries._running)
    )
    known += 0 if call_server is None else len(call_server.context.pending) + len(call_server._live)
    return known + len(server.phone._live) + len(server._logs)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) - 1  # without the descriptor that is open for this count


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--hours", type=float, default=3.0, help="hours of virtual time (default: 3)")
    parser.add_argument("--callers", type=int, default=4, help="lines that call concurrently (default: 4)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", metavar="FILE", help="file for the plot (needs the extra 'bench')")
    options = parser.parse_args()
    soak = Soak(options.hours * 3600, callers=options.callers, seed=options.seed)
    wrong = soak.run()
    print("\n".join([*lines(soak.record), "left behind by the last traced stretch:", *soak.left_at]))
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in soak.tally.outcomes.most_common())
    print(f"{soak.tally.calls} calls, {soak.tally.seconds / 3600:.1f} hours of calls: {outcomes}")
    for finding in wrong[:MAX_SHOWN_FINDINGS]:
        print(f"NOT FLAT OR NOT RIGHT: {finding}")
    said = f"{len(wrong)} findings" if wrong else "all flat"
    print(said)
    if options.plot:
        plot(soak.record, options.plot, f"{soak.record.rests[-1].hours:.1f} h, {soak.tally.calls} calls: {said}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
