"""Configs: their specifications, numbered versions, who reads which, and what clients said that they run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, empty."""
    op.create_table(
        "configs",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False, comment="revision of its creation: the order of configs"),
        sa.Column("active", sa.Integer, comment="number of the version that everybody reads; null = none yet"),
        sa.Column(
            "routing",
            sa.Text,
            comment="JSON: who reads which version while a rollout moves them; null = everybody `active`",
        ),
        sa.Column("changed", sa.BigInteger, nullable=False, comment="revision of the newest change that readers see"),
        sa.Column("created_at", sa.String(27), nullable=False),
        sa.Column("created_by", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("configs_by_number", "configs", ["number"], unique=True)
    op.create_table(
        "config_specs",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False, comment="from 1"),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("body", sa.Text, nullable=False, comment="canonical JSON: schema, rules, and what shows its impact"),
        sa.Column("created_at", sa.String(27), nullable=False),
        sa.Column("created_by", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("name", "number"),
        sa.ForeignKeyConstraint(["name"], ["configs.name"]),
        comment="what documents of a config have to be; immutable",
    )
    op.create_table(
        "config_versions",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False, comment="from 1"),
        sa.Column("spec", sa.Integer, nullable=False, comment="number of the specification that it has to fulfil"),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("document", sa.Text, nullable=False, comment="canonical JSON"),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False, server_default="", comment="of the newest change of the status"),
        sa.Column("validation", sa.Text, comment="JSON: what its checks found; null = they have not run"),
        sa.Column("approved_by", sa.String(128)),
        sa.Column("activated", sa.BigInteger, comment="revision of its newest activation: the way back"),
        sa.Column("created_at", sa.String(27), nullable=False),
        sa.Column("created_by", sa.String(128), nullable=False),
        sa.Column("changed_at", sa.String(27), nullable=False),
        sa.PrimaryKeyConstraint("name", "number"),
        sa.ForeignKeyConstraint(["name"], ["configs.name"]),
        sa.ForeignKeyConstraint(["name", "spec"], ["config_specs.name", "config_specs.number"]),
        comment="documents never change; their status does",
    )
    op.create_table(
        "config_clients",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("client", sa.String(128), nullable=False, comment="as it calls itself"),
        sa.Column("unit", sa.Text, nullable=False, comment="whom it reads for; empty = nobody in particular"),
        sa.Column("digest", sa.String(64), nullable=False, comment="of the document that it runs; empty = none yet"),
        sa.Column("seen_at", sa.String(27), nullable=False),
        sa.PrimaryKeyConstraint("name", "client"),
        comment="what clients said that they run",
    )
    op.create_index("config_clients_by_time", "config_clients", ["seen_at"])


def downgrade() -> None:
    """Drop them."""
    for name in ("config_clients", "config_versions", "config_specs", "configs"):
        op.drop_table(name)
