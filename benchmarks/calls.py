"""N callers against each server, in one run: cost, latency, memory and missed turns, as a table, JSON and a plot.

``python -m benchmarks.calls --calls 20 60 --servers ours bare pipecat getpatter --plot docs/benchmarks.png``
"""

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmarks.processes import ROOT, description_of, pinned, processors, started
from benchmarks.report import markdown, plot, pooled
from benchmarks.setup_peers import DEFAULT_FOLDER, PEERS, installed, interpreter
from benchmarks.sounds import write_answer

# Each server runs in a fresh process on one core, the callers in another process on the other. All servers are measured
# at one number of calls before the number grows: what disturbs a shared machine for minutes then disturbs all of them.
# Cost is the server's own processor time as the kernel counts it, so that other processes distort latencies only.

SERVERS: Final = ("ours", "bare", *PEERS)


def command(name: str, peers: Path) -> list[str]:
    """Return the command that starts a server, without its arguments."""
    if name in PEERS:
        return [str(interpreter(peers, name)), str(ROOT / "benchmarks" / "servers" / f"{name}.py")]
    return [sys.executable, "-m", f"benchmarks.servers.{name}"]


@contextmanager
def serving(
    name: str,
    sounds: Path,
    *arguments: str,
    peers: Path = DEFAULT_FOLDER,
    core: int = -1,
    nice: int = 0,
) -> Iterator[Any]:
    """Run a server and yield its description of itself; its log goes to a file beside the sounds."""
    log = sounds / f"{name}.log"
    # Before the server starts: threads that it makes inherit core and niceness.
    with started([*command(name, peers), str(sounds), *arguments], log, pinned(core, nice)) as server:
        try:
            yield description_of(server, name, log)
        finally:
            if server.stdout is not None:
                # First: a server that goes on printing fails at its next line instead of waiting for a reader.
                server.stdout.close()
            server.terminate()
            # What does not end when asked is killed, so that it does not run beside the next server.
            with suppress(subprocess.TimeoutExpired):
                # Judged: longer than any of the servers takes to end its calls and, under
                # ``--profile``, to write its samples.
                server.wait(10)


def measure(
    about: dict[str, Any], calls: int, seconds: float, *, settling: float = 12.0, core: int = -1, nice: int = 0
) -> dict[str, Any]:
    """Run the callers' process for the calls, and return its measurements.

    ``stolen`` is the share of time for which the hypervisor gave the processors to others meanwhile (as Linux reports
    it).
    """
    # The seed is the number of calls: all servers get callers that begin at the same instants.
    task = {"measure": {"server": about, "calls": calls, "seconds": seconds, "settling": settling}, "seed": calls}
    stolen_before, all_before = processors()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.client", json.dumps(task)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        # Connecting is not in the two: a saturated server may take a minute to accept all calls.
        timeout=seconds + settling + 120,
        check=False,
        preexec_fn=pinned(core, nice),
    )
    if done.returncode:
        raise RuntimeError(f"the callers failed: {done.stderr[-2000:]}")
    stolen, total = processors()
    share = (stolen - stolen_before) / max(1, total - all_before)
    result: dict[str, Any] = {"stolen": share, **json.loads(done.stdout)}
    return result


