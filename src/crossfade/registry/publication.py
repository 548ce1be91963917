"""Publishing: the checks that every version passes, local or remote, and the semver that should come next."""

from __future__ import annotations

import contextlib
import logging
import time
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
from crossfade.registry.loading import check_files, inspect_version, read_files
from crossfade.registry.port import RegistryBackend
from crossfade.registry.versions import Card, Manifest, Version
from crossfade.settings import RegistrySettings
from crossfade.storage.blobs.port import BlobStore

_log = logging.getLogger(__name__)

_RENEWALS = 4
"""How often a lease is renewed within the time that it lasts."""
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
def leased(backend: RegistryBackend, digests: Iterable[str]) -> Iterator[str]:
    """Protect blobs from garbage collection for as long as a registration relies on them; yield the holder's id."""
    holder = new_id()
    backend.lease_blobs(digests, holder)
    try:
        yield holder
    finally:
        with contextlib.suppress(UnavailableError):  # it runs out by itself
            backend.release_blobs(holder)


def renewing(
    backend: RegistryBackend, settings: RegistrySettings, chunks: Iterable[bytes], holder: str
) -> Iterator[bytes]:
    """Yield the bytes of an upload, and keep all that its registration relies on protected while they arrive."""
    pause = settings.lease_seconds / _RENEWALS
    due = time.monotonic() + pause
    for chunk in chunks:
        if time.monotonic() >= due:
            due = time.monotonic() + pause
            with contextlib.suppress(UnavailableError):  # there is time for another try before it runs out
                backend.lease_blobs((), holder)
        yield chunk


def find_published(backend: RegistryBackend, manifest: Manifest) -> Version | None:
    """Return the version with this very manifest, if it is published; its manifest is stored again if it was lost.

    Raises:
        VersionConflictError: The semver is taken by another manifest.
    """
    existing = backend.find_version(manifest.name, manifest.version)
    if existing is None:
        return None
    if existing.manifest_digest != manifest.digest:
        raise VersionConflictError(ref=manifest.ref, proposed=suggest_version(backend, manifest))
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

    Raises:
        CorruptBlobError: The manifest of the highest release is lost, so nobody knows what the signature changes.
    """
    highest = backend.highest_version(name)
    if highest is None:
        return Semver(1, 0, 0)
    before = Semver.parse(highest.version)
    try:
        signature_before = backend.manifest(highest).signature
    except CorruptBlobError as error:
        damage = f"{error.facts['damage']}, so no version can be proposed; give one, or restore it"
        raise CorruptBlobError(**error.facts | {"damage": damage}) from error
    return before.bump(_required(before, compare_signatures(signature_before, signature)))


def suggest_version(backend: RegistryBackend, manifest: Manifest) -> str:
    """Return the reference under which a manifest could be registered, for the hint of an error."""
    try:
        return f"{manifest.name}:{propose_version(backend, manifest.name, manifest.signature)}"
    except CorruptBlobError:
        highest = backend.highest_version(manifest.name)
        after = Semver(1, 0, 0) if highest is None else Semver.parse(highest.version).bump("major")
        return f"{manifest.name}:{after}"


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
    check_files(manifest, blobs, "code")
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

    When the manifest of that release is lost, nobody can tell, and the semver is taken at its word: one damaged blob
    must not stop a team from releasing.

    Raises:
        BreakingChangeError: It understates the change.
    """
    version = Semver.parse(manifest.version)
    lower = backend.highest_version(manifest.name, below=version)
    if lower is None:
        return
    before = Semver.parse(lower.version)
    try:
        diff = compare_signatures(backend.manifest(lower).signature, manifest.signature)
    except CorruptBlobError as error:
        _log.warning("%s was not compared with the release before it: %s", manifest.ref, error)
        return
    if _RANKS[_bump_between(before, version)] < _RANKS[_required(before, diff)]:
        raise BreakingChangeError(
            ref=manifest.ref,
            changes="; ".join(diff.changes[:5]),
            required=_required(before, diff),
            proposed=suggest_version(backend, manifest),
        )
