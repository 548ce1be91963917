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
from tests.traffic.support import move, open_registry, publish_all

MODEL = "m"
VERSIONS = ("1.0.0", "1.0.1", "1.0.2")


class Crash(BaseException):
    """The process ends here. No `except Exception` notices."""


@functools.cache
def _template() -> sqlite3.Connection:
    """Return a registry with a model of three versions, the first of which is champion."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "crossfade.db")
        registry = open_registry(Path(folder), f"sqlite:///{file}")
        publish_all(registry, MODEL, *VERSIONS)
        move(registry, MODEL, VERSIONS[0])
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

    def begin(self) -> None:
        """Forget everything."""
        _template().backup(self.raw)
        self.raw.execute("PRAGMA foreign_keys = ON")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Read as `Database` does, without looking for a connection."""
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
