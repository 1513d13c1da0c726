"""Linux's statistics of a thread: how long it ran on a core, and how long it waited for one."""

from pathlib import Path


def on_core_and_waiting(thread: Path) -> tuple[int, int] | None:
    """Return the running and the waiting time in nanoseconds; None without figures, or if the thread ended.

    Args:
        thread: its folder under ``/proc`` (https://docs.kernel.org/scheduler/sched-stats.html).
    """
    try:
        ran, waited, _ = (thread / "schedstat").read_bytes().split()
        return int(ran), int(waited)
    # Another system, a kernel without these figures, or a thread that has ended: the caller does without.
    except (OSError, ValueError):
        return None
