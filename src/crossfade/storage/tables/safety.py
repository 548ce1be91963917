"""What answers may be, and who is told when something is wrong."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from crossfade.storage.tables.base import metadata

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
    Column("role", String(16), nullable=False, server_default="answer", comment="what the answer was for"),
    Index("safety_violations_by_minute", "model", "version", "check_name", "level", "role", "minute", unique=True),
    Index("safety_violations_by_age", "minute"),
    comment="violations by the minute, kept for `safety.retention_days`",
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

messages = Table(
    "messages",
    metadata,
    Column("id", String(36), nullable=False, comment="of the event"),
    Column("channel", String(64), nullable=False),
    Column("status", String(16), nullable=False, comment="waiting, sent, failed"),
    Column("created_at", String(27), nullable=False),
    Column("body", Text, nullable=False, comment="JSON: `Event`"),
    Column("problem", Text, nullable=False, server_default=""),
    PrimaryKeyConstraint("id", "channel"),
    Index("messages_by_status", "status", "created_at"),
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
