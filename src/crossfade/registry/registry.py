"""`Registry`: everything that can be done with models and versions. Each verb's rules live in a file of their own.

Unless said otherwise, a `ref` is any spelling of a reference (`churn`, `churn:1.2.0`, `churn@challenger`,
`models:/churn/3`), and a method that is given an unknown one raises `ModelNotFoundError`, `VersionNotFoundError` or
`AliasNotFoundError`. Any method may raise `UnavailableError`. A `principal` is who asks; it goes into the histories.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

from crossfade.core.compatibility import SignatureDiff, compare_signatures
from crossfade.core.identity import CHAMPION, ModelRef, Semver, check_name
from crossfade.core.tensors import Signature
from crossfade.errors import BlobNotFoundError, ConflictError, CorruptBlobError, IllegalTransitionError, NotFoundError
from crossfade.registry import comparison, publication, registration, verification
from crossfade.registry.acceptance import MAX_PRINCIPAL, attribution, check_text
from crossfade.registry.comparison import ComparisonReport
from crossfade.registry.ensembles.document import EnsembleSpec
from crossfade.registry.ensembles.packing import pack_ensemble
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.golden import GoldenRequests
from crossfade.registry.histories import previous_version
from crossfade.registry.loading import load_pipeline
from crossfade.registry.packaging import Draft, pack
from crossfade.registry.pipeline import Pipeline
from crossfade.registry.placement import Placement
from crossfade.registry.port import RegistryBackend
from crossfade.registry.resolution import missing_model, resolve, suggesting
from crossfade.registry.verification import ModelOpener, VerifyReport
from crossfade.registry.versions import (
    MANIFEST_MEDIA_TYPE,
    MANIFEST_PATH,
    AliasMove,
    Card,
    FileEntry,
    Manifest,
    Page,
    RegisteredModel,
    StageChange,
    Version,
)
from crossfade.settings import RegistrySettings
from crossfade.storage.blobs.port import Blob

LOCAL = "local"
"""The principal of whoever works with the platform directly, without a server in between."""


class Registry:
    """Models, their versions, aliases and stages.

    Args:
        backend: Where records and bytes are kept.
        settings: What may be registered, and how a version may move.

    Example:
        >>> version = registry.register("churn", model, example=rows)  # doctest: +SKIP
        >>> registry.move_alias("churn", "champion", version.ref)  # doctest: +SKIP
    """

    def __init__(self, backend: RegistryBackend, settings: RegistrySettings | None = None) -> None:
        self.backend = backend
        self.settings = settings or RegistrySettings()

    @property
    def policy(self) -> TrustPolicy:
        """What this registry trusts."""
        return publication.trust_policy(self.settings)

    # --- registering ---

    def register(  # noqa: PLR0913 - everything that belongs to a version, by name
        self,
        name: str,
        model: object,
        *,
        version: str | None = None,
        preprocessor: object = None,
        signature: Signature | None = None,
        example: object = None,
        golden: GoldenRequests | None = None,
        evaluation: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        dataset: str = "",
        code: str = "",
        description: str = "",
        parents: Iterable[str] = (),
        flavor: str | None = None,
        placement: Placement | None = None,
        principal: str = LOCAL,
    ) -> Version:
        """Register a model object or file as a new version. Doing it again with the same content changes nothing.

        Args:
            name: The model, a lower-case slug.
            model: A model object, or the path of a model file.
            version: Its semver; by default the one that `propose_version` gives.
            preprocessor: A fitted transformer (object or path) that every request passes through first.
            signature: The typed schema; by default read from the format, or inferred from `example`.
            example: Rows of raw input: a frame, an array, a dict of arrays, or rows as dicts.
            golden: Golden requests of your own; by default the first rows of `example` and their answers.
            evaluation: Offline measurements, finite numbers.
            tags: Short texts to search for.
            parameters: Hyperparameters, JSON values.
            dataset: Which data it was trained on.
            code: Which code trained it.
            description: What it is for.
            parents: Versions it was made from, any spelling.
            flavor: The format, when it should not be detected.
            placement: On which device and with how many threads it wants to be served.
            principal: Who registers it.

        Raises:
            InvalidInputError, DeniedError, UnsafeError: The model cannot be packed, see `packaging.pack`.
            BreakingChangeError: `version` understates what the signature changes.
            VersionConflictError: `version` is taken by other content.
        """
        check_name(name)
        check_text("principal", principal, MAX_PRINCIPAL)
        card = Card(
            description=description,
            evaluation=dict(evaluation or {}),
            tags=dict(tags or {}),
            parameters=dict(parameters or {}),
            dataset=dataset,
            code=code,
            parents=tuple(self.resolve(parent).ref for parent in parents),
        )
        draft = pack(
            model,
            preprocessor=preprocessor,
            signature=signature,
            example=example,
            golden=golden,
            flavor=flavor,
            card=card,
            policy=self.policy,
            placement=placement,
        )
        return self._register(name, draft, version, principal)

    def register_ensemble(
        self,
        name: str,
        spec: EnsembleSpec,
        *,
        version: str | None = None,
        card: Card | None = None,
        principal: str = LOCAL,
    ) -> Version:
        """Register versions that answer together as a new version. Doing it again with the same changes nothing.

        The new version holds everything that it takes: no alias that moves later, and no member that is deleted later,
        changes what it answers.

        Args:
            name: The model, a lower-case slug.
            spec: Which versions, any spelling, and how they work together.
            version: Its semver; by default the one that `propose_version` gives.
            card: Evaluation, tags, parameters and so on; its parents become the versions that take part.
            principal: Who registers it.

        Raises:
            InvalidInputError, NotFoundError, DeniedError, UnsafeError: See `ensembles.packing.pack_ensemble`.
            BreakingChangeError: `version` understates what the signature changes.
            VersionConflictError: `version` is taken by other content.
        """
        check_name(name)
        check_text("principal", principal, MAX_PRINCIPAL)
        return self._register(name, self.pack_ensemble(spec, card), version, principal)

    def pack_ensemble(self, spec: EnsembleSpec, card: Card | None = None) -> Draft:
        """Do everything that `register_ensemble` does before it gives the version a name; nothing is stored."""
        return pack_ensemble(self.backend, self.policy, spec, self.resolve, card or Card())

    def _register(self, name: str, draft: Draft, version: str | None, principal: str) -> Version:
        if version is None:
            return registration.register_next(self.backend, self.settings, draft, name, principal=principal)
        manifest = draft.manifest(name, str(Semver.parse(version)))
        return registration.register(self.backend, self.settings, draft, manifest, principal=principal)

    def store_blob(self, chunks: Iterable[bytes], expected: str | None, holder: str) -> Blob:
        """Store one file of a version that is about to be published, protected from garbage collection.

        Args:
            chunks: Its bytes.
            expected: Its digest, when the sender knows it; then it is protected before it is stored.
            holder: Id of the registration under way; `release` ends the protection.

        Raises:
            BodyTooLargeError: It is larger than the largest file allowed.
            CorruptBlobError: The bytes do not have the expected digest.
            StorageFullError: There is no space.
        """
        if expected is not None:
            self.backend.lease_blobs([expected], holder)
        arriving = publication.renewing(self.backend, self.settings, chunks, holder)
        blob = self.backend.blobs.put(arriving, limit_bytes=self.settings.max_blob_bytes, expected=expected)
        if expected is None:
            self.backend.lease_blobs([blob.digest], holder)
        return blob

    def release(self, holder: str) -> None:
        """End the protection that `store_blob` gave, after publishing or giving up."""
        self.backend.release_blobs(holder)

    def publish(self, content: bytes | Manifest, *, principal: str = LOCAL) -> tuple[Version, bool]:
        """Make a version visible whose blobs are stored; see `publication.publish` for what is checked.

        Returns:
            The version, and whether it is new: publishing the same manifest again returns the existing version.
        """
        check_text("principal", principal, MAX_PRINCIPAL)
        return publication.publish(self.backend, self.settings, content, principal=principal)

    def propose_version(self, name: str, signature: Signature) -> Semver:
        """Return the semver that should come next, by what the signature changes."""
        return publication.propose_version(self.backend, check_name(name), signature)

    # --- looking ---

    def resolve(self, ref: str | ModelRef) -> Version:
        """Return the version that a reference means.

        Raises:
            InvalidRefError: It is no reference.
        """
        return resolve(self.backend, ref, stages=self.settings.stages)

    def model(self, name: str) -> RegisteredModel:
        """Return a model with its aliases."""
        return self.backend.find_model(check_name(name)) or missing_model(self.backend, name)

    def list_models(self, *, prefix: str = "", cursor: str = "", limit: int = 100) -> Page[RegisteredModel]:
        """Return models in the order of their names.

        Raises:
            InvalidPageError: The cursor is not one of this list, or the limit is not 1 to 1000. So for every list.
        """
        return self.backend.list_models(prefix=prefix and check_name(prefix), cursor=cursor, limit=limit)

    def list_versions(
        self, name: str, *, stage: str = "", prefix: str = "", cursor: str = "", limit: int = 100
    ) -> Page[Version]:
        """Return versions, newest first; `prefix` selects a line such as `2.` or `2.1.`."""
        stage = stage and check_name(stage, "stage")
        with suggesting(self.backend, check_name(name)):
            return self.backend.list_versions(name, stage=stage, prefix=prefix, cursor=cursor, limit=limit)

    def manifest(self, ref: str | ModelRef) -> Manifest:
        """Return the manifest of a version, after checking its digest."""
        return self.backend.manifest(self.resolve(ref))

    def card(self, ref: str | ModelRef) -> Card:
        """Return the card of a version, after checking its digest."""
        return self.backend.card(self.resolve(ref))

    def history(self, name: str, *, cursor: str = "", limit: int = 100) -> Page[AliasMove | StageChange]:
        """Return what happened to a model's aliases and stages, newest first."""
        with suggesting(self.backend, check_name(name)):
            return self.backend.history(name, cursor=cursor, limit=limit)

    def alias_history(self, name: str, alias: str, *, cursor: str = "", limit: int = 100) -> Page[AliasMove]:
        """Return the moves of one alias, newest first."""
        check_name(alias, "alias")
        with suggesting(self.backend, check_name(name)):
            return self.backend.alias_history(name, alias, cursor=cursor, limit=limit)

    def compare(self, a: str | ModelRef, b: str | ModelRef) -> ComparisonReport:
        """Return what differs between two versions, `b` seen from `a`."""
        return comparison.compare(self.backend, self.resolve(a), self.resolve(b))

    def check_compatibility(self, a: str | ModelRef, b: str | ModelRef) -> SignatureDiff:
        """Return what callers of `a` meet when they call `b`."""
        return compare_signatures(self.manifest(a).signature, self.manifest(b).signature)

    # --- moving ---

    def transition(self, ref: str | ModelRef, stage: str, *, reason: str = "", principal: str = LOCAL) -> Version:
        """Move a version to another stage; where it already is, nothing changes.

        Raises:
            IllegalTransitionError: The settings do not allow it; lists what they allow.
            StillReferencedError: The stage is `rejected`, and an alias points to the version.
        """
        version = self.resolve(ref)
        if version.stage == stage:
            return version
        # a stage that the settings no longer know must not be a dead end
        allowed = self.settings.stages.get(version.stage, tuple(self.settings.stages))
        if stage not in allowed:
            raise IllegalTransitionError(
                ref=version.ref, source=version.stage, target=stage[:64], allowed=", ".join(allowed) or "nothing"
            )
        return self.backend.change_stage(
            version.model, version.version, stage, source=version.stage, **attribution(principal, reason)
        )

    def move_alias(
        self,
        name: str,
        alias: str,
        target: str | ModelRef | None,
        *,
        expected: str | None = None,
        reason: str = "",
        principal: str = LOCAL,
    ) -> AliasMove:
        """Point an alias to a version, or remove it. Moving it to where it is changes nothing.

        Args:
            name: The model.
            alias: The alias.
            target: A semver, any reference to a version of this model, or None to remove the alias.
            expected: When given, the semver that the alias must point to now.
            reason: Why, for the history.
            principal: Who moves it.

        Raises:
            AliasMovedError: It points elsewhere than `expected`.
            RejectedVersionError: The target is in the stage `rejected`.
            ConflictError: The target belongs to another model.
        """
        check_name(name), check_name(alias, "alias")
        semver = None if target is None else self._version_of(name, target).version
        expected = expected and str(Semver.parse(expected))
        with suggesting(self.backend, name):
            return self.backend.move_alias(name, alias, semver, expected=expected, **attribution(principal, reason))

    def previous_version(self, name: str, alias: str = CHAMPION) -> Version:
        """Return the version that `rollback` would go to.

        Raises:
            NoPreviousVersionError: There is none.
        """
        self.resolve(ModelRef(check_name(name), alias=check_name(alias, "alias")))
        return previous_version(self.backend, name, alias)

    def rollback(self, name: str, alias: str = CHAMPION, *, reason: str = "", principal: str = LOCAL) -> AliasMove:
        """Move an alias back to the version it pointed to before.

        Going back twice goes back two steps, like undo in an editor, and never to the version just withdrawn; versions
        that were deleted or rejected since are passed over. To go forward again, move the alias.

        Raises:
            NoPreviousVersionError: There is nothing to go back to.
            AliasMovedError: Somebody moved it at the same moment.
        """
        now = self.resolve(ModelRef(check_name(name), alias=check_name(alias, "alias")))
        target = previous_version(self.backend, name, alias)
        return self.backend.move_alias(
            name, alias, target.version, expected=now.version, **attribution(principal, reason or "rollback")
        )

    def deprecate(self, ref: str | ModelRef, *, reason: str = "", principal: str = LOCAL) -> Version:
        """Mark a version as deprecated; it stays usable."""
        version = self.resolve(ref)
        return self.backend.deprecate(version.model, version.version, **attribution(principal, reason))

    def delete(self, ref: str | ModelRef, *, reason: str = "", principal: str = LOCAL) -> Version:
        """Forget a version, and return what it was. Garbage collection deletes its blobs later.

        Raises:
            StillReferencedError: An alias points to it or is about to, another version was made from it, or a job, an
                experiment or a deployment needs it.
        """
        version = self.resolve(ref)
        self.backend.delete_version(version.model, version.version, **attribution(principal, reason))
        return version

    # --- content ---

    def load(self, ref: str | ModelRef) -> Pipeline:
        """Load a version; every byte is checked against its digest before it is parsed.

        Raises:
            UnsafeError: A blob is missing or damaged, or the version cannot be loaded here.
            DeniedError: The policy does not allow its format.
        """
        return load_pipeline(self.manifest(ref), self.backend.blobs, self.policy)

    def verify(self, ref: str | ModelRef, open_model: ModelOpener | None = None) -> VerifyReport:
        """Read every blob of a version, load it, and ask it its golden requests.

        Raises:
            UnsafeError: It is not what was registered, or does not answer as it did.
        """
        return verification.verify(self.backend, self.resolve(ref), self.policy, open_model)

    def open_file(self, ref: str | ModelRef, path: str) -> tuple[FileEntry, BinaryIO]:
        """Return a file of a version, or its manifest as `manifest.json`; the caller closes the stream.

        Raises:
            NotFoundError: The version has no such file.
            CorruptBlobError: Its blob is missing.
        """
        version = self.resolve(ref)
        manifest = self.backend.manifest(version)
        size = len(manifest.encode())
        own = FileEntry(MANIFEST_PATH, manifest.digest, size, MANIFEST_MEDIA_TYPE, "manifest")
        entry = next((entry for entry in (*manifest.files, own) if entry.path == path), None)
        if entry is None:
            raise NotFoundError(what=f"{version.ref}/{path[:200]}")
        try:
            return entry, self.backend.blobs.open(entry.digest)
        except BlobNotFoundError as error:
            raise CorruptBlobError(digest=entry.digest, path=path, ref=version.ref, damage="missing") from error

    def collect_garbage(self, *, dry_run: bool = False) -> tuple[int, int]:
        """Delete blobs that nothing has needed for the grace period; return how many, and how many bytes."""
        return self.backend.collect_garbage(grace_seconds=self.settings.garbage_grace_seconds, dry_run=dry_run)

    def _version_of(self, name: str, target: str | ModelRef) -> Version:
        if isinstance(target, str) and not {":", "@", "/"} & set(target):
            target = ModelRef(name, version=str(Semver.parse(target)))
        version = self.resolve(target)
        if version.model != name:
            raise ConflictError(problem=f"`{version.ref}` is not a version of `{name}`")
        return version
