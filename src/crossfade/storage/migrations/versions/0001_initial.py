"""Everything that release 0.1 stores."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create all tables, and the one row of `head`."""
    _create_control()
    _create_models()
    _create_content()
    _create_history()
    _create_serving()
    head = sa.table("head", sa.column("id"), sa.column("revision"), sa.column("audit_hash"))
    op.bulk_insert(head, [{"id": 1, "revision": 0, "audit_hash": "0" * 64}])


def downgrade() -> None:
    """Drop all tables, those that refer to others first."""
    for name in (
        "processes",
        "candidates",
        "blob_candidates",
        "blob_leases",
        "stage_history",
        "alias_history",
        "aliases",
        "version_parents",
        "version_files",
        "versions",
        "models",
        "audit",
        "changes",
        "head",
    ):
        op.drop_table(name)


def _create_control() -> None:
    op.create_table(
        "head",
        sa.Column("id", sa.Integer, nullable=False, comment="always 1"),
        sa.Column(
            "revision", sa.BigInteger, nullable=False, comment="of the newest change; locked by every writer first"
        ),
        sa.Column("audit_hash", sa.String(64), nullable=False, comment="hash of the newest audit entry"),
        sa.PrimaryKeyConstraint("id"),
        comment="one row; updating it first serialises writers, so revisions and the audit chain have no gaps",
    )
    op.create_table(
        "changes",
        sa.Column("revision", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("changed_at", sa.String(27), nullable=False),
        sa.PrimaryKeyConstraint("revision"),
        comment="outbox: one row per committed change, the source of snapshot revisions",
    )
    op.create_table(
        "audit",
        sa.Column(
            "seq", sa.BigInteger, autoincrement=False, nullable=False, comment="equals the revision of its change"
        ),
        sa.Column("at", sa.String(27), nullable=False),
        sa.Column("principal", sa.String(128), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False, comment="canonical JSON"),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False, comment="SHA-256 over previous_hash and this entry"),
        sa.PrimaryKeyConstraint("seq"),
    )


