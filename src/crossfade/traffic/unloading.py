"""Asking all processes to stop serving a model, or to serve it again (the repository extension of the protocol)."""

from __future__ import annotations

from sqlalchemy import select, update

from crossfade.core.clock import Clock, utc_now
from crossfade.errors import ModelNotFoundError
from crossfade.storage.changes import commit_change
from crossfade.storage.database import Database
from crossfade.storage.tables import models


def set_unloaded(database: Database, name: str, *, unloaded: bool, principal: str, clock: Clock = utc_now) -> int:
    """Store the wish, and return the revision from which processes follow it.

    Raises:
        ModelNotFoundError: There is no such model.
        DatabaseUnavailableError: The database does not answer.
    """
    with database.write() as connection:
        current = connection.scalar(select(models.c.unloaded).where(models.c.name == name))
        if current is None:
            raise ModelNotFoundError(name=name)
        if current is unloaded:
            return database.revision()
        connection.execute(update(models).where(models.c.name == name).values(unloaded=unloaded))
        return commit_change(
            connection,
            kind="model",
            model=name,
            subject=name,
            principal=principal,
            action="model.unload" if unloaded else "model.load",
            details={},
            now=clock(),
        )
