"""A database in memory that begins anew in a moment, and one actor's connection to it, which can break anywhere."""

from __future__ import annotations

import functools
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, StaticPool, create_engine

from crossfade.errors import DatabaseUnavailableError
from crossfade.registry.registry import Registry
from tests.traffic.support import open_registry

Prepare = Callable[[Registry], None]
"""Writes down what there is before a life begins."""


class Crash(BaseException):
    """The process ends here. No `except Exception` notices."""


@functools.cache
def _template(prepare: Prepare) -> sqlite3.Connection:
    """Return a registry in which something is written down already."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "crossfade.db")
        registry = open_registry(Path(folder), f"sqlite:///{file}")
        prepare(registry)
        registry.backend.database.close()
        template = sqlite3.connect(":memory:", check_same_thread=False)
        with closing(sqlite3.connect(file)) as source:
            source.backup(template)
    return template


class Memory:
    """The database of one life after another. There is one connection: nothing happens at the same time.

    Attributes:
        raw: What the oracle looks through.
    """

    dialect = "sqlite"

    def __init__(self) -> None:
        self.raw = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        engine = create_engine("sqlite+pysqlite://", creator=lambda: self.raw, poolclass=StaticPool)
        self._connection = engine.connect()

    def begin(self, prepare: Prepare) -> None:
        """Forget everything but what was there before."""
        _template(prepare).backup(self.raw)
        self.raw.execute("PRAGMA foreign_keys = ON")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Read as `Database` does, without looking for a connection; within a transaction, what that has written."""
        if self.raw.in_transaction:
            yield self._connection
            return
        self.raw.execute("BEGIN")
        try:
            yield self._connection
        finally:
            self._connection.rollback()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Write as `Database` does."""
        self.raw.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.commit()
        except BaseException:
            self._connection.rollback()
            raise


class Boundaries:
    """One actor's way to the database.

    Args:
        database: Where it leads.
        at: Called at each beginning and end of a transaction with what that is; may let others act meanwhile, and may
            raise.
        written: Called after each commit.

    Attributes:
        away: Whether the database cannot be reached.
    """

    def __init__(self, database: Memory, at: Callable[[str], None], written: Callable[[], None]) -> None:
        self._database = database
        self._at = at
        self._written = written
        self.away = False
        self.dialect = database.dialect

    def reach(self, place: str) -> None:
        """Come to a beginning or end of a transaction."""
        self._at(place)
        if self.away:
            raise DatabaseUnavailableError(problem="it is away")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Read as `Database` does."""
        self.reach("before a read")
        with self._database.read() as connection:
            yield connection
        self.reach("after a read")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Write as `Database` does."""
        self.reach("before a write")
        with self._database.write() as connection:
            yield connection
            self.reach("before a commit")
        self._written()
        self.reach("after a commit")