def machine(servers: Sequence[str], peers: Path) -> dict[str, Any]:
    """Return the hardware and versions on which the results depend."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    libraries = ("trio", "websockets", "msgspec", "numpy", "onnxruntime", "hypercorn")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in libraries},
        "peers": {name: installed(peers, name) for name in servers if name in PEERS},
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything requested; a server that fails at a number of calls is not measured with more."""
    results: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    # One core for the server: the figures are those of a core, whatever the machine has.
    # By the environment, which the server and the callers inherit. The port is free: it was bound a moment ago.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.environ.update(BENCHMARK_CARRIER=options.carrier, BENCHMARK_API_PORT=str(listener.getsockname()[1]))
    cores = (0, 1) if (os.cpu_count() or 1) > 1 and not options.unpinned else (-1, -1)
    with tempfile.TemporaryDirectory() as folder:
        sounds = Path(folder)
        write_answer(sounds)
        os.environ.update(
            BENCHMARK_LOG=str(sounds / "calls.db") if options.persist else "",
            BENCHMARK_DASHBOARD="yes" if options.dashboard else "",
        )
        for number in range(options.rounds):
            for calls in options.calls:
                for name in options.servers:
                    # A server that failed at a number of calls would only take time to fail at a larger one.
                    if name in failed or calls > options.limits.get(name, calls):
                        continue
                    try:
                        with serving(name, sounds, peers=options.peers, core=cores[0], nice=options.nice) as about:
                            result = measure(
                                about,
                                calls,
                                options.seconds,
                                settling=options.settling,
                                core=cores[1],
                                nice=options.nice,
                            )
                    # The other servers' results are worth keeping: hours may have gone into them.
                    except (RuntimeError, subprocess.TimeoutExpired, OSError) as error:
                        failed[name] = f"at {calls} calls: {error}"
                        print(f"{name} failed {failed[name]}", file=sys.stderr)
                        continue
                    results.append({"server": name, "round": number, **result})
                    print(
                        f"{name:10} {calls:4} calls: {result['cpu_ms_per_call_second']:.2f} ms per call-second, "
                        f"{result['missed']} of {result['turns']} turns missed, "
                        f"{result['stolen']:.1%} stolen",
                        file=sys.stderr,
                    )
    names = ("calls", "seconds", "rounds", "settling", "nice", "carrier", "persist", "dashboard")
    settings = {name: getattr(options, name) for name in names}
    return {
        "machine": machine(options.servers, options.peers),
        "settings": settings | {"pinned": cores[0] >= 0},
        "failed": failed,
        "rows": pooled(results),
        "runs": results,
    }


def _limit(text: str) -> tuple[str, int]:
    name, _, calls = text.partition("=")
    return name, int(calls)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calls", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, nargs="+", default=[20, 60], help="numbers of calls at once")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each window of measurement")
    parser.add_argument("--settling", type=float, default=12.0, help="seconds of calls before the window")
    parser.add_argument(
        "--carrier",
        choices=("twilio", "telnyx", "plivo"),
        default="twilio",
        help="whose protocol our server is called in",
    )
    parser.add_argument("--persist", action="store_true", help="our server logs the calls, in SQLite")
    parser.add_argument("--dashboard", action="store_true", help="our server serves the dashboard; nobody looks")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=["ours", "bare"])
    parser.add_argument(
        "--rounds", type=int, default=1, help="number of repetitions of all measurements; samples are pooled"
    )
    parser.add_argument(
        "--limit", type=_limit, nargs="*", default=[], dest="limits", help="server=maximum calls, to save time"
    )
    parser.add_argument("--peers", type=Path, default=DEFAULT_FOLDER, help="where setup_peers made its environments")
    parser.add_argument("--nice", type=int, default=0, help="niceness of server and callers, for a shared machine")
    parser.add_argument("--unpinned", action="store_true", help="let server and callers share all cores")
    parser.add_argument("--json", type=Path, help="file for everything measured")
    parser.add_argument("--markdown", type=Path, help="file for the table, which is always printed")
    parser.add_argument("--plot", type=Path, help="file for the plot (needs the extra 'bench')")
    parser.add_argument("--from-json", type=Path, help="measure nothing; make table and plot of an earlier run")
    options = parser.parse_args(arguments)
    options.limits = dict(options.limits)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    report = json.loads(options.from_json.read_text()) if options.from_json else run(options)
    table = markdown(report["rows"])
    print(table)
    if options.markdown:
        options.markdown.write_text(table)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    if options.plot:
        plot(report["rows"], options.plot)


if __name__ == "__main__":
    main()
