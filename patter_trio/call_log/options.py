"""The options of a call log, and the place where it is kept."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

import attrs

from patter_trio.errors import ConfigurationError
from patter_trio.logs import shown_url, shown_value
from patter_trio.providers.weights import require

DEFAULT_FOLDER: Final = "calls"
"""The folder of the log, in the working directory, if neither ``persist`` nor ``PATTER_LOG_DIR`` names a place."""
FILE_NAME: Final = "patter.db"
"""The name of the database in its folder."""
_SQLITE: Final = "sqlite"
_POSTGRESQL: Final = ("postgresql", "postgres")
_FILE_SUFFIXES: Final = (".db", ".sqlite", ".sqlite3")
"""Endings of a path that make it a file; another path is a folder."""


# A context variable, because phones are made while a program is imported: nothing can be passed to them.
_STAND_IN: Final[ContextVar[Path | None]] = ContextVar("stand_in", default=None)


@contextmanager
def logging_into(folder: Path) -> Iterator[None]:
    """Let phones that are made within the block keep their calls in ``folder``, whatever place ``persist`` names."""
    token = _STAND_IN.set(folder)
    try:
        yield
    finally:
        _STAND_IN.reset(token)


def _redactor(_: object, __: object, value: Any) -> None:
    if value is not None and not callable(value):
        raise ConfigurationError(f"redact must be a function from text to text, got {shown_value(value)}")


def _days(_: object, __: object, value: Any) -> None:
    # By type: True would count as one day.
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
        raise ConfigurationError(f"keep_days must be a number of days above 0, or None, got {value!r}")


def _switch(_: object, attribute: "attrs.Attribute[bool]", value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{attribute.name} must be True or False, got {value!r}")


@attrs.frozen
class CallLog:
    """A log of a phone's calls: ``Patter(persist=CallLog(...))``.

    ``persist=True`` and ``persist="calls.db"`` are shorthands for ``CallLog()`` and ``CallLog("calls.db")``.

    Args:
        place: a file (``.db``, ``.sqlite``, ``.sqlite3``), a folder for the file ``patter.db``, or a URL
            (``postgresql://user@host/name``, ``sqlite:///path``). Empty: the folder ``PATTER_LOG_DIR``, or ``calls`` in
            the working directory if that is not set.
        words: False: keep nothing of what was said or typed: no transcripts, keys, and arguments and results of tools.
            ``custom_params`` are kept: they are the application's facts, and not words of the call. ``redact`` changes
            them.
        numbers: False: keep no phone numbers; those within texts are masked, also in ``custom_params`` and in the keys
            of what tools take and return.
        redact: changes each text that is kept, those keys included: a plain function from text to text. It runs in the
            log's thread. A text for which it fails is not kept.
        keep_days: delete a call, with its recording, this many days after its begin; None: keep all calls.

    Raises:
        ConfigurationError: an option has a wrong type or value.
    """

    place: str | Path = attrs.field(default="", repr=lambda place: repr(shown_place(place)))
    words: bool = attrs.field(default=True, kw_only=True, validator=_switch)
    numbers: bool = attrs.field(default=True, kw_only=True, validator=_switch)
    redact: Callable[[str], str] | None = attrs.field(default=None, kw_only=True, validator=_redactor)
    keep_days: float | None = attrs.field(default=None, kw_only=True, validator=_days)

    def __attrs_post_init__(self) -> None:
        """Check the place."""
        if not isinstance(self.place, str | Path):
            raise ConfigurationError(f"place must be a path or a URL, got {shown_value(self.place)}")
        if "://" in str(self.place) and _scheme(str(self.place)) not in (_SQLITE, *_POSTGRESQL):
            raise ConfigurationError(
                f"the URL of a call log must begin with postgresql:// or sqlite:///, got {shown_url(str(self.place))}"
            )

    def url(self) -> str:
        """Return the URL of the database, as SQLAlchemy takes it."""
        place = str(self.place)
        if "://" in place:
            # The driver is ours to choose: psycopg, which the extra names.
            scheme, _, rest = place.partition("://")
            return f"postgresql+psycopg://{rest}" if _scheme(place) in _POSTGRESQL else f"{scheme}://{rest}"
        return f"sqlite:///{self._file()}"

    def check_place(self) -> None:
        """Raise ConfigurationError if the place is a file that cannot be a database, such as a program."""
        if "://" not in str(self.place) and self._file().parent.is_file():
            raise ConfigurationError(
                f"the place of a call log must be a folder, or a file that ends in {', '.join(_FILE_SUFFIXES)}; "
                f"{self._file().parent} is a file"
            )

    def _file(self) -> Path:
        if not str(self.place):
            return Path(os.environ.get("PATTER_LOG_DIR") or DEFAULT_FOLDER) / FILE_NAME
        path = Path(self.place)
        return path if path.suffix.lower() in _FILE_SUFFIXES else path / FILE_NAME


def _scheme(url: str) -> str:
    # ``postgresql+psycopg`` names the driver, too.
    return url.partition("://")[0].partition("+")[0].lower()


def shown_place(place: str | Path) -> str:
    """Return a place as logs and errors show it: a URL without its user and password."""
    text = str(place)
    if _scheme(text) in _POSTGRESQL and "://" in text:
        return shown_url(text)
    return text


def checked_log(persist: Any) -> CallLog | None:
    """Return the log that ``persist=`` asks for; None without one.

    Raises:
        ConfigurationError: it is not a place or a CallLog.
        MissingExtraError: a package that the log needs is not installed.
    """
    if persist is None or persist is False:
        return None
    if persist is True:
        persist = CallLog()
    # An empty text is most often a variable that is not set: a log in another place than expected.
    if not isinstance(persist, str | Path | CallLog) or persist == "":
        raise ConfigurationError(f"persist must be True, a path, a URL or a CallLog(...), got {shown_value(persist)}")
    log = persist if isinstance(persist, CallLog) else CallLog(persist)
    if (folder := _STAND_IN.get()) is not None:
        log = attrs.evolve(log, place=folder / FILE_NAME)
    log.check_place()
    require("sqlalchemy", extra="log")
    if log.url().startswith(_POSTGRESQL):
        require("psycopg", extra="postgresql")
    return log
