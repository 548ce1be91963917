"""`SqliteFile`: which file a SQLite database is, and whether it is still where it was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from crossfade.errors import DatabaseLostError, DatabaseMovedError


class Witness(NamedTuple):
    """A file that knows that a database has been here: an empty one in its place is not it.

    Attributes:
        revision: Which the database has had.
        path: Where the file is.
    """

    revision: int
    path: Path


class SqliteFile:
    """The file of a SQLite database.

    SQLite goes on writing into a file that was deleted or moved away, and would say nothing.

    Args:
        path: Its path.
        witness: Of it; None when a missing file is a new database.
    """

    def __init__(self, path: Path, witness: Witness | None) -> None:
        self.path = path
        self._witness = witness
        self._known: tuple[int, int] | None = None

    def pin(self) -> None:
        """Note that what is there now is the database: no other file will do as long as this process lives."""
        self._known = self._find()

    def check(self) -> None:
        """Look whether the database is where it was.

        Raises:
            DatabaseLostError: It is missing, and a witness knows of it.
            DatabaseMovedError: The file that was opened is not there any more.
        """
        found = self._find()
        if self._known is not None:
            if found != self._known:
                raise DatabaseMovedError(path=str(self.path), change="is gone" if found is None else "is another file")
        elif found is None and self._witness is not None:
            raise lost(f"{self.path} is not there", self._witness)

    def _find(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)  # noqa: PTH116 - ten times a second: without a Path's detours
        except OSError:
            return None
        return found.st_dev, found.st_ino


def lost(problem: str, witness: Witness) -> DatabaseLostError:
    """Return the error that says what a witness knows of a database that is lost."""
    return DatabaseLostError(problem=problem, revision=witness.revision, witness=str(witness.path))
