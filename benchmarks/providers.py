"""The cost of a provider on top of its vendor: processor time and latency per chunk of audio and per token, beside a
raw loop.

``python -m benchmarks.providers --seconds 10 --rounds 5 --markdown providers.md``
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import numpy as np
import trio

from benchmarks import provider_loops as ours
from benchmarks import provider_raw as raw
from benchmarks.calls import serving
from benchmarks.processes import ROOT, pinned, processors
from benchmarks.report import PERCENTILES
from benchmarks.sampling import sampled

# A provider and its raw loop run in turn, each in a fresh process on one core, against a fresh fake of the vendor on
# the other. What is compared is a ratio within one round, so that a machine that is slower for a minute is slower for
# both. Cost is processor time of the client's process only; what the fake costs does not count.

WARM_UP_S: Final = 2.5
"""Seconds of use before the measurement; sessions begin spread over the first half, so that they are not in step."""
# Everything that a child does besides its window: starting, importing, connecting, warming up.
SERVER_START_TIMEOUT_S: Final = 60.0


@attrs.frozen
class Pair:
    """A provider and its raw loop.

    Args:
        name: the name in the table.
        item: the unit that is counted.
        port: index of the vendor's port among the server's.
        loops: the loops by name: ``ours``, ``raw``, and ``pace``, the part that both have in common, if there is one.
    """

    name: str
    item: str
    port: int
    loops: Mapping[str, ours.Loop]


PAIRS: Final = {
    "stt": Pair(
        "DeepgramSTT",
        "20 ms of audio",
        0,
        # Sending 50 frames a second has a cost of its own, the timers, which no provider
        # can avoid: measured alone, taken off.
        {"ours": ours.deepgram, "raw": raw.deepgram, "pace": ours.no_stt},
    ),
    "llm": Pair("OpenAILLM", "token", 1, {"ours": ours.openai, "raw": raw.openai}),
    "tts": Pair("ElevenLabsTTS", "chunk of 250 ms", 2, {"ours": ours.elevenlabs, "raw": raw.elevenlabs}),
    "tts-http": Pair(
        'ElevenLabsTTS, "http"', "piece of 250 ms", 2, {"ours": ours.elevenlabs_http, "raw": raw.elevenlabs_http}
    ),
}


# One loop, in a process of its own ------------------------------------------------------------------------------------
async def use(
    loop: ours.Loop, port: int, sessions: int, seconds: float, *, warming: float = WARM_UP_S
) -> dict[str, Any]:
    """Run ``sessions`` concurrent sessions for ``seconds``; return their work and its cost to this process."""
    counts = [ours.Count() for _ in range(sessions)]
    async with trio.open_nursery() as nursery:
        for number, count in enumerate(counts):
            # Spread, so that the sessions' frames, tokens and replies do not come all at the same instant.
            nursery.start_soon(loop, port, count, number / sessions * warming / 2)
        await trio.sleep(warming)
        for count in counts:
            # Only the counts begin anew; the sessions go on as they are.
            count.items = 0
            count.late.clear()
        # Right before and right after the window: items, time and cost are of the same stretch.
        began, cost = time.perf_counter(), time.process_time()
        await trio.sleep(seconds)
        cost, took = time.process_time() - cost, time.perf_counter() - began
        # After the measurement: closing twenty sessions is not part of it.
        nursery.cancel_scope.cancel(reason="measured")
    items = sum(count.items for count in counts)
    return {
        "items": items,
        "cpu_us": cost / max(1, items) * 1e6,
        "load": cost / took,
        "late_us": [late for count in counts for late in count.late],
    }


def child(task: Mapping[str, Any]) -> None:
    """Run one measurement, and print its result."""
    loop = PAIRS[task["pair"]].loops[task["loop"]]
    with sampled(Path(task["profile"]) if task["profile"] else None):
        using = partial(use, loop, task["port"], task["sessions"], task["seconds"], warming=task["warming"])
        result = trio.run(using)
    print(json.dumps(result))


# All measurements -----------------------------------------------------------------------------------------------------
def measure(pair: str, loop: str, options: argparse.Namespace, cores: tuple[int, int]) -> dict[str, Any]:
    """Measure one loop against a fresh server; ``stolen`` is as in ``benchmarks.calls``."""
    with (
        tempfile.TemporaryDirectory() as folder,
        # A fresh server for each loop: the fakes record all they get, and would grow from one to the next.
        serving("vendors", Path(folder), core=cores[0], nice=options.nice) as about,
    ):
        task = {"pair": pair, "loop": loop, "port": about["ports"][PAIRS[pair].port]}
        task |= {"sessions": options.sessions, "seconds": options.seconds, "warming": options.warming}
        task["profile"] = str(options.profile / f"{pair}-{loop}.json") if options.profile else ""
        stolen_before, all_before = processors()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.providers", "--child", json.dumps(task)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            # A loop that hangs fails the run instead of holding it up overnight.
            timeout=options.seconds + SERVER_START_TIMEOUT_S,
            check=False,
            preexec_fn=pinned(cores[1], options.nice),
        )
    if done.returncode:
        raise RuntimeError(f"{pair} {loop} failed: {done.stderr[-2000:]}")
    stolen, total = processors()
    result: dict[str, Any] = json.loads(done.stdout)
    return {"pair": pair, "loop": loop, "stolen": (stolen - stolen_before) / max(1, total - all_before), **result}


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure everything requested; loops that are compared run one right after the other, in alternating order."""
    cores = (0, 1) if (os.cpu_count() or 1) > 1 and not options.unpinned else (-1, -1)
    results: list[dict[str, Any]] = []
    for number in range(options.rounds):
        for pair in options.providers:
            names = list(PAIRS[pair].loops)
            # In alternating order: whichever runs second would profit, or suffer, from
            # what the first left in the caches.
            for loop in names if number % 2 else reversed(names):
                result = {"round": number, **measure(pair, loop, options, cores)}
                results.append(result)
                print(
                    f"round {number + 1}: {pair:8} {loop:4} {result['items']:6} items, {result['cpu_us']:6.1f} us "
                    f"each, {result['load']:.0%} of a core, {result['stolen']:.1%} stolen",
                    file=sys.stderr,
                )
    return results


