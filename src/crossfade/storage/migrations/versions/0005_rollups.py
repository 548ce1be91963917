"""Roll-ups of exposures and outcomes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, empty."""
    op.create_table(
        "measures",
        sa.Column("experiment", sa.String(64), nullable=False),
        sa.Column("body", sa.Text, nullable=False, comment="JSON: `Measures`"),
        sa.Column("frozen", sa.Text, nullable=False, comment="JSON: what was fixed by the first events, such as cuts"),
        sa.Column("first_us", sa.BigInteger, comment="time of the first exposure"),
        sa.Column("last_us", sa.BigInteger, comment="time of the newest event"),
        sa.PrimaryKeyConstraint("experiment"),
        comment="what is measured of each experiment",
    )
    op.create_table(
        "units",
        sa.Column("experiment", sa.String(64), nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column(
            "variant", sa.String(64), nullable=False, comment="of the first exposure, as everything up to `dimensions`"
        ),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("first_us", sa.BigInteger, nullable=False),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("dimensions", sa.Text, nullable=False, comment="JSON array: a value for each declared dimension"),
        sa.Column("multiple", sa.Boolean, nullable=False, comment="seen in two variants: counts nowhere"),
        sa.Column(
            "state", sa.LargeBinary, nullable=False, comment="float64: sums of the unit, in the order of the metrics"
        ),
        sa.Column(
            "buckets", sa.LargeBinary, nullable=False, comment="pairs of int32: bucket of a quantile, values in it"
        ),
        sa.Column(
            "kept_exposures",
            sa.LargeBinary,
            nullable=False,
            comment="those that an earlier first exposure would affect",
        ),
        sa.Column("kept_outcomes", sa.LargeBinary, nullable=False, comment="the same"),
        sa.PrimaryKeyConstraint("experiment", "unit"),
        comment="one row per unit of each experiment: what roll-ups are the sums of",
    )
    op.create_index("units_by_cell", "units", ["experiment", "variant", "revision", "first_us"])
    op.create_table(
        "rollups",
        sa.Column("experiment", sa.String(64), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("day", sa.String(10), nullable=False, comment="of the first exposure, UTC"),
        sa.Column("dimension", sa.Text, nullable=False, comment="empty = everybody"),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("metric", sa.String(64), nullable=False),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("mean", sa.LargeBinary, nullable=False, comment="float64 of each column"),
        sa.Column("m2", sa.LargeBinary, nullable=False, comment="float64 of each pair of columns"),
        sa.Column(
            "peak", sa.LargeBinary, nullable=False, comment="float64: the largest that each column's m2 has been"
        ),
        sa.Column("sketch", sa.LargeBinary, nullable=False, comment="int64: buckets, then how many values are in each"),
        sa.PrimaryKeyConstraint("experiment", "revision", "variant", "day", "dimension", "value", "metric"),
        comment="count, means and co-moments of units; what an analysis reads",
    )
    _create_counts()


def _create_counts() -> None:
    op.create_table(
        "arrivals",
        sa.Column("experiment", sa.String(64), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("units", sa.BigInteger, nullable=False),
        sa.Column("weight", sa.Double, nullable=False, comment="propensity of the variant under that revision"),
        sa.PrimaryKeyConstraint("experiment", "revision", "variant", "day"),
        comment="how many units came",
    )
    op.create_table(
        "ledger_counts",
        sa.Column("experiment", sa.String(64), nullable=False, comment="empty = of none that is known"),
        sa.Column("name", sa.String(64), nullable=False, comment="such as `exposures`, or `refused/` and a reason"),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("experiment", "name"),
        comment="how many events there were, and what became of them",
    )
    op.create_table(
        "waiting_outcomes",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("experiment", sa.String(64), nullable=False, comment="empty = they wait for a decision"),
        sa.Column("subject", sa.Text, nullable=False, comment="the unit, or the decision"),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        comment="outcomes whose exposure is not known yet",
    )
    op.create_index("waiting_outcomes_by_subject", "waiting_outcomes", ["experiment", "subject"])
    op.create_index("waiting_outcomes_by_time", "waiting_outcomes", ["at_us"])


def downgrade() -> None:
    """Drop all of them."""
    for name in ("waiting_outcomes", "ledger_counts", "arrivals", "rollups", "units", "measures"):
        op.drop_table(name)
