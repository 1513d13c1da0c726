"""Which code runs in the thread of a test, to show that other threads do what takes long."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def files_run_here() -> Iterator[set[str]]:
    """Yield the names of the files whose functions this thread enters within the block."""
    files = set[str]()

    def noted(frame: FrameType, event: str, argument: Any) -> None:
        del event, argument
        files.add(frame.f_code.co_filename)

    before = sys.getprofile()
    # Of this thread alone; others have profiles of their own.
    sys.setprofile(noted)
    try:
        yield files
    finally:
        sys.setprofile(before)
