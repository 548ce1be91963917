"""A file on its way to disk, of a version or of a job: written beside its place, checked, and only then moved there."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from crossfade.client.calls import Progress
from crossfade.core.identity import new_id
from crossfade.errors import CorruptBlobError, JobConflictError, NotFoundError
from crossfade.jobs.records import Job
from crossfade.registry.requests import VersionDetails
from crossfade.registry.versions import MANIFEST_MEDIA_TYPE, MANIFEST_PATH, FileEntry


def files_of(details: VersionDetails) -> tuple[FileEntry, ...]:
    """Return every file of a version that can be downloaded, the manifest among them."""
    manifest = details.manifest
    size = len(manifest.encode())
    own = FileEntry(MANIFEST_PATH, details.version.manifest_digest, size, MANIFEST_MEDIA_TYPE, "manifest")
    return (*manifest.files, own)


@dataclass(frozen=True)
class Expected:
    """What has to arrive: whose file it is, its name there, its SHA-256, its bytes."""

    owner: str
    path: str
    digest: str
    size: int


def file_of(details: VersionDetails, path: str) -> Expected:
    """Return one file of a version.

    Raises:
        NotFoundError: It has no such file.
    """
    found = next((entry for entry in files_of(details) if entry.path == path), None)
    if found is None:
        raise NotFoundError(what=f"{details.version.ref}/{path[:200]}")
    return Expected(details.version.ref, path, found.digest, found.size)


def result_of(job: Job) -> Expected:
    """Return the result of a batch job.

    Raises:
        JobConflictError: It has none.
    """
    if job.result is None:
        why = "its time is over" if job.state == "succeeded" else f"it is {job.state}"
        raise JobConflictError(id=job.id, problem=f"has no result: {why}")
    return Expected(f"job {job.id}", "result", job.result.digest, job.result.size_bytes)


class Download:
    """Takes the bytes of one file, in a `with` block; when it ends well the file is there, whole and as registered.

    Args:
        expected: What has to arrive; None for what the server makes while it is sent.
        target: Where the file shall be; what is there is replaced. Folders are made.
        progress: Told (bytes written, bytes in all).

    Raises:
        CorruptBlobError: The bytes are not those that were registered; nothing is left behind.
    """

    def __init__(self, expected: Expected | None, target: Path, progress: Progress | None) -> None:
        self._expected = expected
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
        if self._progress is not None and self._expected is not None:
            self._progress(self._done, self._expected.size)

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
        found = self._expected
        if found is not None and self._hash.hexdigest() != found.digest:
            raise CorruptBlobError(digest=found.digest, path=found.path, ref=found.owner, damage="changed")
