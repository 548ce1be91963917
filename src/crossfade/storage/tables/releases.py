"""What decides who gets which version: experiments, configs and rollouts."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from crossfade.storage.tables.base import metadata

experiments = Table(
    "experiments",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("number", BigInteger, nullable=False, comment="revision of its creation: the order of experiments"),
    Column("model", String(64), nullable=False, server_default="", comment="whose traffic it takes; empty = a flag"),
    Column("status", String(16), nullable=False),
    Column("spec", Text, nullable=False, comment="canonical JSON, as it was asked"),
    Column("routing", Text, comment="what serving knows about it; null = it has not started"),
    Column("learned", Text, comment="state of a bandit's policy"),
    Column("reason", Text, nullable=False, server_default="", comment="of the newest change of the status"),
    Column("decision", Text, comment="JSON: what was decided at its end, and why"),
    Column("created_at", String(27), nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("started_at", String(27)),
    Column("finished_at", String(27)),
    Column("problem", Text, nullable=False, server_default="", comment="why what should happen by itself does not"),
    Index("experiments_by_number", "number", unique=True),
    Index("experiments_by_model", "model", "number"),
    Index("experiments_by_status", "status", "number"),
)

ROUTED = ("running", "paused")
"""Statuses of an experiment that serving knows about."""
DECIDED = "decided"
"""The status of an experiment that has ended by a decision."""
OVER = ("stopped", DECIDED)
"""Statuses of an experiment that has ended."""

layers = Table(
    "layers",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("number", BigInteger, nullable=False, comment="revision of its creation: the order of layers"),
    Column("body", Text, nullable=False, comment="JSON: which of its slots belong to which experiment"),
    Index("layers_by_number", "number", unique=True),
)

configs = Table(
    "configs",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("number", BigInteger, nullable=False, comment="revision of its creation: the order of configs"),
    Column("active", Integer, comment="number of the version that everybody reads; null = none yet"),
    Column(
        "routing", Text, comment="JSON: who reads which version while a rollout moves them; null = everybody `active`"
    ),
    Column("changed", BigInteger, nullable=False, comment="revision of the newest change that readers see"),
    Column("created_at", String(27), nullable=False),
    Column("created_by", String(128), nullable=False),
    Index("configs_by_number", "number", unique=True),
)

config_specs = Table(
    "config_specs",
    metadata,
    Column("name", String(64), nullable=False),
    Column("number", Integer, nullable=False, comment="from 1"),
    Column("digest", String(64), nullable=False),
    Column("body", Text, nullable=False, comment="canonical JSON: schema, rules, and what shows its impact"),
    Column("created_at", String(27), nullable=False),
    Column("created_by", String(128), nullable=False),
    PrimaryKeyConstraint("name", "number"),
    ForeignKeyConstraint(["name"], ["configs.name"]),
    comment="what documents of a config have to be; immutable",
)

config_versions = Table(
    "config_versions",
    metadata,
    Column("name", String(64), nullable=False),
    Column("number", Integer, nullable=False, comment="from 1"),
    Column("spec", Integer, nullable=False, comment="number of the specification that it has to fulfil"),
    Column("digest", String(64), nullable=False),
    Column("document", Text, nullable=False, comment="canonical JSON"),
    Column("status", String(16), nullable=False),
    Column("reason", Text, nullable=False, server_default="", comment="of the newest change of the status"),
    Column("validation", Text, comment="JSON: what its checks found; null = they have not run"),
    Column("approved_by", String(128)),
    Column("activated", BigInteger, comment="revision of its newest activation: the way back"),
    Column("created_at", String(27), nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("changed_at", String(27), nullable=False),
    PrimaryKeyConstraint("name", "number"),
    ForeignKeyConstraint(["name"], ["configs.name"]),
    ForeignKeyConstraint(["name", "spec"], ["config_specs.name", "config_specs.number"]),
    comment="documents never change; their status does",
)

config_clients = Table(
    "config_clients",
    metadata,
    Column("name", String(64), nullable=False),
    Column("client", String(128), nullable=False, comment="as it calls itself"),
    Column("unit", Text, nullable=False, comment="whom it reads for; empty = nobody in particular"),
    Column("digest", String(64), nullable=False, comment="of the document that it runs; empty = none yet"),
    Column("seen_at", String(27), nullable=False),
    PrimaryKeyConstraint("name", "client"),
    Index("config_clients_by_time", "seen_at"),
    comment="what clients said that they run",
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("number", BigInteger, nullable=False, comment="revision of its creation: the order of rollouts"),
    Column("kind", String(16), nullable=False, comment="what is released: `model` or `config`"),
    Column("subject", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("plan", Text, nullable=False, comment="canonical JSON, as it was asked"),
    Column("state", Text, nullable=False, comment="JSON: where it is in its plan"),
    Column("evidence", Text, nullable=False, comment="JSON: what was counted since its beginning"),
    Column("routing", Text, comment="what serving knows about it; null = both versions are left to themselves"),
    Column("stable", String(64), nullable=False),
    Column("candidate", String(64), nullable=False),
    Column("digest", String(64), nullable=False, comment="identity of the candidate"),
    Column("weight", Double, nullable=False),
    Column("fast", Boolean, nullable=False, comment="returns to a version that had the traffic a moment ago"),
    Column("latched", Boolean, nullable=False, comment="the candidate may not come again without a person's word"),
    Column("seen", BigInteger, nullable=False, comment="changes of this row: whoever writes names what they saw"),
    Column("reason", Text, nullable=False),
    Column("created_at", String(27), nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("finished_at", String(27)),
    Column("held_until", String(27), comment="until when the version before stays loaded"),
    Index("rollouts_by_number", "number", unique=True),
    Index("rollouts_by_subject", "kind", "subject", "number"),
    comment="versions on their way to all traffic",
)

ACTIVE = ("preparing", "progressing", "paused")
"""Statuses of a rollout that is under way."""

_under_way = rollouts.c.status.in_(ACTIVE)

Index(
    "rollouts_one_per_subject",
    rollouts.c.kind,
    rollouts.c.subject,
    unique=True,
    sqlite_where=_under_way,
    postgresql_where=_under_way,
)

rollout_transitions = Table(
    "rollout_transitions",
    metadata,
    Column("rollout", String(64), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("source", String(16), nullable=False),
    Column("target", String(16), nullable=False),
    Column("step", Integer, nullable=False),
    Column("weight", Double, nullable=False),
    Column("reason", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False, comment="of the controller that did it; 0 = a person"),
    Column("at", String(27), nullable=False),
    Column("by", String(128), nullable=False),
    PrimaryKeyConstraint("rollout", "seq"),
    comment="what happened to each rollout; only ever added to",
)

_is_rollback = rollout_transitions.c.kind == "rollback"

Index(
    "rollout_transitions_one_rollback",
    rollout_transitions.c.rollout,
    unique=True,
    sqlite_where=_is_rollback,
    postgresql_where=_is_rollback,
)
