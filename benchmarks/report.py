"""Tables and plots of the measurements."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

# Not the maximum: it grows with the number of samples, and servers have different numbers.
PERCENTILES: Final = (50, 95, 99)
NAMES: Final = {"ours": "patter_trio", "bare": "bare loop", "pipecat": "pipecat-ai", "getpatter": "getpatter"}
COLOURS: Final = {"ours": "#1f77b4", "bare": "#7f7f7f", "pipecat": "#d62728", "getpatter": "#ff7f0e"}
# Not 1: a single-threaded loop that has work all the time still waits for the kernel now and then.
SATURATED_CPU_SHARE: Final = 0.93
"""Share of its core from which a server counts as saturated."""

Row = Mapping[str, Any]


def pooled(results: Sequence[Row]) -> list[dict[str, Any]]:
    """Join the rounds: one row per server and number of calls, with samples pooled and medians of cost and memory."""
    rows = []
    for calls in sorted({result["calls"] for result in results}):
        for server in NAMES:
            same = [result for result in results if (result["server"], result["calls"]) == (server, calls)]
            if not same:
                continue
            row: dict[str, Any] = {"server": server, "calls": calls, "rounds": len(same)}
            for name in (
                "cpu_ms_per_call_second",
                "server_load",
                "memory_per_call_mb",
                "client_late_p99_ms",
                "client_load",
            ):
                # Medians of what is one number for each round; samples of all rounds together
                # otherwise, so that rare delays remain.
                row[name] = float(np.median([result[name] for result in same]))
            for name in ("turns", "missed", "stray", "gaps", "lost"):
                row[name] = sum(result[name] for result in same)
            for name in ("answers_ms", "clears_ms"):
                samples = [value for result in same for value in result[name]]
                row[name] = {f"p{p}": float(np.percentile(samples, p)) for p in PERCENTILES} if samples else {}
            rows.append(row)
        _compare(rows, calls)
    return rows


def _compare(rows: Sequence[dict[str, Any]], calls: int) -> None:
    bare = next((row for row in rows if (row["server"], row["calls"]) == ("bare", calls)), None)
    for row in rows:
        if bare is not None and row["calls"] == calls:
            # Against the loop in the same run: a ratio holds on another machine, a time does not.
            row["times_bare"] = row["cpu_ms_per_call_second"] / bare["cpu_ms_per_call_second"]


def markdown(rows: Sequence[Row]) -> str:
    """Return the table."""
    lines = [
        (
            "| calls | server | CPU ms per call-second | x bare | core | answer ms p50 / p95 / p99 "
            "| clear ms p50 / p95 / p99 | MB per call | missed turns | gaps | stray |"
        ),
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        load = f"{100 * row['server_load']:.0f} %" + (
            " (saturated)" if row["server_load"] >= SATURATED_CPU_SHARE else ""
        )
        times = f"{row['times_bare']:.2f}" if "times_bare" in row else ""
        cells = [
            str(row["calls"]),
            NAMES[row["server"]],
            f"{row['cpu_ms_per_call_second']:.1f}",
            times,
            load,
            _percentiles(row["answers_ms"]),
            _percentiles(row["clears_ms"]),
            f"{row['memory_per_call_mb']:.2f}",
            f"{row['missed']} of {row['turns']}" + (f", {row['lost']} calls lost" if row["lost"] else ""),
            str(row["gaps"]),
            str(row["stray"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _percentiles(found: Mapping[str, float]) -> str:
    return " / ".join(f"{found[f'p{p}']:.0f}" for p in PERCENTILES) if found else "none"


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw cost and latency over the number of calls; each server up to the first number that it cannot carry."""
    import matplotlib as mpl  # noqa: PLC0415 (an extra)

    # Before pyplot is imported: no display is needed to write a file.
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 (an extra)
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter  # noqa: PLC0415 (an extra)

    figure, axes = plt.subplots(1, 3, figsize=(13, 4.4), constrained_layout=True)
    titles = ("cost", "answer, from the caller's last voiced frame", "clear, from the caller's first voiced frame")
    for server, name in NAMES.items():
        own = _carried([row for row in rows if row["server"] == server])
        for axis, key in zip(axes, ("", "answers_ms", "clears_ms"), strict=True):
            shown = [row for row in own if not key or row[key]]
            calls = [row["calls"] for row in shown]
            middle = [row[key]["p50"] if key else row["cpu_ms_per_call_second"] for row in shown]
            (line,) = axis.plot(calls, middle, "o-", color=COLOURS[server], label=name, markersize=4)
            if key:
                axis.plot(calls, [row[key]["p99"] for row in shown], "--", color=line.get_color(), linewidth=1)
            saturated = [place for place in range(len(shown)) if shown[place]["server_load"] >= SATURATED_CPU_SHARE]
            axis.plot([calls[n] for n in saturated], [middle[n] for n in saturated], "x", color="black", markersize=9)
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("calls at once, on one core (x: core saturated)")
        axis.set_xlim(left=0)
        axis.grid(visible=True, alpha=0.3)
    axes[0].set_ylabel("processor time, ms per second of call")
    axes[0].set_ylim(bottom=0)
    axes[0].legend()
    for axis in axes[1:]:
        axis.set_ylabel("ms (line: p50, dashed: p99)")
        axis.set_yscale("log")
        # Fixed, so that pictures of different runs can be compared.
        axis.set_ylim(150, 8000)
        axis.yaxis.set_major_locator(FixedLocator([200, 300, 500, 700, 1000, 2000, 4000]))
        # A logarithmic axis would write its minor ticks over the fixed ones.
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(ScalarFormatter())
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _carried(rows: Sequence[Row]) -> list[Row]:
    """Return the rows up to the first saturated one: the figures of a saturated server mean nothing."""
    kept: list[Row] = []
    for row in rows:
        kept.append(row)
        if row["server_load"] >= SATURATED_CPU_SHARE:
            break
    return kept
