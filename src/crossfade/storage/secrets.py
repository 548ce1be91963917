"""Secrets of the deployment: random keys that its processes share, made by the first that needs one."""

from __future__ import annotations

import secrets as random

from sqlalchemy import Connection, select

from crossfade.storage.database import Database
from crossfade.storage.tables import secrets

SECRET_BYTES = 32


def deployment_secret(database: Database, name: str) -> bytes:
    """Return the secret of this name, the same in every process on this database; it is made when there is none.

    Raises:
        DatabaseUnavailableError: The database does not answer.
    """
    with database.read() as connection:
        known = _find(connection, name)
    if known is not None:
        return known
    with database.write() as connection:  # excludes every other writer: the first one decides for all
        known = _find(connection, name)
        if known is None:
            known = random.token_bytes(SECRET_BYTES)
            connection.execute(secrets.insert().values(name=name, value=known.hex()))
    return known


def _find(connection: Connection, name: str) -> bytes | None:
    text = connection.scalar(select(secrets.c.value).where(secrets.c.name == name))
    return None if text is None else bytes.fromhex(text)
