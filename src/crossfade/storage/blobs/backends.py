"""Which blob stores there are, and how a setting becomes one."""

from __future__ import annotations

from typing import Protocol, cast

from crossfade.errors import SettingsError
from crossfade.settings import Settings
from crossfade.storage.backends import Backend, load_backend
from crossfade.storage.blobs.port import BlobStore


class Opener(Protocol):
    """What a backend's class offers."""

    def from_url(self, url: str, settings: Settings) -> BlobStore:
        """Open the store that `url` names."""


BACKENDS = {
    "file": Backend("crossfade.storage.blobs.folder:FolderBlobStore"),
    "s3": Backend("crossfade.storage.blobs.s3:S3BlobStore", package="boto3", extra="s3"),
}
"""Scheme of `storage.blobs_url` -> backend. A URL without a scheme is a folder."""


def open_blobs(settings: Settings) -> BlobStore:
    """Open the blob store that the settings name, loading only its backend.

    Other packages add schemes with entry points in the group `crossfade.blobs`.

    Raises:
        SettingsError: No backend has this scheme.
        MissingExtraError: The backend's package is not installed.
        BlobsUnavailableError: The store cannot be used.
        StorageFullError: There is no space to make a folder.
    """
    url = settings.blobs_url
    scheme = url.partition("://")[0] if "://" in url else "file"
    return _load(scheme).from_url(url, settings)


def _load(scheme: str) -> Opener:
    opener = load_backend(BACKENDS, scheme, group="crossfade.blobs", kind="the blob store")
    if opener is None:
        known = ", ".join(f"`{name}`" for name in sorted(BACKENDS))
        raise SettingsError(field="storage.blobs_url", problem=f"`{scheme}` is unknown; there are {known}, or a folder")
    return cast("Opener", opener)
