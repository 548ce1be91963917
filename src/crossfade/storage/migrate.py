"""Bring a database to the schema of this release, safely when many processes start at once.

What is empty gets the tables as they are now, which takes a tenth of the time of living through all migrations; tests
keep both ways equal.
"""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, insert, inspect, select

from crossfade.errors import DatabaseUnavailableError
from crossfade.storage.changes import FIRST_HASH
from crossfade.storage.database import Database
from crossfade.storage.tables import head, metadata

CURRENT = "0015"
"""The newest revision in `migrations/versions`; a test keeps them equal. It saves importing Alembic at every start."""

_VERSIONS = Table(  # as Alembic makes it
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
_alembic_lock = threading.Lock()  # Alembic keeps the running migration in module globals


def migrate(database: Database) -> bool:
    """Create or upgrade the tables; tell whether there was anything to do.

    One process migrates while the others wait; the whole upgrade is one transaction, so a crash leaves the old schema.

    Raises:
        DatabaseUnavailableError: The database does not answer, or a newer Crossfade has already upgraded it.
        StorageFullError: The disk is full.
    """
    if stored_revision(database) == CURRENT:
        return False
    with _alembic_lock, database.change_schema() as connection:
        found = _revision(connection)
        if found == CURRENT:  # another process was faster
            return False
        if found is None:
            _create(connection)
        else:
            _upgrade(connection, found)
        return True


def stored_revision(database: Database) -> str | None:
    """Return the schema revision of the database, or None when it has no tables yet.

    Raises:
        DatabaseUnavailableError: The database does not answer.
    """
    with database.read() as connection:
        return _revision(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSIONS.name):
        return None
    return connection.scalar(select(_VERSIONS.c.version_num))


def _create(connection: Connection) -> None:
    metadata.create_all(connection, checkfirst=False)
    _VERSIONS.create(connection, checkfirst=True)  # whoever went back to no tables keeps it
    connection.execute(insert(head).values(id=1, revision=0, audit_hash=FIRST_HASH))
    connection.execute(insert(_VERSIONS).values(version_num=CURRENT))


def _upgrade(connection: Connection, found: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection

    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found not in known:
        problem = f"its schema {found} is newer than {CURRENT}, the newest that this Crossfade knows; upgrade Crossfade"
        raise DatabaseUnavailableError(problem=problem)
    command.upgrade(config, "head")