def compared(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each provider: medians over the rounds of each round's results; latencies are of all rounds."""
    rows: list[dict[str, Any]] = []
    for pair in dict.fromkeys(result["pair"] for result in results):
        mine = [result for result in results if result["pair"] == pair]
        # The ratio is made within each round, and only then its median: a ratio of medians would mix rounds.
        by_round = [
            {result["loop"]: result for result in mine if result["round"] == number}
            for number in sorted({result["round"] for result in mine})
        ]
        row: dict[str, Any] = {"pair": pair, "rounds": len(by_round)}
        pace = [loops["pace"]["cpu_us"] if "pace" in loops else 0.0 for loops in by_round]
        costs = {
            loop: [loops[loop]["cpu_us"] - less for loops, less in zip(by_round, pace, strict=True)]
            for loop in ("ours", "raw")
        }
        ratios = [one / other for one, other in zip(costs["ours"], costs["raw"], strict=True)]
        for loop in ("ours", "raw"):
            # Samples of all rounds together: a 99th percentile needs many.
            late = [value for result in mine if result["loop"] == loop for value in result["late_us"]]
            row[loop] = {
                "cpu_us": float(np.median(costs[loop])),
                "late_us": [float(np.percentile(late, p)) for p in PERCENTILES] if late else [],
                "messages": len(late),
            }
        row["ratio"] = float(np.median(ratios))
        row["ratios"] = [min(ratios), max(ratios)]
        row["stolen"] = max(result["stolen"] for result in mine)
        rows.append(row)
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table."""
    lines = [
        (
            "| provider | item | CPU us per item: ours | raw | ratio (least to most) "
            "| latency us p50 / p95 / p99: ours | raw | added |"
        ),
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        pair, mine, other = PAIRS[row["pair"]], row["ours"], row["raw"]
        added = [one - less for one, less in zip(mine["late_us"], other["late_us"], strict=True)]
        cells = [
            f"`{pair.name}`" if pair.name.isidentifier() else pair.name,
            pair.item,
            f"{mine['cpu_us']:.0f}",
            f"{other['cpu_us']:.0f}",
            f"{row['ratio']:.2f} ({row['ratios'][0]:.2f} to {row['ratios'][1]:.2f})",
            *(" / ".join(f"{value:.0f}" for value in values) for values in (mine["late_us"], other["late_us"], added)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


EPILOG: Final = """
how to read it:
  CPU       processor time of the client's process over the window, per item: a frame of 20 ms that is sent, with its
            share of the results that come back (each 200 ms, and at the end of each voice); a token; a chunk of speech.
            The pace of the frames (a timer for each) is in both loops; it is measured alone, and taken off.
  ratio     ours over raw, within each round: the median of the rounds, and the least and the most.
  latency   from the moment at which the vendor's message leaves its process to that at which the program has its words,
            its token or its audio. The fake writes the time into each message on its way out.

The fakes are those of patter_trio.testing.servers, in a process of their own on core 0; the client is on core 1, a
process for each loop. --nice -15 (as root) helps on a machine that others use; more rounds help everywhere.
"""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.providers",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--providers", nargs="+", choices=list(PAIRS), default=list(PAIRS), help="which to measure")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each window of measurement (10)")
    parser.add_argument("--warming", type=float, default=WARM_UP_S, help="seconds of use before the window (2.5)")
    parser.add_argument("--rounds", type=int, default=5, help="number of repetitions of all measurements (5)")
    parser.add_argument("--sessions", type=int, default=20, help="concurrent calls, in one process (20)")
    parser.add_argument("--nice", type=int, default=0, help="niceness of both processes, for a shared machine")
    parser.add_argument("--unpinned", action="store_true", help="let both processes share all cores")
    parser.add_argument("--markdown", type=Path, help="file for the table, which is always printed")
    parser.add_argument("--json", type=Path, help="file for everything measured")
    parser.add_argument("--profile", type=Path, help="folder for profiles; sampling adds to the cost")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.child:
        child(options.child)
        return
    results = run(options)
    table = markdown(compared(results))
    print(table)
    if options.markdown:
        options.markdown.write_text(table)
    if options.json:
        options.json.write_text(json.dumps(results))


if __name__ == "__main__":
    main()
