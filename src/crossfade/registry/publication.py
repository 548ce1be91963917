"""Publishing: the checks that every version passes, local or remote, and the semver that should come next."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Literal

from crossfade.core.compatibility import Bump, SignatureDiff, compare_signatures
from crossfade.core.identity import Semver, new_id
from crossfade.core.tensors import Signature
from crossfade.errors import (
    BreakingChangeError,
    CorruptBlobError,
    ManifestError,
    UnavailableError,
    VersionConflictError,
)
from crossfade.registry.acceptance import MAX_CARD_BYTES, MAX_GOLDEN_BYTES, check_golden, read_card, read_manifest
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.loading import inspect_version, read_files
from crossfade.registry.port import RegistryBackend
from crossfade.registry.versions import Card, Manifest, Version
from crossfade.settings import RegistrySettings
from crossfade.storage.blobs.port import BlobStore

_RANKS: dict[Bump, int] = {"patch": 0, "minor": 1, "major": 2}


def trust_policy(settings: RegistrySettings) -> TrustPolicy:
    """Return what the settings say this server trusts."""
    return TrustPolicy(allow_code=settings.allow_code_models, trusted_types=frozenset(settings.trusted_types))


def publish(
    backend: RegistryBackend, settings: RegistrySettings, content: bytes | Manifest, *, principal: str
) -> tuple[Version, bool]:
    """Check a manifest and everything it names, store it, and make the version visible.

    Returns:
        The version, and whether it is new: publishing the same manifest again returns the existing version.

    Raises:
        ManifestError: The manifest, the card or the golden requests cannot be accepted.
        CorruptBlobError: A blob that it names is missing or damaged.
        UnknownFlavorError, DeniedError, LoadFailedError: The model files cannot be accepted.
        BreakingChangeError: The semver understates what the signature changes.
        VersionConflictError: The semver is taken by another manifest.
    """
    manifest = read_manifest(content)
    existing = find_published(backend, manifest)
    if existing is not None:
        return existing, False
    with leased(backend, {manifest.digest, *(entry.digest for entry in manifest.files)}):
        return publish_leased(backend, settings, manifest, principal=principal)


@contextlib.contextmanager
def leased(backend: RegistryBackend, digests: Iterable[str]) -> Iterator[None]:
    """Protect blobs from garbage collection for as long as a registration relies on them."""
    holder = new_id()
    backend.lease_blobs(digests, holder)
    try:
        yield
    finally:
        with contextlib.suppress(UnavailableError):  # it runs out by itself
            backend.release_blobs(holder)


def find_published(backend: RegistryBackend, manifest: Manifest) -> Version | None:
    """Return the version with this very manifest, if it is published; its manifest is stored again if it was lost.

    Raises:
        VersionConflictError: The semver is taken by another manifest.
    """
    existing = backend.find_version(manifest.name, manifest.version)
    if existing is None:
        return None
    if existing.manifest_digest != manifest.digest:
        proposed = propose_version(backend, manifest.name, manifest.signature)
        raise VersionConflictError(ref=manifest.ref, proposed=f"{manifest.name}:{proposed}")
    _store_manifest(backend, manifest)
    return existing


def publish_leased(
    backend: RegistryBackend, settings: RegistrySettings, manifest: Manifest, *, principal: str
) -> tuple[Version, bool]:
    """Do what `publish` does for a manifest that was read with `read_manifest`, when its blobs are leased already."""
    card = _check_content(manifest, backend.blobs, settings)
    check_bump(backend, manifest)
    _store_manifest(backend, manifest)
    return backend.publish(manifest, card, stage=next(iter(settings.stages)), principal=principal)


def _store_manifest(backend: RegistryBackend, manifest: Manifest) -> None:
    encoded = manifest.encode()
    backend.blobs.put([encoded], limit_bytes=len(encoded), expected=manifest.digest)


def propose_version(backend: RegistryBackend, name: str, signature: Signature) -> Semver:
    """Return the version that should follow the highest release.

    The first is 1.0.0. A signature that breaks callers asks for the next major, one that only adds for the next minor,
    an equal one for the next patch. Before 1.0.0 a breaking signature asks for the next minor, as is the custom.
    """
    highest = backend.highest_version(name)
    if highest is None:
        return Semver(1, 0, 0)
    before = Semver.parse(highest.version)
    return before.bump(_required(before, compare_signatures(backend.manifest(highest).signature, signature)))


def _required(before: Semver, diff: SignatureDiff) -> Bump:
    return "minor" if diff.required == "major" and before.major == 0 else diff.required


def _bump_between(before: Semver, after: Semver) -> Bump:
    if after.major != before.major:
        return "major"
    return "minor" if after.minor != before.minor else "patch"


def _check_content(manifest: Manifest, blobs: BlobStore, settings: RegistrySettings) -> Card:
    for entry in manifest.files:
        blob = blobs.find(entry.digest)
        if blob is None or blob.size != entry.size:
            damage = "missing" if blob is None else f"{blob.size} bytes long, not {entry.size}"
            raise CorruptBlobError(digest=entry.digest, path=entry.path, ref=manifest.ref, damage=damage)
        if entry.size > settings.max_blob_bytes:
            problem = f"`{entry.path}` is larger than {settings.max_blob_bytes} bytes"
            raise ManifestError(ref=manifest.ref, problem=problem)
    card = _read_one(manifest, blobs, "card", MAX_CARD_BYTES)
    golden = _read_one(manifest, blobs, "golden", MAX_GOLDEN_BYTES)
    if golden is not None:
        check_golden(golden, manifest)
    inspect_version(manifest, blobs, trust_policy(settings))
    return Card() if card is None else read_card(card, manifest.ref)


def _read_one(manifest: Manifest, blobs: BlobStore, role: Literal["card", "golden"], limit: int) -> bytes | None:
    for entry in manifest.files_of(role):
        if entry.size > limit:
            raise ManifestError(ref=manifest.ref, problem=f"`{entry.path}` is larger than {limit} bytes")
    return next(iter(read_files(manifest, blobs, role).values()), None)


def check_bump(backend: RegistryBackend, manifest: Manifest) -> None:
    """Check that a new semver says what its signature changes against the release before it.

    Raises:
        BreakingChangeError: It understates the change.
    """
    version = Semver.parse(manifest.version)
    lower = backend.highest_version(manifest.name, below=version)
    if lower is None:
        return
    before = Semver.parse(lower.version)
    diff = compare_signatures(backend.manifest(lower).signature, manifest.signature)
    if _RANKS[_bump_between(before, version)] < _RANKS[_required(before, diff)]:
        raise BreakingChangeError(
            ref=manifest.ref,
            changes="; ".join(diff.changes[:5]),
            required=_required(before, diff),
            proposed=f"{manifest.name}:{propose_version(backend, manifest.name, manifest.signature)}",
        )
