"""The differences between databases: how they are opened, and the full text search. One module for each."""

from typing import Any, Protocol

from sqlalchemy import URL, Connection, Engine, Select

from patter_trio.call_log.words import Phrase


class Dialect(Protocol):
    """One kind of database."""

    def engine(self, url: URL, *, writes: bool) -> Engine:
        """Return an engine without a pool; each connection is opened when it is used."""

    def is_same(self, url: URL, opened: object) -> bool:
        """Return False if the database is not the one that :meth:`identity` named."""

    def identity(self, url: URL) -> object:
        """Return what tells a database from another one at the same place, or None."""

    def lock(self, connection: Connection) -> None:
        """Keep other processes from changing the tables, until the transaction ends."""

    def create_search(self, connection: Connection) -> None:
        """Make what the full text search needs, beside the tables."""

    def index_words(self, connection: Connection, call: int, words: str) -> None:
        """Make the words of a call searchable; the table of words has them already."""

    def erase(self, connection: Connection) -> bool:
        """Overwrite, outside of a transaction, what deleted calls have left; return True if there is more to do."""

    def order(self, *, matching: bool) -> Any:
        """Return the number of a call by which a selection is ordered and paged; ``matching``: it is one of words."""

    def matching(self, calls: Select[Any], phrases: list[Phrase]) -> Select[Any]:
        """Return a selection of the calls in whose words all phrases occur."""
