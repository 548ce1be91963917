"""The SQL database: SQLite in one file by default, PostgreSQL for several machines; the same promises on both.

A write transaction excludes every other writer from its first statement to its commit, in all processes. Whoever reads
inside it therefore decides on what is true, and revisions have no gaps. SQLite does so with `BEGIN IMMEDIATE`,
PostgreSQL with a lock on the row of table `head`. A read transaction sees one consistent state and waits for nobody.

An empty database where one is known to have been is not a new one: it is lost, and is left as it is.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, inspect, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from crossfade.errors import (
    CrossfadeError,
    DatabaseDamagedError,
    DatabaseUnavailableError,
    MissingExtraError,
    SettingsError,
    StorageFullError,
)
from crossfade.storage.filesystem import LocalFileSystem, make_durable_folder
from crossfade.storage.sqlite_file import SqliteFile, Witness, lost

WAIT_SECONDS = 60.0
"""How long a transaction waits for other writers, or for a free connection, before it gives up."""

_POSTGRES_OPTIONS = {
    "connect_timeout": 5,
    # A server that vanished without a word is noticed within 15 seconds, not after the kernel's two hours.
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
# One round trip: bound the wait, insist on durable commits where the server's default is not, exclude other writers.
_POSTGRES_BEGIN = (
    f"SET LOCAL lock_timeout = {int(WAIT_SECONDS * 1000)};"
    "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off';"
)
_POSTGRES_LOCK_HEAD = "SELECT revision FROM head WHERE id = 1 FOR UPDATE"
_POSTGRES_LOCK_SCHEMA = "SELECT pg_advisory_xact_lock(4861073421137)"  # any constant of our own


class Database:
    """An open database. Every method may be called from any thread; do not carry it over a fork.

    Errors inside `read`, `write` and `revision` arrive as Crossfade's: DatabaseUnavailableError and StorageFullError.
    Only `sqlalchemy.exc.IntegrityError` (a constraint was violated) is left to the caller, who knows what it means.

    Example:
        >>> with database.write() as connection:  # doctest: +SKIP
        ...     connection.execute(models.insert().values(...))
    """

    def __init__(
        self,
        *,
        reader: Engine,
        writer: Engine,
        poller: Engine,
        where: str,
        witness: Witness | None = None,
        file: SqliteFile | None = None,
    ) -> None:
        self.dialect = writer.dialect.name
        self.where = where
        sqlite = self.dialect == "sqlite"
        self._reader = reader
        self._writer = writer
        self._poller = poller
        self._witness = witness
        self._file = file
        self._recognised = witness is None
        self._begin_write = "BEGIN IMMEDIATE" if sqlite else _POSTGRES_BEGIN + _POSTGRES_LOCK_HEAD
        self._begin_schema = "BEGIN IMMEDIATE" if sqlite else _POSTGRES_BEGIN + _POSTGRES_LOCK_SCHEMA
        self._polling: Connection | None = None
        self._polling_lock = threading.Lock()
        self._views = threading.local()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a read transaction: one consistent state, whatever others write meanwhile.

        Raises:
            DatabaseUnavailableError: The database does not answer, or a statement tries to write.
        """
        shared: Connection | None = getattr(self._views, "connection", None)
        if shared is not None:
            with self._translated():
                yield shared
            return
        with self._translated(), self._reader.connect() as connection:
            self._recognise(connection)
            if self.dialect == "sqlite":
                connection.exec_driver_sql("BEGIN")
            yield connection

    @contextlib.contextmanager
    def view(self) -> Iterator[None]:
        """Let everything that this thread reads meanwhile come from one read transaction.

        What belongs together fits together then, and many small questions need no transaction each. Do not write inside
        it: what is read afterwards would be from before.

        Raises:
            DatabaseUnavailableError: As for `read`.
        """
        with self.read() as connection:
            outer = getattr(self._views, "connection", None)
            self._views.connection = connection
            try:
                yield
            finally:
                self._views.connection = outer

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """Open the one write transaction of this moment. It commits at the end, or rolls back on any exception.

        Do not open a second one inside it: it would wait for itself.

        Raises:
            DatabaseUnavailableError: The database does not answer, or other writers took longer than `WAIT_SECONDS`.
                When the connection broke during the commit itself, the change may have happened: look before retrying.
            StorageFullError: The disk is full; nothing was written.
        """
        with self._writing(self._begin_write) as connection:
            yield connection

    @contextlib.contextmanager
    def change_schema(self) -> Iterator[Connection]:
        """Open a write transaction for migrations: like `write`, but it needs no table to exist.

        Raises:
            DatabaseUnavailableError: As for `write`.
            StorageFullError: As for `write`.
        """
        with self._writing(self._begin_schema) as connection:
            yield connection

    def revision(self) -> int:
        """Return the revision of the newest committed change, cheaply enough to ask ten times a second.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        with self._polling_lock:
            # The kept connection may have died with a server that is long back, which deserves one new attempt.
            if self._polling is not None:
                with contextlib.suppress(DatabaseUnavailableError):
                    return self._poll()
            return self._poll()

    def connect_for_messages(self) -> Connection:
        """Open a connection outside of transactions, for one thread that waits for messages; the caller closes it.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        with self._translated():
            return self._poller.connect()

    def close(self) -> None:
        """Close every connection. The database cannot be used afterwards."""
        with self._polling_lock:
            self._drop_polling()
        for engine in (self._poller, self._reader, self._writer):
            engine.dispose()

    def _poll(self) -> int:
        try:
            with self._translated():
                if self._polling is None:
                    self._polling = self._poller.connect()
                self._recognise(self._polling)
                return int(self._polling.exec_driver_sql("SELECT revision FROM head WHERE id = 1").scalar_one())
        except BaseException:
            self._drop_polling()
            raise

    def _drop_polling(self) -> None:
        connection, self._polling = self._polling, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    @contextlib.contextmanager
    def _writing(self, begin: str) -> Iterator[Connection]:
        with self._translated(), self._writer.connect() as connection:
            self._recognise(connection)
            connection.exec_driver_sql(begin)
            yield connection
            connection.commit()

    def _recognise(self, connection: Connection) -> None:
        """Look once whether this is the database that the witness knows of, whatever its revision is now."""
        if self._recognised:
            return
        if self._witness is not None and not _has_history(connection):
            raise lost("there is an empty one in its place", self._witness)
        if self._file is not None:
            self._file.pin()
        self._recognised = True

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        if self._file is not None:
            self._file.check()
        try:
            yield
        except PoolTimeoutError as error:
            raise DatabaseUnavailableError(problem="every connection is busy") from error
        except DBAPIError as error:
            if (translated := _translate(error, self.where)) is None:
                raise
            raise translated from error
        finally:
            if not self._recognised:  # the next attempt may find another file there
                for engine in (self._poller, self._reader, self._writer):
                    engine.dispose()


