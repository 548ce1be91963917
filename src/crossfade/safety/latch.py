"""`Latch`: emergency mode of this machine, as files in the home folder: it works without any database.

One file for each model, and one for everything. Every serving process that has the same home folder looks at the folder
several times a second. A file that cannot be read counts as the strictest: it blocks.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec

from crossfade.core.clock import Clock, utc_now
from crossfade.core.identity import check_name
from crossfade.errors import LatchUnwritableError, NoEmergencyError, ReasonRequiredError
from crossfade.safety.rules import EVERYTHING, Emergency
from crossfade.safety.specs import Mode
from crossfade.storage.filesystem import LocalFileSystem, make_durable_folder

_logger = logging.getLogger(__name__)

FOLDER = "emergency"
_EVERYTHING_FILE = "+everything.json"
"""No model can have this name."""
_LOG = "log.jsonl"
_RECENT_SECONDS = 2.0
"""A change that is so young may be followed by another one within the same tick of the file system's clock."""

Seen = tuple[int, int]


class Latch:
    """The files of one home folder.

    Args:
        home: The folder.
        clock: What time it is.

    Example:
        >>> latch = Latch(Path("/tmp/nobody"))
        >>> latch.read()
        ()
    """

    def __init__(self, home: Path, clock: Clock = utc_now) -> None:
        self._folder = home / FOLDER
        self._clock = clock
        self._filesystem = LocalFileSystem()

    # --- what a person does ---

    def put(self, model: str, mode: Mode, reason: str, principal: str) -> Emergency:
        """Begin an emergency on this machine, or change its mode; it is durable when this returns.

        A full disk may still have room for a file without contents. That blocks, so it is kept where that is wanted.

        Raises:
            ReasonRequiredError: There is no reason.
            InvalidNameError: No model can have this name.
            LatchUnwritableError: The disk is full or closed to us.
        """
        if not reason.strip():
            raise ReasonRequiredError(what="an emergency")
        path = self._path(model)
        emergency = Emergency(model, mode, reason, self._clock(), principal, local=True)
        with self._changing():
            make_durable_folder(self._filesystem, self._folder)
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.unlink(missing_ok=True)
            try:
                self._fill(temporary, msgspec.json.encode(emergency))
            except OSError:
                if mode != "block" or not temporary.exists():
                    temporary.unlink(missing_ok=True)
                    raise
            self._filesystem.rename(temporary, path)
            self._filesystem.fsync_dir(self._folder)
        self._log("on", emergency, principal, reason)
        return _read(path, model)

    def remove(self, model: str, reason: str, principal: str) -> Emergency:
        """End an emergency on this machine.

        Raises:
            ReasonRequiredError: There is no reason.
            NoEmergencyError: There is none.
            LatchUnwritableError: The disk is closed to us.
        """
        if not reason.strip():
            raise ReasonRequiredError(what="the end of an emergency")
        path = self._path(model)
        if not path.exists():
            raise NoEmergencyError(scope=f"{model or 'everything'} on this machine")
        found = _read(path, model)
        with self._changing():
            path.unlink()
            self._filesystem.fsync_dir(self._folder)
        self._log("off", found, principal, reason)
        return found

    # --- what processes see ---

    def seen(self) -> Seen | None:
        """Return what changes whenever the files do; None when there have never been any, or they are quite new."""
        try:
            found = os.stat(self._folder)  # noqa: PTH116 - several times a second
        except FileNotFoundError:
            return (0, 0)
        except OSError:
            return None
        if abs(self._clock().timestamp() - found.st_mtime) < _RECENT_SECONDS:
            return None
        return found.st_mtime_ns, found.st_ino

    def read(self) -> tuple[Emergency, ...]:
        """Return the emergencies of this machine."""
        try:
            names = sorted(os.listdir(self._folder))  # noqa: PTH208 - as above
        except FileNotFoundError:
            return ()
        found = []
        for name in names:
            if name == _EVERYTHING_FILE:
                found.append(_read(self._folder / name, EVERYTHING))
            elif name.endswith(".json") and not name.startswith("."):
                found.append(_read(self._folder / name, name.removesuffix(".json")))
        return tuple(found)

    def _path(self, model: str) -> Path:
        return self._folder / (_EVERYTHING_FILE if model == EVERYTHING else f"{check_name(model)}.json")

    def _fill(self, path: Path, data: bytes) -> None:
        handle = self._filesystem.open_new(path)
        try:
            self._filesystem.write(handle, data)
            self._filesystem.fsync(handle)
        finally:
            self._filesystem.close(handle)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LatchUnwritableError(where=str(self._folder), problem=error.strerror or str(error)) from error

    def _log(self, action: str, emergency: Emergency, principal: str, reason: str) -> None:
        """Write down who did what, where that is possible: the audit log may be out of reach."""
        entry = {"at": self._clock().isoformat(), "action": action, "scope": emergency.scope}
        entry |= {"mode": emergency.mode, "principal": principal, "reason": reason}
        try:
            with (self._folder / _LOG).open("a") as log:
                log.write(json.dumps(entry) + "\n")
        except OSError as error:  # what was done holds all the same, and its file says why
            _logger.warning("%s cannot be written: %s", self._folder / _LOG, error)


def _read(path: Path, model: str) -> Emergency:
    try:
        data = path.read_bytes()
        found = msgspec.json.decode(data, type=Emergency)
        return msgspec.structs.replace(found, model=model, local=True)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        try:
            since = datetime.fromtimestamp(path.stat().st_mtime, tz=utc_now().tzinfo)
        except OSError:
            since = utc_now()
        return Emergency(model, "block", f"the file `{path.name}` cannot be read", since, "local", local=True)
