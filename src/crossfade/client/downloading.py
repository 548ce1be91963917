"""A file of a version on its way to disk: written beside its place, checked, and only then moved there."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from crossfade.client.calls import Progress
from crossfade.core.identity import new_id
from crossfade.errors import CorruptBlobError, NotFoundError
from crossfade.registry.requests import VersionDetails
from crossfade.registry.versions import MANIFEST_MEDIA_TYPE, MANIFEST_PATH, FileEntry


def files_of(details: VersionDetails) -> tuple[FileEntry, ...]:
    """Return every file of a version that can be downloaded, the manifest among them."""
    manifest = details.manifest
    size = len(manifest.encode())
    own = FileEntry(MANIFEST_PATH, details.version.manifest_digest, size, MANIFEST_MEDIA_TYPE, "manifest")
    return (*manifest.files, own)


class Download:
    """Takes the bytes of one file, in a `with` block; when it ends well the file is there, whole and as registered.

    Args:
        details: The version.
        path: One of its files.
        target: Where the file shall be; what is there is replaced. Folders are made.
        progress: Told (bytes written, bytes in all).

    Raises:
        NotFoundError: The version has no such file.
        CorruptBlobError: The bytes are not those that were registered; nothing is left behind.
    """

    def __init__(self, details: VersionDetails, path: str, target: Path, progress: Progress | None) -> None:
        self.ref = details.version.ref
        found = next((entry for entry in files_of(details) if entry.path == path), None)
        if found is None:
            raise NotFoundError(what=f"{self.ref}/{path[:200]}")
        self._entry = found
        self._target = target
        self._partial = target.with_name(f".{target.name}.{new_id()}.part")
        self._progress = progress
        self._hash = sha256()
        self._done = 0

    def write(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._file.write(piece)
        self._hash.update(piece)
        self._done += len(piece)
        if self._progress is not None:
            self._progress(self._done, self._entry.size)

    def __enter__(self) -> Self:
        """Begin, or begin again."""
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._hash, self._done = sha256(), 0
        self._file = self._partial.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Put the file in its place, or remove what was written."""
        try:
            self._file.close()
            if error is None:
                self._check()
                self._partial.replace(self._target)
        finally:
            self._partial.unlink(missing_ok=True)

    def _check(self) -> None:
        if self._hash.hexdigest() != self._entry.digest:
            entry = self._entry
            raise CorruptBlobError(digest=entry.digest, path=entry.path, ref=self.ref, damage="changed")
