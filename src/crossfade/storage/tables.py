"""The schema, once, for SQLite and PostgreSQL. Migrations in `migrations/` build exactly this (a test compares them).

Times are stored as ISO 8601 UTC text with microseconds (`2026-01-31T09:30:00.000000Z`): it sorts, and both databases
give back exactly what was written. JSON is stored as text for the same reason.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

metadata = MetaData()

_id = BigInteger().with_variant(Integer, "sqlite")  # SQLite gives row ids to INTEGER primary keys only

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

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", String(64), nullable=False, comment="32 random bytes, hexadecimal"),
    comment="what the processes of this deployment share and nobody else knows",
)

processes = Table(
    "processes",
    metadata,
    Column("process", String(64), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("pid", _id, nullable=False),
    Column("started_at", String(27), nullable=False),
    Column("seen_at", String(27), nullable=False, comment="heartbeat"),
    Column("revision", BigInteger, nullable=False, comment="of the snapshot it answers with"),
    Column("slots", Text, nullable=False, comment='JSON: {"name:1.0.0": ["ready", ""]}, state and problem'),
    Column("deployments", Text, nullable=False, server_default="[]", comment="JSON: `DeploymentReport`s"),
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
    Index("experiments_by_number", "number", unique=True),
    Index("experiments_by_model", "model", "number"),
    Index("experiments_by_status", "status", "number"),
)

ROUTED = ("running", "paused")
"""Statuses of an experiment that serving knows about."""

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

exposures = Table(
    "exposures",
    metadata,
    Column("id", String(64), primary_key=True, comment="of the decision; sorts by time"),
    Column("at_us", BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
    Column("experiment", String(64), nullable=False),
    Column("revision", BigInteger, nullable=False, comment="of the allocation"),
    Column("variant", String(64), nullable=False),
    Column("unit", Text, nullable=False),
    Column("propensity", Double, nullable=False),
    Column("model", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("score", Double),
    Column("latency_seconds", Double, nullable=False),
    Column("error", Boolean, nullable=False),
    Column("fallback", Boolean, nullable=False),
    Column("dimensions", Text, nullable=False, comment="JSON object"),
    Column("context", Text, nullable=False, comment="JSON object"),
    Column("shadows", Text, nullable=False, comment="JSON array of arrays"),
    Index("exposures_by_experiment", "experiment", "id"),
    comment="raw events, kept for `ledger.retention_days`",
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("id", String(64), primary_key=True, comment="chosen by whoever reported it"),
    Column("at_us", BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
    Column("name", String(64), nullable=False),
    Column("value", Double, nullable=False),
    Column("decision", String(64), nullable=False, comment="id of the exposure, or empty"),
    Column("experiment", String(64), nullable=False),
    Column("unit", Text, nullable=False),
    Index("outcomes_by_decision", "decision"),
    Index("outcomes_by_experiment", "experiment"),
    comment="raw events, kept for `ledger.retention_days`",
)

ledger_journals = Table(
    "ledger_journals",
    metadata,
    Column("journal", String(64), primary_key=True),
    Column("segment", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False, comment="bytes of the segment that are in the tables"),
    Column("frames", BigInteger, nullable=False, comment="number of the last frame before it"),
    Column("finished", Boolean, nullable=False, comment="nothing more will come"),
    Column("seen_us", BigInteger, nullable=False, comment="when whoever writes or reads it was there last"),
    comment="how far the journal of each process has been shipped, in the same transaction as its events",
)

ledger_gaps = Table(
    "ledger_gaps",
    metadata,
    Column("experiment", String(64), nullable=False, comment="empty = any that ran between the two times"),
    Column("reason", String(32), nullable=False),
    Column("journal", String(64), nullable=False, comment="where they are missing"),
    Column("count", BigInteger, comment="events; null = nobody can know how many"),
    Column("first_us", BigInteger, nullable=False, comment="no event before it is missing"),
    Column("last_us", BigInteger, nullable=False, comment="no event after it is missing"),
    PrimaryKeyConstraint("experiment", "reason", "journal"),
    comment="events that there have been and that are not in the tables; with a gap nothing is decided by itself",
)

measures = Table(
    "measures",
    metadata,
    Column("experiment", String(64), primary_key=True),
    Column("body", Text, nullable=False, comment="JSON: `Measures`"),
    Column("frozen", Text, nullable=False, comment="JSON: what was fixed by the first events, such as cuts"),
    Column("first_us", BigInteger, comment="time of the first exposure"),
    Column("last_us", BigInteger, comment="time of the newest event"),
    comment="what is measured of each experiment",
)

units = Table(
    "units",
    metadata,
    Column("experiment", String(64), nullable=False),
    Column("unit", Text, nullable=False),
    Column("variant", String(64), nullable=False, comment="of the first exposure, as everything up to `dimensions`"),
    Column("revision", BigInteger, nullable=False),
    Column("first_us", BigInteger, nullable=False),
    Column("decision", Text, nullable=False),
    Column("dimensions", Text, nullable=False, comment="JSON array: a value for each declared dimension"),
    Column("multiple", Boolean, nullable=False, comment="seen in two variants: counts nowhere"),
    Column("state", LargeBinary, nullable=False, comment="float64: sums of the unit, in the order of the metrics"),
    Column("buckets", LargeBinary, nullable=False, comment="pairs of int32: bucket of a quantile, values in it"),
    Column("kept_exposures", LargeBinary, nullable=False, comment="those that an earlier first exposure would affect"),
    Column("kept_outcomes", LargeBinary, nullable=False, comment="the same"),
    PrimaryKeyConstraint("experiment", "unit"),
    Index("units_by_cell", "experiment", "variant", "revision", "first_us"),
    comment="one row per unit of each experiment: what roll-ups are the sums of",
)

rollups = Table(
    "rollups",
    metadata,
    Column("experiment", String(64), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("variant", String(64), nullable=False),
    Column("day", String(10), nullable=False, comment="of the first exposure, UTC"),
    Column("dimension", Text, nullable=False, comment="empty = everybody"),
    Column("value", Text, nullable=False),
    Column("metric", String(64), nullable=False),
    Column("n", BigInteger, nullable=False),
    Column("mean", LargeBinary, nullable=False, comment="float64 of each column"),
    Column("m2", LargeBinary, nullable=False, comment="float64 of each pair of columns"),
    Column("peak", LargeBinary, nullable=False, comment="float64: the largest that each column's m2 has been"),
    Column("sketch", LargeBinary, nullable=False, comment="int64: buckets, then how many values are in each"),
    PrimaryKeyConstraint("experiment", "revision", "variant", "day", "dimension", "value", "metric"),
    comment="count, means and co-moments of units; what an analysis reads",
)

arrivals = Table(
    "arrivals",
    metadata,
    Column("experiment", String(64), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("variant", String(64), nullable=False),
    Column("day", String(10), nullable=False),
    Column("units", BigInteger, nullable=False),
    Column("weight", Double, nullable=False, comment="propensity of the variant under that revision"),
    PrimaryKeyConstraint("experiment", "revision", "variant", "day"),
    comment="how many units came",
)

ledger_counts = Table(
    "ledger_counts",
    metadata,
    Column("experiment", String(64), nullable=False, comment="empty = of none that is known"),
    Column("name", String(64), nullable=False, comment="such as `exposures`, or `refused/` and a reason"),
    Column("count", BigInteger, nullable=False),
    PrimaryKeyConstraint("experiment", "name"),
    comment="how many events there were, and what became of them",
)

waiting_outcomes = Table(
    "waiting_outcomes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("experiment", String(64), nullable=False, comment="empty = they wait for a decision"),
    Column("subject", Text, nullable=False, comment="the unit, or the decision"),
    Column("at_us", BigInteger, nullable=False),
    Column("name", String(64), nullable=False),
    Column("value", Double, nullable=False),
    Index("waiting_outcomes_by_subject", "experiment", "subject"),
    Index("waiting_outcomes_by_time", "at_us"),
    comment="outcomes whose exposure is not known yet",
)

safety_policies = Table(
    "safety_policies",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("number", BigInteger, nullable=False, comment="revision of the change that put it"),
    Column("spec", Text, nullable=False, comment="JSON: `SafetyPolicySpec`"),
    Column("reason", Text, nullable=False),
    Column("created_at", String(27), nullable=False),
    Column("created_by", String(128), nullable=False),
    comment="what answers of a model have to be",
)

safety_overrides = Table(
    "safety_overrides",
    metadata,
    Column("id", String(36), primary_key=True, comment="sorts by time"),
    Column("model", String(64), nullable=False),
    Column("check_name", String(64), nullable=False, comment="empty = every check"),
    Column("version", String(64), nullable=False, comment="empty = every version"),
    Column("reason", Text, nullable=False),
    Column("expires_at", String(27), nullable=False),
    Column("created_at", String(27), nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("ended_at", String(27)),
    Column("ended_by", String(128), nullable=False, server_default=""),
    Column("ended_because", Text, nullable=False, server_default=""),
    Index("safety_overrides_by_expiry", "expires_at"),
    comment="checks that a person turned off for a while",
)

safety_emergencies = Table(
    "safety_emergencies",
    metadata,
    Column("model", String(64), primary_key=True, comment="empty = everything"),
    Column("mode", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("since", String(27), nullable=False),
    Column("started_by", String(128), nullable=False),
    comment="what is stopped until a person ends it; those that were are in the audit log",
)

safety_violations = Table(
    "safety_violations",
    metadata,
    Column("id", String(36), primary_key=True, comment="sorts by time"),
    Column("model", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("check_name", String(64), nullable=False),
    Column("level", String(16), nullable=False),
    Column("minute", String(27), nullable=False, comment="when the minute began"),
    Column("answers", BigInteger, nullable=False, comment="that violated it within the minute"),
    Column("row_count", BigInteger, nullable=False, comment="of those answers, that violated it"),
    Column("instead", String(64), nullable=False, comment="what was given the last time"),
    Column("example", Text, nullable=False, comment="what one of them held"),
    Index("safety_violations_by_minute", "model", "version", "check_name", "level", "minute", unique=True),
    Index("safety_violations_by_age", "minute"),
    comment="violations by the minute, kept for `safety.retention_days`",
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

alerts = Table(
    "alerts",
    metadata,
    Column("id", String(32), primary_key=True, comment="of a rule and labels"),
    Column("status", String(16), nullable=False),
    Column("changed_at", String(27), nullable=False, comment="of the newest change of the status"),
    Column("body", Text, nullable=False, comment="JSON: `Alert`"),
    Index("alerts_by_status", "status", "changed_at"),
    comment="rules that hold, or held, for something",
)

alert_groups = Table(
    "alert_groups",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("body", Text, nullable=False, comment="JSON: `Group`, what has been told of it"),
)

alert_messages = Table(
    "alert_messages",
    metadata,
    Column("id", String(36), nullable=False, comment="of the event"),
    Column("channel", String(64), nullable=False),
    Column("status", String(16), nullable=False, comment="waiting, sent, failed"),
    Column("created_at", String(27), nullable=False),
    Column("body", Text, nullable=False, comment="JSON: `Event`"),
    Column("problem", Text, nullable=False, server_default=""),
    PrimaryKeyConstraint("id", "channel"),
    Index("alert_messages_by_status", "status", "created_at"),
    comment="what channels shall be told, written together with what it is about",
)

silences = Table(
    "silences",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("ends_at", String(27), nullable=False),
    Column("body", Text, nullable=False, comment="JSON: `Silence`"),
    Index("silences_by_end", "ends_at"),
    comment="alerts that nobody is told of for a while",
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
