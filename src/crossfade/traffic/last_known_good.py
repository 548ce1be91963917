"""`LastKnownGood`: the newest snapshot as a file on this machine, to start from while the database is away.

Every serving process writes it whenever its snapshot changes; all of them write the same. It is used only by a process
that starts and finds no database, and only with the database that it came from. While it is there, a database that is
missing or empty is known to be lost, and no new one takes its place.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path

import msgspec

from crossfade.core.hashing import sha256
from crossfade.safety.rules import Rules
from crossfade.storage.filesystem import LocalFileSystem, make_durable_folder
from crossfade.storage.sqlite_file import Witness
from crossfade.traffic.routing import Traffic
from crossfade.traffic.snapshot import Route, Snapshot

_log = logging.getLogger(__name__)

FILE_NAME = "last-known-good.json"
_FORMAT = 3
_TOUCH_SECONDS = 30.0
"""How often the file says that it is still the newest; its age is known that exactly."""


class _Kept(msgspec.Struct, frozen=True):
    format: int
    database: str
    revision: int
    models: dict[str, Route]
    traffic: Traffic
    safety: Rules = Rules()


class LastKnownGood:
    """Keeps a snapshot in a folder.

    Args:
        home: The folder.
        database_url: Where snapshots come from; only its digest is written down.
    """

    def __init__(self, home: Path, database_url: str) -> None:
        self._path = home / FILE_NAME
        self._database = sha256(database_url.encode())
        self._filesystem = LocalFileSystem()
        self._touched_at = 0.0

    def keep(self, snapshot: Snapshot) -> None:
        """Write a snapshot, whole or not at all, unless a newer one is there.

        A disk that is full or broken is logged: serving goes on.
        """
        if (known := self._read()) is not None and known.revision > snapshot.revision:
            return  # another process was faster
        data = msgspec.json.encode(
            _Kept(_FORMAT, self._database, snapshot.revision, dict(snapshot.models), snapshot.traffic, snapshot.safety)
        )
        temporary = self._path.with_name(f".{FILE_NAME}.{os.getpid()}")
        try:
            make_durable_folder(self._filesystem, self._path.parent)
            temporary.unlink(missing_ok=True)  # of a process that had the same number and was killed
            handle = self._filesystem.open_new(temporary)
            try:
                self._filesystem.write(handle, data)
                self._filesystem.fsync(handle)
            finally:
                self._filesystem.close(handle)
            self._filesystem.rename(temporary, self._path)
            self._touched_at = time.monotonic()
        except OSError as error:
            _log.warning("the last known good snapshot was not kept: %s", error)
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def give_way(self, revision: int) -> None:
        """Let an older revision be kept: the database was restored to it. What is newer stays beside the file."""
        known = self._read()
        if known is None or known.revision <= revision:
            return
        aside = self._path.with_name(f"{FILE_NAME}.{known.revision}")
        _log.warning(
            "the database went back from revision %d to %d; what was served is in %s", known.revision, revision, aside
        )
        with contextlib.suppress(OSError):
            self._filesystem.rename(self._path, aside)

    def confirm(self) -> None:
        """Note, now and then, that what is kept is still the newest."""
        if time.monotonic() - self._touched_at > _TOUCH_SECONDS:
            self._touched_at = time.monotonic()
            with contextlib.suppress(OSError):
                self._filesystem.touch(self._path)

    def find(self) -> tuple[Snapshot, float] | None:
        """Return what is kept, and how many seconds ago it was the newest; None when there is nothing of use."""
        kept = self._read()
        try:
            age = max(0.0, time.time() - self._path.stat().st_mtime)
        except OSError:
            return None
        return None if kept is None else (Snapshot(kept.revision, kept.models, kept.traffic, safety=kept.safety), age)

    def witness(self) -> Witness | None:
        """Return what is known of the database from before; None when nothing was ever changed there."""
        kept = self._read()
        return Witness(kept.revision, self._path.absolute()) if kept is not None and kept.revision else None

    def _read(self) -> _Kept | None:
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            _log.warning("the last known good snapshot is of no use: %s", error)
            return None
        ours = kept.format == _FORMAT and kept.database == self._database and kept.revision >= 0
        return kept if ours else None
