"""What can be asked of the registry over the wire, and the answers that are not records: one schema for both ends."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from crossfade.core.compatibility import Bump
from crossfade.core.tensors import Signature
from crossfade.registry.ensembles.document import EnsembleSpec
from crossfade.registry.versions import Card, Manifest, Version


class UploadRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The digests that a registration is going to rely on.

    Args:
        holder: The id of the registration, chosen by the client; its blobs are safe from garbage collection.
        digests: SHA-256, hexadecimal.
    """

    holder: str
    digests: tuple[str, ...]


class Upload(msgspec.Struct, frozen=True):
    """Which of the digests are not stored yet, so must be sent."""

    holder: str
    missing: tuple[str, ...]


class PublishRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A complete version whose blobs are stored. Publishing the same manifest again changes nothing."""

    manifest: Manifest
    holder: str = ""


class EnsembleRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An ensemble of registered versions. Registering the same again changes nothing.

    Args:
        spec: Which versions, any spelling, and how they work together.
        version: Its semver; by default what the change of the signature asks for.
        card: Evaluation, tags, parameters and so on; its parents become the versions that take part.
    """

    spec: EnsembleSpec
    version: str | None = None
    card: Card = Card()


class TransitionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The stage that a version shall go to, and why."""

    stage: str
    reason: str = ""


class ReasonRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why something is done; it is kept in the history."""

    reason: str = ""


class MoveRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an alias shall point.

    Args:
        version: The semver of the target, or another reference to it.
        expected: When given, the semver that the alias must point to now, so that nobody's move is overwritten.
        reason: Kept in the history.
        override_latch: Make a version champion that was rolled back before: a person's word, with a reason.
    """

    version: str
    expected: str | None = None
    reason: str = ""
    override_latch: bool = False


class SignatureRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The signature of a version that is not registered yet."""

    signature: Signature


class Proposal(msgspec.Struct, frozen=True):
    """The semver that a new signature asks for, and why.

    Args:
        version: The next semver.
        required: Which part of it has to change.
        changes: The differences to the newest release, breaking ones first.
    """

    version: str
    required: Bump
    changes: tuple[str, ...] = ()


class VersionDetails(msgspec.Struct, frozen=True):
    """Everything about a version: its record, its content, and what people want to know about it."""

    version: Version
    manifest: Manifest
    card: Card


class HistoryEntry(msgspec.Struct, frozen=True):
    """One thing that happened to a model: an alias was moved, or the stage of a version changed.

    Args:
        seq: Orders the entries.
        kind: What changed.
        model: Whose.
        subject: The alias, or the semver of the version.
        source: Where the alias pointed, or the stage; None when it is the first.
        target: The same afterwards; None when the alias was removed.
        at: When.
        by: Who did it.
        reason: Why.
    """

    seq: int
    kind: Literal["alias", "stage"]
    model: str
    subject: str
    source: str | None
    target: str | None
    at: datetime
    by: str
    reason: str


class Garbage(msgspec.Struct, frozen=True):
    """Blobs that nothing needs: how many were deleted (or would be), and their bytes."""

    blobs: int
    size_bytes: int


class InvalidateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose answers shall be computed anew, and why.

    Args:
        ref: A bare name means every version of the model; any other reference means the one version.
        reason: Kept in the audit log.
    """

    ref: str
    reason: str = ""


class CacheStatus(msgspec.Struct, frozen=True):
    """What is kept of answers, and what the process that answers this has found in it.

    Args:
        mode: `off`, `on`, or `models`.
        models: For the mode `models`: which.
        max_bytes: Memory per process.
        ttl_seconds: Age at which an answer is computed again.
        shared: Whether processes share a second level.
        entries: Answers in the process's memory.
        size_bytes: Memory charged to them.
        evictions: Answers that made room for others.
        lookups: How questions ended, how often: `memory`, `shared`, `joined`, `computed`.
        problems: What went wrong in the second level, how often.
        breakers: `read` and `write` -> `closed` when the second level is used, else `open` or `half_open`.
    """

    mode: str
    models: tuple[str, ...]
    max_bytes: int
    ttl_seconds: float
    shared: bool
    entries: int = 0
    size_bytes: int = 0
    evictions: int = 0
    lookups: dict[str, int] = {}
    problems: dict[str, int] = {}
    breakers: dict[str, str] = {}


class Rehearsal(msgspec.Struct, frozen=True):
    """The answer to a dry run: everything was checked, nothing was changed."""

    would: str
    dry_run: bool = True


class ProcessStatus(msgspec.Struct, frozen=True):
    """One serving process: what it answers with.

    Args:
        process: Its id.
        host, pid: Where it runs.
        started_at, seen_at: Since when, and when it reported last.
        revision: Of the snapshot that it routes predictions by.
        slots: `name:1.0.0` -> state and problem.
        configs: Name -> revision by which it answers readers, of each config that a rollout moves; it follows those
            apart from the snapshot.
    """

    process: str
    host: str
    pid: int
    started_at: datetime
    seen_at: datetime
    revision: int
    slots: dict[str, tuple[str, str]] = {}
    configs: dict[str, int] = {}


class ServerStatus(msgspec.Struct, frozen=True):
    """What runs: the newest revision, the processes that serve it, and what is in an emergency (with its mode).

    `warnings` says what the process that answers this does without although it should not.
    """

    release: str
    revision: int
    processes: tuple[ProcessStatus, ...] = ()
    emergencies: dict[str, str] = {}
    warnings: tuple[str, ...] = ()
