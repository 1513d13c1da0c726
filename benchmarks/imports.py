"""The cost of importing the package: ``python -m benchmarks.imports [--repeat N] [PATH ...]``.

Each program runs in a process of its own, N times after one warm-up; the table has medians, minus the time of an
interpreter that imports nothing. With several paths, each the root of a checkout, the checkouts take turns, so that
other load on the machine affects all of them alike.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Final

PROGRAMS: Final = (
    "import trio",
    "import patter_trio",
    "import patter_trio.pytest_plugin",
    "import patter_trio.testing",
    "from patter_trio import Patter, Twilio; Patter()",
    "from patter_trio import *",
)

Sample = tuple[float, float]
"""Wall-clock and processor time in seconds."""


def run(program: str, path: Path) -> Sample:
    """Run a program in a new interpreter that finds the package in ``path``."""
    # And from the root folder, so that the program cannot find the package anywhere else.
    environment = {**os.environ, "PYTHONPATH": str(path)}
    used, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", program], env=environment, cwd="/", check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime


def measured(paths: list[Path], repeat: int) -> dict[tuple[str, Path], Sample]:
    """Return the median of each program and path."""
    samples: dict[tuple[str, Path], list[Sample]] = {}
    # Program by program and path by path in each turn: load that changes within minutes affects all of them.
    for turn in range(repeat + 1):
        for program in ("pass", *PROGRAMS):
            for path in paths:
                sample = run(program, path)
                if turn:  # the first round writes byte code and fills the page cache
                    samples.setdefault((program, path), []).append(sample)
    return {key: (median(wall for wall, _ in kept), median(cpu for _, cpu in kept)) for key, kept in samples.items()}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=15, help="runs of each program (default: %(default)s)")
    parser.add_argument("paths", metavar="PATH", nargs="*", type=Path, default=[Path(__file__).parents[1]])
    options = parser.parse_args()
    paths = [path.resolve() for path in options.paths]
    found = measured(paths, options.repeat)
    print("| program |" + "".join(f" {path.name}: ms, CPU ms |" for path in paths))
    print("|---|" + "---:|" * len(paths))
    for program in PROGRAMS:
        cells = ""
        for path in paths:
            # Without the interpreter's own start, which is most of a small import.
            wall, cpu = (1000 * (a - b) for a, b in zip(found[program, path], found["pass", path], strict=True))
            cells += f" {wall:.0f}, {cpu:.0f} |"
        print(f"| `{program}` |{cells}")


if __name__ == "__main__":
    main()
