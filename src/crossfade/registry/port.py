"""What a registry backend promises. `crossfade.testing.registry` is the specification that every backend passes.

A backend keeps records and knows where bytes are; everything about formats, signatures and policy is done above it in
`registry.registry.Registry`. Nothing here assumes SQL: another model registry can stand behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from crossfade.core.identity import Semver
from crossfade.registry.versions import AliasMove, Card, Manifest, Page, RegisteredModel, StageChange, Version
from crossfade.storage.blobs.port import BlobStore


class RegistryBackend(Protocol):
    """Records of models, versions, aliases and stages. Every method may be called from any thread.

    Names and versions arrive checked. Unless said otherwise a method that is given an unknown name raises
    `ModelNotFoundError` or `VersionNotFoundError`, and any method may raise `UnavailableError`.
    Every change is committed together with its audit entry, or not at all.
    """

    @property
    def blobs(self) -> BlobStore:
        """Where this backend keeps the bytes of versions."""

    def lease_blobs(self, digests: Iterable[str], holder: str) -> None:
        """Protect digests from garbage collection before a publication relies on them, for a limited time.

        What the holder protects already is protected anew, so without digests this renews. A collection that is
        deleting one of these blobs is waited for: afterwards it is missing and has to be stored again.
        """

    def release_blobs(self, holder: str) -> None:
        """End the protection by this holder."""

    def publish(self, manifest: Manifest, card: Card, *, stage: str, principal: str) -> tuple[Version, bool]:
        """Make a version visible, in one step, after all its blobs (the manifest's too) are leased and stored.

        Returns:
            The version, and whether it is new: publishing the same manifest again returns the existing version.

        Raises:
            VersionConflictError: The semver is taken by another manifest.
            CorruptBlobError: A blob of the manifest is missing, or neither a lease nor another version protects it;
                nothing was published.
        """

    def find_model(self, name: str) -> RegisteredModel | None:
        """Return a model, or None."""

    def list_models(self, *, prefix: str = "", cursor: str = "", limit: int = 100) -> Page[RegisteredModel]:
        """Return models in the order of their names.

        Raises:
            InvalidPageError: The cursor is not one of this list, or the limit is not 1 to 1000. So for every list.
        """

    def find_version(self, name: str, version: str) -> Version | None:
        """Return a version, or None when the model or the version is unknown."""

    def find_versions(self, name: str, versions: Sequence[str]) -> dict[str, Version]:
        """Return those of some versions of a model that there are, by semver; in one go, whatever their number."""

    def find_numbered(self, name: str, number: int) -> Version | None:
        """Return the version whose `source` is `models:/name/number`, else the one registered as the `number`-th."""

    def find_in_stage(self, name: str, stage: str) -> Version | None:
        """Return the newest (by registration) version in a stage."""

    def find_alias(self, name: str, alias: str) -> Version | None:
        """Return the version that an alias points to."""

    def highest_version(self, name: str, *, below: Semver | None = None) -> Version | None:
        """Return the release (no prerelease) with the highest precedence, or the highest one before `below`."""

    def list_versions(
        self, name: str, *, stage: str = "", prefix: str = "", cursor: str = "", limit: int = 100
    ) -> Page[Version]:
        """Return versions, newest first; `prefix` selects semvers like `2.` or `2.1.`."""

    def manifest(self, version: Version) -> Manifest:
        """Return the manifest, after checking its digest."""

    def card(self, version: Version) -> Card:
        """Return the card."""

    def move_alias(
        self, name: str, alias: str, target: str | None, *, expected: str | None, principal: str, reason: str
    ) -> AliasMove:
        """Point an alias to a version, or remove it (`target` None). Moving it to where it is changes nothing.

        Args:
            expected: When given, the semver that the alias must point to now.

        Raises:
            AliasMovedError: It points elsewhere than `expected`.
            AliasNotFoundError: There is no such alias to remove.
            RejectedVersionError: The target is in the stage `rejected`.
        """

    def alias_history(self, name: str, alias: str = "", *, cursor: str = "", limit: int = 100) -> Page[AliasMove]:
        """Return alias moves, newest first."""

    def change_stage(
        self, name: str, version: str, target: str, *, source: str, principal: str, reason: str
    ) -> Version:
        """Change the stage if it still is `source`.

        Raises:
            ConflictError: The stage was changed meanwhile.
            StillReferencedError: The target is `rejected`, and an alias points to the version.
        """

    def stage_history(self, name: str, version: str = "", *, cursor: str = "", limit: int = 100) -> Page[StageChange]:
        """Return stage changes, newest first."""

    def history(self, name: str, *, cursor: str = "", limit: int = 100) -> Page[AliasMove | StageChange]:
        """Return the alias moves and stage changes of a model together, newest first."""

    def deprecate(self, name: str, version: str, *, principal: str, reason: str) -> Version:
        """Mark a version as deprecated; it stays usable."""

    def delete_version(self, name: str, version: str, *, principal: str, reason: str) -> None:
        """Forget a version (its blobs are left to garbage collection).

        Raises:
            StillReferencedError: An alias points to it or is about to, another version names it as its parent, or a job
                or an experiment needs it.
        """

    def collect_garbage(self, *, grace_seconds: float, dry_run: bool = False) -> tuple[int, int]:
        """Delete blobs that no version and no lease has referenced for the grace period, and what uploads left behind.

        Returns:
            How many blobs were deleted (or would be), and how many bytes.
        """

    def close(self) -> None:
        """Release connections."""
