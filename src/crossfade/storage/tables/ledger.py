"""Events, what is measured of them, and their sums."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from crossfade.storage.tables.base import metadata

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
    Column(
        "moved",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="others, that were seen in another variant later",
    ),
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
