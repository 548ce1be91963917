"""From a packed draft to a registered version: upload under a lease, then publish."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from crossfade.errors import VersionConflictError
from crossfade.registry.acceptance import read_manifest
from crossfade.registry.packaging import Draft
from crossfade.registry.port import RegistryBackend
from crossfade.registry.publication import (
    find_published,
    leased,
    propose_version,
    publish,
    publish_leased,
    renewing,
)
from crossfade.registry.versions import Manifest, Version
from crossfade.settings import RegistrySettings

_CHUNK_BYTES = 2**20


def register(
    backend: RegistryBackend, settings: RegistrySettings, draft: Draft, manifest: Manifest, *, principal: str
) -> Version:
    """Store the files of a draft and publish its manifest. Doing it again changes nothing, and restores lost blobs.

    Raises:
        CrossfadeError: As `publication.publish` and `BlobStore.put`.
    """
    manifest = read_manifest(manifest)
    with leased(backend, {manifest.digest, *_digests(draft)}) as holder:
        _upload(backend, settings, draft, holder)
        existing = find_published(backend, manifest)
        return existing or publish_leased(backend, settings, manifest, principal=principal)[0]


def register_next(
    backend: RegistryBackend, settings: RegistrySettings, draft: Draft, name: str, *, principal: str
) -> Version:
    """Register a draft as the version that should come next, unless it is the highest version already.

    Raises:
        CrossfadeError: As `register`.
    """
    with leased(backend, _digests(draft)) as holder:
        _upload(backend, settings, draft, holder)
        while True:
            manifest = draft.manifest(name, next_version(backend, draft, name))
            try:
                return publish(backend, settings, manifest, principal=principal)[0]
            except VersionConflictError:
                continue  # another registration took this version meanwhile, so there is a higher one to follow now


def _digests(draft: Draft) -> set[str]:
    """Return everything the draft relies on: what it brings, and what it shares with versions that are registered."""
    return {entry.digest for entry in draft.files}


def next_version(backend: RegistryBackend, draft: Draft, name: str) -> str:
    """Return the semver under which `register_next` would register a draft now."""
    highest = backend.highest_version(name)
    if highest is not None and draft.manifest(name, highest.version).digest == highest.manifest_digest:
        return highest.version
    return str(propose_version(backend, name, draft.signature))


def _upload(backend: RegistryBackend, settings: RegistrySettings, draft: Draft, holder: str) -> None:
    for digest, content in draft.contents.items():
        chunks = renewing(backend, settings, _chunks_of(content), holder)
        backend.blobs.put(chunks, limit_bytes=settings.max_blob_bytes, expected=digest)


def _chunks_of(content: bytes | Path) -> Iterable[bytes]:
    return [content] if isinstance(content, bytes) else _read(content)


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk
