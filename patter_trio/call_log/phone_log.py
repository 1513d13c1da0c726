"""The call log of a phone: where its servers write, and where its calls are read."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patter_trio.call_log.options import CallLog
from patter_trio.call_log.redaction import Redaction
from patter_trio.call_log.writer import LogWriter, open_writer

if TYPE_CHECKING:
    from patter_trio.call_log.archive import LoggedCalls


class PhoneLog:
    """The call log of one phone.

    Args:
        options: the place, and what is kept.

    Raises:
        ConfigurationError: the place is not one of a database.
    """

    def __init__(self, options: CallLog) -> None:
        self.options: CallLog = options
        # Imported here: SQLAlchemy belongs to an extra, and takes 0.2 s to import.
        self._database: Any = import_module("patter_trio.call_log.database").Database(options.url())
        self.archive: LoggedCalls = import_module("patter_trio.call_log.archive").LoggedCalls(self._database)
        """The calls in the log."""
        self._writers: list[LogWriter] = []
        self._dropped_before = 0

    def __repr__(self) -> str:
        return f"<PhoneLog in {self._database.place}>"

    @property
    def dropped(self) -> int:
        """The number of entries that were dropped since the program began."""
        return self._dropped_before + sum(writer.dropped for writer in self._writers)

    @asynccontextmanager
    async def writing(self, unix_time: Callable[[], float], recordings: Path | None = None) -> AsyncIterator[LogWriter]:
        """Write the events of a server's calls while the block runs, and those that wait at its end.

        Args:
            unix_time: returns the Unix time in seconds.
            recordings: the folder of our own recordings; None: calls are not recorded there.

        Raises:
            ConfigurationError: the log is of a newer version.
        """
        options = self.options
        redaction = Redaction(words=options.words, numbers=options.numbers, redact=options.redact)
        store = import_module("patter_trio.call_log.store").LogStore(self._database, redaction)
        writing = open_writer(
            store,
            self._database.place,
            keep_days=options.keep_days,
            unix_time=unix_time,
            delete_lost=None if recordings is None else partial(store.delete_lost, recordings),
        )
        async with writing as writer:
            self._writers.append(writer)
            try:
                yield writer
            finally:
                self._writers.remove(writer)
                self._dropped_before += writer.dropped
