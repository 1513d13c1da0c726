"""The call log of one server: what its calls write into, while the server runs."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from patter_trio.call_log.entries import RecordingMade
from patter_trio.call_log.writer import LogWriter
from patter_trio.server.options import ServeOptions


@asynccontextmanager
async def open_log(options: ServeOptions) -> AsyncIterator[LogWriter | None]:
    """Open the phone's call log for a server; None without one.

    Raises:
        ConfigurationError: the log is of a newer version.
    """
    if options.call_log is None:
        yield None
        return
    # By the machine's clock, also where a test has another one: what is too old lies in real days.
    async with options.call_log.writing(time.time, options.record_to) as writer:
        yield writer


def logged_in(options: ServeOptions, log: LogWriter | None) -> ServeOptions:
    """Return the options of a server whose calls the log takes."""
    # This server's calls alone: another server of the phone has a writer of its own.
    return options if log is None else attrs.evolve(options, recorder=options.recorder.also_for(log))


def recordings_into(log: LogWriter | None) -> Callable[[str, Path], None]:
    """Return the function that notes the file of a call's recording in the log."""

    def note(call_id: str, file: Path) -> None:
        if log is not None:
            # Absolute: a program that reads the log may run in another folder.
            log.take(RecordingMade(call_id, str(file.absolute())))

    return note
