"""Models, versions, aliases, blobs, and what every change leaves behind."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from crossfade.storage.tables.base import metadata

head = Table(
    "head",
    metadata,
    Column("id", Integer, primary_key=True, comment="always 1"),
    Column("revision", BigInteger, nullable=False, comment="of the newest change; locked by every writer first"),
    Column("audit_hash", String(64), nullable=False, comment="hash of the newest audit entry"),
    comment="one row; updating it first serialises writers, so revisions and the audit chain have no gaps",
)

changes = Table(
    "changes",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(32), nullable=False),
    Column("model", String(64), nullable=False),
    Column("subject", Text, nullable=False),
    Column("changed_at", String(27), nullable=False),
    comment="outbox: one row per committed change, the source of snapshot revisions",
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False, comment="equals the revision of its change"),
    Column("at", String(27), nullable=False),
    Column("principal", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", Text, nullable=False),
    Column("details", Text, nullable=False, comment="canonical JSON"),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False, comment="SHA-256 over previous_hash and this entry"),
    Index("audit_by_subject", "subject", "seq"),
    Index("audit_by_time", "at"),
)

models = Table(
    "models",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("description", Text, nullable=False, server_default=""),
    Column("created_at", String(27), nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("unloaded", Boolean, nullable=False, server_default="0", comment="asked not to be served"),
    Column("version_count", BigInteger, nullable=False, server_default="0", comment="counting rows takes too long"),
)

versions = Table(
    "versions",
    metadata,
    Column("model", String(64), nullable=False),
    Column("semver", String(64), nullable=False),
    Column("number", BigInteger, nullable=False, comment="order of registration within the model, from 1"),
    Column("major", Integer, nullable=False),
    Column("minor", Integer, nullable=False),
    Column("patch", Integer, nullable=False),
    Column("manifest_digest", String(64), nullable=False),
    Column("flavor", String(32), nullable=False),
    Column("stage", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("evaluation", Text, nullable=False, comment="JSON object of numbers"),
    Column("tags", Text, nullable=False, comment="JSON object of strings"),
    Column("source", Text, nullable=False, server_default="", comment="where another registry keeps it"),
    Column("created_at", String(27), nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("deprecated_at", String(27)),
    Column("deprecation_reason", Text, nullable=False, server_default=""),
    PrimaryKeyConstraint("model", "semver"),
    ForeignKeyConstraint(["model"], ["models.name"]),
    Index("versions_by_number", "model", "number", unique=True),
    Index("versions_by_precedence", "model", "major", "minor", "patch"),
    Index("versions_by_major", "model", "major", "number"),
    Index("versions_by_minor", "model", "major", "minor", "number"),
    Index("versions_by_stage", "model", "stage", "number"),
    Index("versions_by_source", "model", "source", "number"),
)

version_files = Table(
    "version_files",
    metadata,
    Column("model", String(64), nullable=False),
    Column("semver", String(64), nullable=False),
    Column("path", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("media_type", String(128), nullable=False),
    Column("role", String(32), nullable=False),
    PrimaryKeyConstraint("model", "semver", "path"),
    ForeignKeyConstraint(["model", "semver"], ["versions.model", "versions.semver"], ondelete="CASCADE"),
    Index("version_files_by_digest", "digest"),
    comment="the files of the manifest, and the manifest itself (role `manifest`): what garbage collection reads",
)

version_parents = Table(
    "version_parents",
    metadata,
    Column("model", String(64), nullable=False),
    Column("semver", String(64), nullable=False),
    Column("parent", String(160), nullable=False, comment="`name:1.2.0`, of this registry or another"),
    PrimaryKeyConstraint("model", "semver", "parent"),
    ForeignKeyConstraint(["model", "semver"], ["versions.model", "versions.semver"], ondelete="CASCADE"),
    Index("version_parents_by_parent", "parent"),
    comment="what a version was made from; a parent cannot be deleted",
)

aliases = Table(
    "aliases",
    metadata,
    Column("model", String(64), nullable=False),
    Column("alias", String(64), nullable=False),
    Column("semver", String(64), nullable=False),
    Column("moved_at", String(27), nullable=False),
    PrimaryKeyConstraint("model", "alias"),
    ForeignKeyConstraint(["model", "semver"], ["versions.model", "versions.semver"]),
    Index("aliases_by_version", "model", "semver"),
)

alias_history = Table(
    "alias_history",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False, comment="equals the revision of its change"),
    Column("model", String(64), nullable=False),
    Column("alias", String(64), nullable=False),
    Column("source", String(64), comment="semver before; null = first"),
    Column("target", String(64), comment="semver after; null = removed"),
    Column("moved_at", String(27), nullable=False),
    Column("moved_by", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Index("alias_history_by_alias", "model", "alias", "seq"),
    Index("alias_history_by_model", "model", "seq"),
    Index("alias_history_by_time", "moved_at"),
    comment="append-only",
)

stage_history = Table(
    "stage_history",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False, comment="equals the revision of its change"),
    Column("model", String(64), nullable=False),
    Column("semver", String(64), nullable=False),
    Column("source", String(64)),
    Column("target", String(64), nullable=False),
    Column("changed_at", String(27), nullable=False),
    Column("changed_by", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Index("stage_history_by_version", "model", "semver", "seq"),
    Index("stage_history_by_model", "model", "seq"),
    comment="append-only",
)

blob_leases = Table(
    "blob_leases",
    metadata,
    Column("digest", String(64), nullable=False),
    Column("holder", String(64), nullable=False, comment="id of the registration under way"),
    Column("expires_at", String(27), nullable=False),
    PrimaryKeyConstraint("digest", "holder"),
    comment="digests that an unfinished registration relies on; garbage collection spares them",
)

blob_candidates = Table(
    "blob_candidates",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("marked_at", String(27), nullable=False),
    comment="first phase of garbage collection: seen unreferenced at that time",
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", String(64), nullable=False, comment="32 random bytes, hexadecimal"),
    comment="what the processes of this deployment share and nobody else knows",
)