def _create_models() -> None:
    op.create_table(
        "models",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("description", sa.Text, server_default="", nullable=False),
        sa.Column("created_at", sa.String(27), nullable=False),
        sa.Column("created_by", sa.String(128), nullable=False),
        sa.Column("unloaded", sa.Boolean, server_default="0", nullable=False, comment="asked not to be served"),
        sa.Column(
            "version_count",
            sa.BigInteger,
            server_default="0",
            nullable=False,
            comment="counting rows takes too long",
        ),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "versions",
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("semver", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False, comment="order of registration within the model, from 1"),
        sa.Column("major", sa.Integer, nullable=False),
        sa.Column("minor", sa.Integer, nullable=False),
        sa.Column("patch", sa.Integer, nullable=False),
        sa.Column("manifest_digest", sa.String(64), nullable=False),
        sa.Column("flavor", sa.String(32), nullable=False),
        sa.Column("stage", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("evaluation", sa.Text, nullable=False, comment="JSON object of numbers"),
        sa.Column("tags", sa.Text, nullable=False, comment="JSON object of strings"),
        sa.Column("source", sa.Text, server_default="", nullable=False, comment="where another registry keeps it"),
        sa.Column("created_at", sa.String(27), nullable=False),
        sa.Column("created_by", sa.String(128), nullable=False),
        sa.Column("deprecated_at", sa.String(27)),
        sa.Column("deprecation_reason", sa.Text, server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.name"],
        ),
        sa.PrimaryKeyConstraint("model", "semver"),
    )
    op.create_index("versions_by_major", "versions", ["model", "major", "number"])
    op.create_index("versions_by_minor", "versions", ["model", "major", "minor", "number"])
    op.create_index("versions_by_number", "versions", ["model", "number"], unique=True)
    op.create_index("versions_by_precedence", "versions", ["model", "major", "minor", "patch"])
    op.create_index("versions_by_source", "versions", ["model", "source", "number"])
    op.create_index("versions_by_stage", "versions", ["model", "stage", "number"])


def _create_content() -> None:
    op.create_table(
        "version_files",
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("semver", sa.String(64), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("media_type", sa.String(128), nullable=False),
        sa.Column("role", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(["model", "semver"], ["versions.model", "versions.semver"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("model", "semver", "path"),
        comment="the files of the manifest, and the manifest itself (role `manifest`): what garbage collection reads",
    )
    op.create_index("version_files_by_digest", "version_files", ["digest"])
    op.create_table(
        "version_parents",
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("semver", sa.String(64), nullable=False),
        sa.Column("parent", sa.String(160), nullable=False, comment="`name:1.2.0`, of this registry or another"),
        sa.ForeignKeyConstraint(["model", "semver"], ["versions.model", "versions.semver"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("model", "semver", "parent"),
        comment="what a version was made from; a parent cannot be deleted",
    )
    op.create_index("version_parents_by_parent", "version_parents", ["parent"])
    op.create_table(
        "aliases",
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("alias", sa.String(64), nullable=False),
        sa.Column("semver", sa.String(64), nullable=False),
        sa.Column("moved_at", sa.String(27), nullable=False),
        sa.ForeignKeyConstraint(
            ["model", "semver"],
            ["versions.model", "versions.semver"],
        ),
        sa.PrimaryKeyConstraint("model", "alias"),
    )
    op.create_index("aliases_by_version", "aliases", ["model", "semver"])


def _create_history() -> None:
    op.create_table(
        "alias_history",
        sa.Column(
            "seq", sa.BigInteger, autoincrement=False, nullable=False, comment="equals the revision of its change"
        ),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("alias", sa.String(64), nullable=False),
        sa.Column("source", sa.String(64), comment="semver before; null = first"),
        sa.Column("target", sa.String(64), comment="semver after; null = removed"),
        sa.Column("moved_at", sa.String(27), nullable=False),
        sa.Column("moved_by", sa.String(128), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        comment="append-only",
    )
    op.create_index("alias_history_by_alias", "alias_history", ["model", "alias", "seq"])
    op.create_index("alias_history_by_model", "alias_history", ["model", "seq"])
    op.create_table(
        "stage_history",
        sa.Column(
            "seq", sa.BigInteger, autoincrement=False, nullable=False, comment="equals the revision of its change"
        ),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("semver", sa.String(64), nullable=False),
        sa.Column("source", sa.String(64)),
        sa.Column("target", sa.String(64), nullable=False),
        sa.Column("changed_at", sa.String(27), nullable=False),
        sa.Column("changed_by", sa.String(128), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        comment="append-only",
    )
    op.create_index("stage_history_by_model", "stage_history", ["model", "seq"])
    op.create_index("stage_history_by_version", "stage_history", ["model", "semver", "seq"])


def _create_serving() -> None:
    op.create_table(
        "blob_leases",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(64), nullable=False, comment="id of the registration under way"),
        sa.Column("expires_at", sa.String(27), nullable=False),
        sa.PrimaryKeyConstraint("digest", "holder"),
        comment="digests that an unfinished registration relies on; garbage collection spares them",
    )
    op.create_table(
        "blob_candidates",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("marked_at", sa.String(27), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        comment="first phase of garbage collection: seen unreferenced at that time",
    )
    op.create_table(
        "candidates",
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("semver", sa.String(64), nullable=False),
        sa.Column("requested_at", sa.String(27), nullable=False),
        sa.PrimaryKeyConstraint("model", "semver"),
        comment="versions that every process shall load because an alias is about to move there",
    )
    op.create_table(
        "processes",
        sa.Column("process", sa.String(64), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("started_at", sa.String(27), nullable=False),
        sa.Column("seen_at", sa.String(27), nullable=False, comment="heartbeat"),
        sa.Column("revision", sa.BigInteger, nullable=False, comment="of the snapshot it answers with"),
        sa.Column("slots", sa.Text, nullable=False, comment='JSON: {"name:1.0.0": ["ready", ""]}, state and problem'),
        sa.PrimaryKeyConstraint("process"),
    )