def open_database(url: str, *, pool_size: int = 5, witness: Witness | None = None) -> Database:
    """Open a database; a missing SQLite file is created, readable by its owner only. `migrate` makes the tables.

    Args:
        url: `sqlite:///` and a path as it is, nothing in it is escaped; or `postgresql://user:password@host/name`.
        pool_size: PostgreSQL connections, or SQLite readers, that are kept open.
        witness: Of a database that has been there. Nothing is created then, and the first transaction finds out.

    Raises:
        SettingsError: The URL names no database that is supported.
        MissingExtraError: The PostgreSQL driver is not installed.
        DatabaseUnavailableError: The SQLite file cannot be opened. (PostgreSQL, and a database that has a witness, is
            contacted by the first transaction.)

    Example:
        >>> open_database("mysql://here/there")
        Traceback (most recent call last):
        crossfade.errors.SettingsError: setting `storage.database_url`: `mysql` is not supported
    """
    if url.startswith("sqlite:"):
        return _open_sqlite(url.removeprefix("sqlite:").removeprefix("//").removeprefix("/"), pool_size, witness)
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise SettingsError(field="storage.database_url", problem="it is not a database URL") from error
    if (kind := parsed.get_backend_name()) not in {"postgresql", "postgres"}:
        raise SettingsError(field="storage.database_url", problem=f"`{kind}` is not supported")
    return _open_postgres(parsed.set(drivername="postgresql+psycopg"), pool_size, witness)


# --- PostgreSQL ----------------------------------------------------------------------------------------------------


