"""The soak's measurements, their verdict and their plot. Pure, except for writing the plot's file."""

import itertools
import statistics
from collections.abc import Sequence
from typing import Any, Final

import attrs

MB: Final = 1024 * 1024
MAX_PYTHON_BYTES_PER_CALL: Final = 700.0
"""Bytes of Python objects per call that were made in a traced stretch and still exist after it. Some replaced older
objects in the interpreter's free lists and in bounded caches, so this is not growth. A leaked event would add 700, a
leaked call 20 000.
"""
MAX_BLOCKS_PER_CALL: Final = 0.5
"""Maximum growth in blocks of memory per call; the record of the soak itself takes 0.2."""
# Coarse, because the kernel's pages are; a leaked call would be ten times as much.
MAX_RSS_BYTES_PER_CALL: Final = 2048.0
"""Maximum growth of the process in bytes per call: the allocator does not return all of its arenas."""
# A leak is at least one object for each call.
MAX_OBJECTS_PER_CALL: Final = 0.5
MIN_MEASURED_CALLS: Final = 300
"""Minimum number of calls for a verdict on memory: with fewer, filling caches outweighs what calls could leave behind.
"""
WARM_UP_DIVISOR: Final = 3
"""Divisor of the run for the warm-up: the first third fills caches (of the interpreter, of codecs), and does not count.
"""


@attrs.frozen
class Rest:
    """The process while neither a call nor a callback is running."""

    hours: float
    calls: int
    """Number of calls since the beginning."""
    blocks: int
    """Memory blocks that the interpreter's allocator has given out."""
    rss: int
    """Resident bytes of the process."""
    objects: int
    """Objects that the garbage collector tracks."""
    tasks: int
    descriptors: int
    kept: int
    """Calls, announced calls, observers and logs that the servers still hold."""
    left: float | None = None
    """Bytes of Python objects per call, by tracemalloc, that the stretch before this rest left behind, if it was
    traced.
    """


@attrs.frozen
class Peak:
    """The maxima of a stretch of time with calls."""

    hours: float
    live: int
    tasks: int
    descriptors: int
    depths: dict[str, int]
    """The maximum depth by queue, in the queue's own unit."""


