"""What serving processes report, are asked to load, and do for a while."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from crossfade.storage.tables.base import metadata, row_id

candidates = Table(
    "candidates",
    metadata,
    Column("model", String(64), nullable=False),
    Column("semver", String(64), nullable=False),
    Column("requested_at", String(27), nullable=False),
    PrimaryKeyConstraint("model", "semver"),
    comment="versions that every process shall load because an alias is about to move there",
)

cache_generations = Table(
    "cache_generations",
    metadata,
    Column("model", String(64), nullable=False),
    Column("semver", String(64), nullable=False, comment="empty = every version of the model"),
    Column("generation", BigInteger, nullable=False, comment="revision of the newest invalidation"),
    PrimaryKeyConstraint("model", "semver"),
    comment="answers computed before that revision are not given any more",
)

processes = Table(
    "processes",
    metadata,
    Column("process", String(64), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("pid", row_id, nullable=False),
    Column("started_at", String(27), nullable=False),
    Column("seen_at", String(27), nullable=False, comment="heartbeat"),
    Column("revision", BigInteger, nullable=False, comment="of the snapshot it answers with"),
    Column("slots", Text, nullable=False, comment='JSON: {"name:1.0.0": ["ready", ""]}, state and problem'),
    Column("deployments", Text, nullable=False, server_default="[]", comment="JSON: `DeploymentReport`s"),
    Column("configs", Text, nullable=False, server_default="{}", comment="JSON: name -> revision that readers get"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True, comment="chosen by the client"),
    Column("number", BigInteger, nullable=False, comment="revision of its creation: the order of jobs"),
    Column("model", String(64), nullable=False),
    Column("semver", String(64), nullable=False, comment="pinned when the job was accepted"),
    Column("request", Text, nullable=False, comment="canonical JSON, as it was asked"),
    Column("state", String(16), nullable=False),
    Column("input_digest", String(64), nullable=False),
    Column("input_bytes", BigInteger, nullable=False),
    Column("bytes_done", BigInteger, nullable=False, server_default="0"),
    Column("rows_done", BigInteger, nullable=False, server_default="0"),
    Column("rows_failed", BigInteger, nullable=False, server_default="0"),
    Column("busy_ms", BigInteger, nullable=False, server_default="0", comment="time spent on committed rows"),
    Column("problem", Text, nullable=False, server_default=""),
    Column("result_digest", String(64)),
    Column("result_bytes", BigInteger, nullable=False, server_default="0"),
    Column("kept", Boolean, nullable=False, server_default="1", comment="whether file and result are protected"),
    Column("epoch", BigInteger, nullable=False, server_default="0", comment="of the claim; fences older ones off"),
    Column("lease_until", String(27), nullable=False, comment="when another process may claim it"),
    Column("attempts", Integer, nullable=False, server_default="0", comment="claims that ended without a word"),
    Column("created_at", String(27), nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("started_at", String(27)),
    Column("progressed_at", String(27), nullable=False),
    Column("finished_at", String(27)),
    Index("jobs_by_state", "state", "lease_until"),
    Index("jobs_by_number", "number", unique=True),
    Index("jobs_by_model", "model", "number"),
    Index("jobs_by_input", "input_digest"),
    Index("jobs_by_result", "result_digest"),
    comment="batch jobs",
)

UNFINISHED = ("queued", "running")
"""States of a job whose version has to be served."""

job_parts = Table(
    "job_parts",
    metadata,
    Column("job", String(64), nullable=False),
    Column("first_row", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    PrimaryKeyConstraint("job", "first_row"),
    ForeignKeyConstraint(["job"], ["jobs.id"], ondelete="CASCADE"),
    Index("job_parts_by_digest", "digest"),
    comment="answers of the chunks that an unfinished job has done; the result is made of them",
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("epoch", BigInteger, nullable=False, comment="grows with every new holder; fences older ones off"),
    Column("expires_at", String(27), nullable=False, comment="when another process may take it"),
    comment="what only one process at a time may do",
)

health = Table(
    "health",
    metadata,
    Column("tier", Integer, nullable=False, comment="seconds that a report is about"),
    Column("model", String(64), nullable=False),
    Column("at_us", BigInteger, nullable=False, comment="until when it counts, microseconds since 1970, UTC"),
    Column("process", String(64), nullable=False),
    Column("body", LargeBinary, nullable=False, comment="MessagePack: version -> `Counts`"),
    PrimaryKeyConstraint("tier", "model", "at_us", "process"),
    Index("health_by_time", "tier", "at_us"),
    comment="what versions did in each process, for minutes to days",
)

deployments = Table(
    "deployments",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("number", BigInteger, nullable=False, comment="revision of its creation: the order of deployments"),
    Column("model", String(64), nullable=False),
    Column("environment", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("generation", BigInteger, nullable=False, comment="grows whenever something else shall run"),
    Column("spec", Text, nullable=False, comment="canonical JSON: what shall run"),
    Column("previous", Text, comment="what ran before, while it may be gone back to"),
    Column("failure", Text, comment="JSON: what was gone back from last, when and why"),
    Column("reason", Text, nullable=False, server_default="", comment="of the newest change"),
    Column("created_at", String(27), nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("changed_at", String(27), nullable=False, comment="when this generation began"),
    Column("changed_by", String(128), nullable=False),
    Index("deployments_by_number", "number", unique=True),
    Index("deployments_by_model", "model", "number"),
    Index("deployments_by_status", "status", "number"),
    comment="how versions run",
)

DEPLOYING = "deploying"
"""The status of a deployment that is on probation."""
