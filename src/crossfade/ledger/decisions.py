"""Decisions of one experiment with what they earned, as a Parquet file: a log to evaluate policies on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, select

from crossfade.errors import ExperimentConflictError
from crossfade.ledger.export import ROWS, Exported, arrow_package, write_parquet
from crossfade.ledger.gaps import incomplete
from crossfade.ledger.metrics import LARGEST
from crossfade.storage.database import Database
from crossfade.storage.tables import exposures, outcomes

_AT_ONCE = 500
_RESERVED = frozenset({"id", "at", "unit", "action", "propensity", "reward"})


def export_decisions(
    database: Database,
    experiment: str,
    target: Path,
    *,
    reward: str,
    declared: bool = True,
    dimensions: Sequence[str] = (),
    features: Sequence[str] = (),
) -> Exported:
    """Write each decision with the sum of the rewards that name it; a decision without any earned nothing.

    Columns: `id`, `at`, `unit`, `action` (the variant), `propensity`, `reward`, and one for each dimension and feature,
    with `context.` before a name that is taken. These are the columns that `crossfade experiments evaluate-policy`
    reads. Outcomes that were reported by unit belong to no single decision; a log without them would be wrong, and is
    refused.

    Args:
        database: Where events are.
        experiment: Its name.
        target: The file; it appears under its name when it is complete.
        reward: Name of the outcome; values that roll-ups refuse are left out.
        declared: Whether the experiment measures it; a name that it does not must have been recorded at least.
        dimensions: Declared attributes.
        features: Of a contextual bandit.

    Raises:
        ExperimentConflictError: There is no such outcome, or it was reported by unit.
        MissingExtraError: pyarrow is not installed.
        DatabaseUnavailableError: The database does not answer.
    """
    arrow = arrow_package()
    names = {name: f"context.{name}" if name in _RESERVED else name for name in dict.fromkeys((*dimensions, *features))}
    schema = _schema(arrow, [names[name] for name in dimensions], [names[name] for name in features])
    counts = {"decision": 0, "reward": 0}

    def batches(connection: Connection) -> Iterator[list[dict[str, Any]]]:
        query = select(exposures).where(exposures.c.experiment == experiment).order_by(exposures.c.id)
        with connection.execute(query, execution_options={"yield_per": ROWS}) as found:
            for page in found.partitions():
                earned = _earned(connection, [row.id for row in page], reward)
                counts["decision"] += len(page)
                counts["reward"] += sum(map(len, earned.values()))
                yield [_decision(row, sum(earned[row.id]), names, dimensions, features) for row in page]

    with database.read() as connection:
        _check_reward(connection, experiment, reward, declared=declared)
        write_parquet(target, schema, batches(connection))
        missing = incomplete(connection, experiment)
    return Exported(counts["decision"], counts["reward"], missing)


def _check_reward(connection: Connection, experiment: str, reward: str, *, declared: bool) -> None:
    named = outcomes.c.name == reward
    if not declared and connection.execute(select(outcomes.c.id).where(named).limit(1)).first() is None:
        raise ExperimentConflictError(name=experiment, problem=f"has no outcome `{reward[:80]}` to be the reward")
    by_unit = select(func.count()).where(named & (outcomes.c.experiment == experiment))
    count = connection.execute(by_unit).scalar_one()
    if count:
        problem = f"has {count:,} outcomes `{reward}` that were reported by unit: no single decision earned them"
        raise ExperimentConflictError(name=experiment, problem=problem)


def _earned(connection: Connection, decisions: Sequence[str], reward: str) -> defaultdict[str, list[float]]:
    earned: defaultdict[str, list[float]] = defaultdict(list)
    for start in range(0, len(decisions), _AT_ONCE):
        named = outcomes.c.decision.in_(decisions[start : start + _AT_ONCE]) & (outcomes.c.name == reward)
        named &= outcomes.c.value.between(-LARGEST, LARGEST)
        for decision, value in connection.execute(select(outcomes.c.decision, outcomes.c.value).where(named)):
            earned[decision].append(value)
    return earned


def _decision(
    row: Row[Any], reward: float, names: dict[str, str], dimensions: Sequence[str], features: Sequence[str]
) -> dict[str, Any]:
    given, context = msgspec.json.decode(row.dimensions), msgspec.json.decode(row.context)
    return {
        "id": row.id,
        "at": row.at_us,
        "unit": row.unit,
        "action": row.variant,
        "propensity": row.propensity,
        "reward": float(reward),
        **{names[name]: given.get(name) for name in dimensions},
        **{names[name]: context.get(name) for name in features},
    }


def _schema(arrow: Any, dimensions: Sequence[str], features: Sequence[str]) -> Any:
    text, number = arrow.string(), arrow.float64()
    return arrow.schema(
        [
            ("id", text),
            ("at", arrow.timestamp("us", tz="UTC")),
            ("unit", text),
            ("action", text),
            ("propensity", number),
            ("reward", number),
            *((name, text) for name in dimensions if name not in features),
            *((name, number) for name in features),
        ]
    )
