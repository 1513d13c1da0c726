"""From measurements to a table and a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

PERCENTILES: Final = (50, 95, 99)
NAMES: Final = {"ours": "patter_trio", "bare": "bare loop", "pipecat": "pipecat-ai", "getpatter": "getpatter"}
COLOURS: Final = {"ours": "#1f77b4", "bare": "#7f7f7f", "pipecat": "#d62728", "getpatter": "#ff7f0e"}
SATURATED: Final = 0.93
"""Share of its core from which a server counts as saturated."""

Row = Mapping[str, Any]


def pooled(results: Sequence[Row]) -> list[dict[str, Any]]:
    """Join the rounds: one row per server and number of calls, samples pooled, cost and memory as medians."""
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
        load = f"{100 * row['server_load']:.0f} %" + (" (saturated)" if row["server_load"] >= SATURATED else "")
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
    """Draw cost and latency over the number of calls."""
    import matplotlib as mpl  # noqa: PLC0415 (an extra)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), constrained_layout=True)
    panels = (
        ("cost", "CPU ms per second of call", lambda row: row["cpu_ms_per_call_second"], None),
        (
            "answer, from the caller's last voiced frame",
            "ms (line: p50, band to p99)",
            lambda row: row["answers_ms"].get("p50"),
            lambda row: row["answers_ms"].get("p99"),
        ),
        (
            "clear, from the caller's first voiced frame",
            "ms (line: p50, band to p99)",
            lambda row: row["clears_ms"].get("p50"),
            lambda row: row["clears_ms"].get("p99"),
        ),
    )
    for axis, (title, label, middle, worst) in zip(axes, panels, strict=True):
        for server, name in NAMES.items():
            own = [row for row in rows if row["server"] == server and middle(row) is not None]
            if not own:
                continue
            calls = [row["calls"] for row in own]
            axis.plot(calls, [middle(row) for row in own], "o-", color=COLOURS[server], label=name, markersize=4)
            if worst is not None:
                values = [list(map(function, own)) for function in (middle, worst)]
                axis.fill_between(calls, *values, color=COLOURS[server], alpha=0.15)
            for row in own:
                if row["server_load"] >= SATURATED:
                    axis.annotate(
                        "saturated",
                        (row["calls"], middle(row)),
                        fontsize=7,
                        color=COLOURS[server],
                        textcoords="offset points",
                        xytext=(4, 4),
                    )
        axis.set_title(title)
        axis.set_xlabel("calls at once, on one core")
        axis.set_ylabel(label)
        axis.grid(visible=True, alpha=0.3)
        axis.set_ylim(bottom=0)
        axis.set_xlim(left=0)
    top = max((row["answers_ms"]["p99"] for row in rows if row["answers_ms"]), default=0)
    if top > 3000:
        axes[1].set_ylim(0, 3000)
    axes[0].legend()
    figure.savefig(path, dpi=130)
    plt.close(figure)