@attrs.define
class Record:
    """All measurements."""

    rests: list[Rest] = attrs.field(factory=list)
    peaks: list[Peak] = attrs.field(factory=list)
    bounds: dict[str, int] = attrs.field(factory=dict)
    """The bound of each queue."""
    may_fill: frozenset[str] = frozenset()
    """Queues that are full while their consumer stalls: they drop the oldest item, or make the producer wait."""


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the median of the slopes between all pairs of points, which outliers do not distort."""
    # By Theil and Sen: up to a quarter of the points may be anything.
    slopes = [
        (after[1] - before[1]) / (after[0] - before[0])
        for before, after in itertools.combinations(points, 2)
        if after[0] != before[0]
    ]
    return statistics.median(slopes) if slopes else 0.0


def growth(rests: Sequence[Rest], name: str) -> float:
    """Return the growth of a measure per call, after the warm-up."""
    # Per call, not per hour: what leaks does so with calls.
    settled = rests[len(rests) // WARM_UP_DIVISOR :]
    return slope([(rest.calls, getattr(rest, name)) for rest in settled])


def verdict(record: Record) -> list[str]:
    """Return the measures that grew or the things left behind; an empty list means that all is flat."""
    found: list[str] = []
    limits = {"blocks": MAX_BLOCKS_PER_CALL, "rss": MAX_RSS_BYTES_PER_CALL, "objects": MAX_OBJECTS_PER_CALL}
    many = record.rests[-1].calls >= MIN_MEASURED_CALLS
    for name, limit in limits.items():
        grown = growth(record.rests, name)
        # Only growth: memory that is given back is no fault.
        if many and grown > limit:
            found.append(f"{name} grows by {grown:.1f} per call (limit {limit:g})")
    # Without the first rest, whose stretch filled the caches.
    left = [rest.left for rest in record.rests[1:] if rest.left is not None]
    if many and left and statistics.median(left) > MAX_PYTHON_BYTES_PER_CALL:
        found.append(f"bytes left behind per call: {' '.join(f'{each:.0f}' for each in left)}")
    for name in ("tasks", "descriptors", "kept"):
        seen = {getattr(rest, name) for rest in record.rests}
        # Equal at all rests, to the unit: these are counts, which nothing but a leak changes.
        if len(seen) > 1:
            found.append(f"{name} at rest: {' '.join(str(getattr(rest, name)) for rest in record.rests)}")
    for queue, bound in record.bounds.items():
        deepest = max((peak.depths.get(queue, 0) for peak in record.peaks), default=0)
        # A queue that may fill is full now and then; one that may not has to stay below its bound.
        if deepest > bound or (deepest == bound and queue not in record.may_fill):
            found.append(f"{queue} was full: {deepest} of {bound}")
        grown = slope([(peak.hours, peak.depths.get(queue, 0)) for peak in record.peaks])
        # A tenth of the bound over the whole run: a trend, and not the difference between two calls.
        if grown * record.peaks[-1].hours > bound / 10:
            found.append(f"{queue} gets deeper: by {grown:.1f} an hour (bound {bound})")
    return found


def lines(record: Record) -> list[str]:
    """Return the measures as a table."""
    rows = ["   hours   calls    blocks   objects   RSS MB  tasks  fds  kept  bytes left per call"]
    rows += [
        f"{rest.hours:8.2f}{rest.calls:8d}{rest.blocks:10d}{rest.objects:10d}{rest.rss / MB:9.1f}"
        f"{rest.tasks:7d}{rest.descriptors:5d}{rest.kept:6d}{'' if rest.left is None else f'{rest.left:15.1f}'}"
        for rest in record.rests
    ]
    return rows


def plot(record: Record, file: str, title: str) -> None:
    """Draw the plot; needs matplotlib (the extra ``bench``)."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (only for the picture, and of an extra)

    hours = [rest.hours for rest in record.rests]
    peak_hours = [peak.hours for peak in record.peaks]
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    figure.suptitle(title)
    _memory(axes[0][0], hours, record)
    tasks, descriptors, depths = axes[0][1], axes[1][0], axes[1][1]
    tasks.plot(peak_hours, [peak.tasks for peak in record.peaks], label="most, with calls up")
    tasks.plot(hours, [rest.tasks for rest in record.rests], "o-", label="at rest")
    tasks.set_title("tasks")
    descriptors.plot(peak_hours, [peak.descriptors for peak in record.peaks], label="most, with calls up")
    descriptors.plot(hours, [rest.descriptors for rest in record.rests], "o-", label="at rest")
    descriptors.set_title("file descriptors")
    descriptors.set_xlabel("hours of virtual time")
    for queue, bound in record.bounds.items():
        # The axis is logarithmic, and an empty queue has no place on it.
        depth = [max(0.05, 100 * peak.depths.get(queue, 0) / bound) for peak in record.peaks]
        depths.plot(peak_hours, depth, label=f"{queue} ({bound})")
    depths.set_yscale("log")
    depths.axhline(100, color="black", linewidth=0.8)
    depths.set_title("deepest queues, % of their bound")
    depths.set_xlabel("hours of virtual time")
    for axis in (tasks, descriptors, depths):
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    for axis in (tasks, descriptors):
        axis.set_ylim(bottom=0)
    figure.savefig(file, dpi=110)


def _memory(axis: Any, hours: Sequence[float], record: Record) -> None:
    (blocks,) = axis.plot(
        hours, [rest.blocks / 1000 for rest in record.rests], "o-", label="blocks of Python, thousands"
    )
    (objects,) = axis.plot(hours, [rest.objects / 1000 for rest in record.rests], "^-", label="objects, thousands")
    axis.set_ylim(bottom=0, top=1.5 * max(rest.blocks for rest in record.rests) / 1000)
    right = axis.twinx()
    rss = [rest.rss / MB for rest in record.rests]
    (process,) = right.plot(hours, rss, "s-", color="tab:red", label="process, MB (right)")
    right.set_ylim(bottom=0, top=1.2 * max(rss))
    axis.legend(handles=[blocks, objects, process], fontsize=8, loc="lower left")
    axis.set_title("memory at rest")
    axis.grid(alpha=0.3)
