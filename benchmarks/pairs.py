"""Two servers under the same callers at the same time, on one core: the ratio of what they cost.

``python -m benchmarks.pairs --before CHECKOUT [--calls 20] [--pairs 5]`` compares another checkout with this one, and
``python -m benchmarks.pairs --carriers twilio telnyx`` compares two carriers. ``python -m benchmarks.pairs --with
persist dashboard`` compares this checkout without and with the call log and the dashboard.

On a shared machine equal runs one after the other differ by up to a quarter, because the speed of a core changes from
minute to minute. Two servers that run at once have the same core at the same speed: the ratios of equal servers are
within a few percent of 1. Both must fit on the core together; 20 calls each do.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs

ROOT: Final = Path(__file__).parents[1]


@attrs.frozen
class Side:
    """One of the two: its name, the folder of its checkout, the Python that has its packages, and its options."""

    name: str
    folder: Path
    python: str
    options: tuple[str, ...] = ()

    def start(self, options: argparse.Namespace, result: Path) -> "subprocess.Popen[bytes]":
        """Start the benchmark of the calls; it pins server and callers to the cores that the other side uses."""
        load = ("--calls", str(options.calls), "--seconds", str(options.seconds), "--settling", str(options.settling))
        command = (self.python, "-m", "benchmarks.calls", "--servers", "ours", *load, *self.options)
        # The table that it prints is of one side alone.
        return subprocess.Popen(
            (*command, "--json", str(result)), cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


def sides_of(options: argparse.Namespace) -> tuple[Side, Side]:
    """Return the two sides that the command line names."""
    if options.carriers:
        first, second = (Side(name, ROOT, sys.executable, ("--carrier", name)) for name in options.carriers)
        return first, second
    if options.options:
        more = tuple(f"--{name}" for name in options.options)
        return Side("without", ROOT, sys.executable), Side("with", ROOT, sys.executable, more)
    python = options.python or str(options.before / ".venv" / "bin" / "python")
    return Side("before", options.before.resolve(), python), Side("after", ROOT, sys.executable)


@attrs.frozen
class Measured:
    """What one side of a pair measured.

    Attributes:
        cost: milliseconds of processor time per second of call.
        answer: milliseconds from the end of a question to the answer, the median.
        clear: milliseconds from the voice over an answer to ``clear``, the median.
    """

    cost: float
    answer: float
    clear: float


Pair = tuple[Measured, Measured]


def run_pair(sides: tuple[Side, Side], options: argparse.Namespace) -> Pair:
    """Run both sides at once; return what each measured."""
    with tempfile.TemporaryDirectory() as folder:
        results = [Path(folder) / f"{number}.json" for number in range(2)]
        running = [side.start(options, result) for side, result in zip(sides, results, strict=True)]
        # Both are waited for before either is judged: what is left of a pair would disturb the next one.
        ended = [process.wait() for process in running]
        if any(ended):
            raise SystemExit(
                f"a side of the pair failed: exit status {ended[0]} of {sides[0].name}, {ended[1]} of the other"
            )
        first, second = (_measured(json.loads(result.read_text())) for result in results)
        return first, second


def _measured(report: dict[str, Any]) -> Measured:
    [row] = report["rows"]
    return Measured(row["cpu_ms_per_call_second"], row["answers_ms"]["p50"], row["clears_ms"]["p50"])


def table(sides: tuple[Side, Side], pairs: Sequence[Pair]) -> str:
    """Return the pairs as a table in Markdown, with the median of their ratios and delays below it."""
    first, second = (side.name for side in sides)
    ratios = [after.cost / before.cost for before, after in pairs]
    rows = [
        f"| {before.cost:.2f} | {after.cost:.2f} | {after.cost / before.cost:.3f} "
        f"| {before.answer:.0f} / {after.answer:.0f} | {before.clear:.0f} / {after.clear:.0f} |"
        for before, after in pairs
    ]
    answer = statistics.median(after.answer - before.answer for before, after in pairs)
    clear = statistics.median(after.clear - before.clear for before, after in pairs)
    return "\n".join(
        (
            f"| {first}: CPU ms per call-second | {second} | ratio | answer ms p50 | clear ms p50 |",
            "|---:|---:|---:|---:|---:|",
            *rows,
            "",
            f"{second} / {first}: median {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}",
            f"medians of the delays: answers {answer:+.1f} ms, clears {clear:+.1f} ms",
        )
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pairs", description=(__doc__ or "").splitlines()[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--before", type=Path, metavar="CHECKOUT", help="another checkout of the project")
    which.add_argument("--carriers", nargs=2, choices=("twilio", "telnyx", "plivo"), help="two carriers")
    which.add_argument(
        "--with",
        dest="options",
        nargs="+",
        choices=("persist", "dashboard"),
        help="this checkout without and with the call log or the dashboard",
    )
    parser.add_argument("--python", help="the Python of the other checkout (default: CHECKOUT/.venv/bin/python)")
    parser.add_argument("--calls", type=int, default=20, help="number of calls at once, of each side (default: 20)")
    parser.add_argument("--pairs", type=int, default=5, help="number of pairs (default: 5)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the window (default: 20)")
    parser.add_argument("--settling", type=float, default=8.0, help="seconds of calls before the window (default: 8)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print each pair and the table."""
    options = parse(arguments)
    sides = sides_of(options)
    pairs: list[Pair] = []
    for number in range(options.pairs):
        pairs.append(run_pair(sides, options))
        print(f"pair {number + 1} of {options.pairs}: {pairs[-1][1].cost / pairs[-1][0].cost:.3f}", file=sys.stderr)
    print(table(sides, pairs))


if __name__ == "__main__":
    main()