def _open_postgres(url: URL, pool_size: int, witness: Witness | None) -> Database:
    def engine(size: int, more: int = 0) -> Engine:
        return create_engine(
            url,
            connect_args=dict(_POSTGRES_OPTIONS),
            pool_size=size,
            max_overflow=more,
            pool_timeout=WAIT_SECONDS,
            pool_pre_ping=True,
        )

    try:
        writer = engine(pool_size)
    except ImportError as error:
        raise MissingExtraError(feature="PostgreSQL", package="psycopg", extra="postgres") from error
    return Database(
        reader=writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True),
        writer=writer,
        # one polls; each of those that wait for messages needs another, and none waits for one to be free
        poller=engine(1, more=-1).execution_options(isolation_level="AUTOCOMMIT"),
        where=f"the database {url.database} on {url.host}",
        witness=witness,
    )


# --- SQLite --------------------------------------------------------------------------------------------------------


def _open_sqlite(file: str, pool_size: int, witness: Witness | None) -> Database:
    if file in {"", ":memory:"}:
        raise SettingsError(field="storage.database_url", problem="name a file; processes cannot share memory")
    path = Path(file).absolute()
    known = SqliteFile(path, witness)
    if witness is None:
        try:
            _create_sqlite(path)
        except (OSError, sqlite3.Error) as error:
            raise _unreadable(error, f"{path}: {error}", str(path.parent)) from error
        known.pin()

    def engine(size: int, connect: Callable[[], sqlite3.Connection]) -> Engine:
        return create_engine(
            "sqlite+pysqlite://",
            creator=connect,
            poolclass=QueuePool,
            pool_size=size,
            max_overflow=0,
            pool_timeout=WAIT_SECONDS,
        )

    # One connection writes: threads then queue fairly in the pool instead of polling SQLite's lock against each other.
    return Database(
        reader=engine(pool_size, lambda: _connect_sqlite(path, query_only=True)),
        writer=engine(1, lambda: _connect_writer(path)),
        poller=engine(1, lambda: _connect_sqlite(path, query_only=True)),
        where=str(path.parent),
        witness=witness,
        file=known,
    )


def _create_sqlite(path: Path) -> None:
    filesystem = LocalFileSystem()
    make_durable_folder(filesystem, path.parent)
    with contextlib.suppress(FileExistsError):
        filesystem.close(filesystem.open_new(path))
        filesystem.fsync_dir(path.parent)
    _connect_writer(path).close()


def _connect_writer(path: Path) -> sqlite3.Connection:
    """Connect, and switch the file to write-ahead logging, a property that it keeps, but a copy of it may not."""
    connection = _connect_sqlite(path, query_only=False)
    with contextlib.ExitStack() as opening:
        opening.callback(connection.close)
        if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise sqlite3.OperationalError("its file system has no shared memory; use a local disk")
        opening.pop_all()
    return connection


def _connect_sqlite(path: Path, *, query_only: bool) -> sqlite3.Connection:
    # `mode=rw`: a file that somebody deleted is an error, not a new empty database.
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        timeout=WAIT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA query_only = {int(query_only)}")
    return connection


# --- errors --------------------------------------------------------------------------------------------------------


def _translate(error: DBAPIError, where: str) -> CrossfadeError | None:
    """Return Crossfade's error for what the outside world did; None for our own bugs and violated constraints."""
    cause = error.orig
    sqlite_code = getattr(cause, "sqlite_errorcode", None)
    state = getattr(cause, "sqlstate", None)
    if sqlite_code == sqlite3.SQLITE_FULL or state == "53100":
        return StorageFullError(where=where)
    own_fault = isinstance(error, IntegrityError | DataError | ProgrammingError) or not isinstance(error, DatabaseError)
    if own_fault or sqlite_code == sqlite3.SQLITE_ERROR:
        return None
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return _unreadable(cause, lines[0], where)


def _unreadable(cause: BaseException | None, problem: str, where: str) -> DatabaseUnavailableError:
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # the rest says more than anybody can use
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return DatabaseDamagedError(problem=problem, where=where)
    return DatabaseUnavailableError(problem=problem)


def _has_history(connection: Connection) -> bool:
    if not inspect(connection).has_table("head"):
        return False
    return bool(connection.exec_driver_sql("SELECT revision FROM head WHERE id = 1").scalar())
