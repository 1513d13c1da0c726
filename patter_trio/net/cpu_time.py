"""What Linux tells of a thread: how long it was on a core, and how long it waited for one."""

from pathlib import Path


def on_core_and_waiting(thread: Path) -> tuple[int, int] | None:
    """Return both, in nanoseconds; None where the system does not tell, or the thread has ended.

    Args:
        thread: its folder under ``/proc`` (https://docs.kernel.org/scheduler/sched-stats.html).
    """
    try:
        ran, waited, _ = (thread / "schedstat").read_bytes().split()
        return int(ran), int(waited)
    except (OSError, ValueError):
        return None
