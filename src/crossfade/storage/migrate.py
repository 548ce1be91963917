"""Bring a database to the schema of this release, safely when many processes start at once."""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError, ProgrammingError

from crossfade.errors import DatabaseUnavailableError
from crossfade.storage.database import Database

CURRENT = "0008"
"""The newest revision in `migrations/versions`; a test keeps them equal. It saves importing Alembic at every start."""

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
        return _upgrade(connection)


def stored_revision(database: Database) -> str | None:
    """Return the schema revision of the database, or None when it has no tables yet.

    Raises:
        DatabaseUnavailableError: The database does not answer.
    """
    try:
        with database.read() as connection:
            return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    except (OperationalError, ProgrammingError):  # what SQLite and PostgreSQL say when there is no such table
        return None


def _upgrade(connection: Connection) -> bool:
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection

    found = MigrationContext.configure(connection).get_current_revision()
    if found == CURRENT:  # another process was faster
        return False
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        problem = f"its schema {found} is newer than {CURRENT}, the newest that this Crossfade knows; upgrade Crossfade"
        raise DatabaseUnavailableError(problem=problem)
    command.upgrade(config, "head")
    return True
