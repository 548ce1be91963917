"""Dry runs: the very code that makes a change, on a registry whose changes are rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

from sqlalchemy import Connection

from crossfade.platform import Platform
from crossfade.registry.backends import open_registry
from crossfade.registry.registry import Registry
from crossfade.storage.database import Database


def registry_of(platform: Platform, *, dry_run: bool) -> Registry:
    """Return the platform's registry, or for a dry run one that checks and answers the same and keeps nothing."""
    if not dry_run:
        return platform.registry
    database = cast("Database", _RollingBack(platform.database))
    return open_registry(platform.settings.registry, database, platform.registry.backend.blobs)


class _UndoneError(Exception):
    """Ends a transaction that must not last."""


class _RollingBack:
    """The part of `Database` that a registry uses; every write transaction is rolled back at its end."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.read = database.read
        self.revision = database.revision

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with suppress(_UndoneError), self._database.write() as connection:
            yield connection
            raise _UndoneError
