"""What the registry keeps: manifests, cards, versions, histories, pages. All immutable."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

import msgspec

from crossfade.core.hashing import canonical_json, sha256
from crossfade.core.tensors import Signature
from crossfade.registry.placement import Placement

Role = Literal["model", "preprocessor", "golden", "card", "code", "manifest"]
T = TypeVar("T")

MANIFEST_FORMAT = 1

MANIFEST_MEDIA_TYPE = "application/vnd.crossfade.manifest+json"

MANIFEST_PATH = "manifest.json"
"""Where the manifest itself stands among the stored files of a version; no file of a manifest may have this path."""

REJECTED = "rejected"
"""The stage whose versions no alias may point to, where a team has such a stage."""


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a version. `path` is a label, never joined to a file system path; `size` is in bytes."""

    path: str
    digest: str
    size: int
    media_type: str
    role: Role


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True, dict=True, forbid_unknown_fields=True):
    """The complete content of a version. Its digest is the version's identity.

    It holds no floats and no times, so that the same content always gives the same digest; evaluations, tags,
    parameters and the environment are in the card, golden requests in a file of their own, both listed in `files`.

    Args:
        name: The model.
        version: Its semver.
        flavor: How the model file is loaded.
        files: Every file, ordered by path.
        signature: The typed schema of requests and answers.
        preprocessor: The flavor of the fitted preprocessor, or empty.
        placement: On which device and with how many threads it wants to run, if it declares that.
    """

    name: str
    version: str
    flavor: str
    files: tuple[FileEntry, ...]
    signature: Signature
    preprocessor: str = ""
    format: int = MANIFEST_FORMAT
    placement: Placement | None = None

    def encode(self) -> bytes:
        """Return the canonical JSON that is stored and hashed."""
        return canonical_json(self)

    @cached_property
    def digest(self) -> str:
        """The identity of the version."""
        return sha256(self.encode())

    @property
    def ref(self) -> str:
        """`name:1.2.0`."""
        return f"{self.name}:{self.version}"

    def files_of(self, role: Role) -> tuple[FileEntry, ...]:
        """Return the files with this role."""
        return tuple(entry for entry in self.files if entry.role == role)


class Card(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What people want to know about a version; stored as canonical JSON, immutable like everything else.

    Args:
        evaluation: Offline measurements, finite numbers.
        tags: Short texts to search for.
        parameters: Hyperparameters, JSON values.
        dataset: Which data it was trained on (a reference, not the data).
        code: Which code trained it (a commit, a URL).
        environment: Package -> version at training time, and `python`.
        parents: References of versions it was made from.
        source: Where another registry keeps it (`models:/name/3`).
    """

    description: str = ""
    evaluation: dict[str, float] = {}
    tags: dict[str, str] = {}
    parameters: dict[str, Any] = {}
    dataset: str = ""
    code: str = ""
    environment: dict[str, str] = {}
    parents: tuple[str, ...] = ()
    source: str = ""


class Version(msgspec.Struct, frozen=True):
    """A registered version as the registry lists it. Everything but stage, aliases and deprecation never changes."""

    model: str
    version: str
    number: int
    manifest_digest: str
    flavor: str
    stage: str
    size_bytes: int
    evaluation: dict[str, float]
    tags: dict[str, str]
    source: str
    created_at: datetime
    created_by: str
    deprecated_at: datetime | None = None
    deprecation_reason: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """`name:1.2.0`."""
        return f"{self.model}:{self.version}"


class RegisteredModel(msgspec.Struct, frozen=True):
    """A model as the registry lists it: its newest version (by registration) and where its aliases point."""

    name: str
    description: str
    created_at: datetime
    created_by: str
    version_count: int
    latest_version: str
    aliases: dict[str, str]
    unloaded: bool = False


class AliasMove(msgspec.Struct, frozen=True):
    """One entry of the append-only history of an alias: who moved it, when, why, from where to where."""

    seq: int
    model: str
    alias: str
    source: str | None
    target: str | None
    moved_at: datetime
    moved_by: str
    reason: str


class StageChange(msgspec.Struct, frozen=True):
    """One entry of the append-only history of a version's stage."""

    seq: int
    model: str
    version: str
    source: str | None
    target: str
    changed_at: datetime
    changed_by: str
    reason: str


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some items and the cursor of the next page; an empty cursor means that this was the last."""

    items: tuple[T, ...]
    next_cursor: str = ""
