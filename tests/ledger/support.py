"""Events for tests, and a second opinion on what they amount to."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from sqlalchemy import delete

from crossfade.ledger.events import Exposure, Outcome, ShadowAnswer
from crossfade.ledger.evidence import EVERYBODY, Evidence
from crossfade.ledger.metrics import Measures, MetricSpec
from crossfade.ledger.reading import read_evidence
from crossfade.ledger.rebuilding import declare, rebuild
from crossfade.ledger.rollups import fold
from crossfade.storage import tables
from crossfade.storage.database import Database

START = 1_764_201_600_000_000  # 2025-11-27T00:00:00Z
SECOND, DAY = 1_000_000, 86_400_000_000
_ids = itertools.count(1)


def exposure(unit: str, at: float = 0, variant: str = "control", **fields) -> Exposure:
    """An exposure so many seconds after the start."""
    fields = {"id": f"decision-{next(_ids):06}", "experiment": "flights", "revision": 1, "propensity": 0.5, **fields}
    return Exposure(at_us=START + round(at * SECOND), variant=variant, unit=unit, **fields)


def outcome(name: str, value: float = 1.0, at: float = 0, *, of: Exposure | str, **fields) -> Outcome:
    """An outcome of a decision, or of a unit, so many seconds after the start."""
    fields = {"id": f"outcome-{next(_ids):06}", **fields}
    if isinstance(of, Exposure):
        fields["decision"] = of.id
    else:
        fields = {"experiment": "flights", "unit": of, **fields}
    return Outcome(at_us=START + round(at * SECOND), name=name, value=value, **fields)


def measures(*metrics: MetricSpec, **fields) -> Measures:
    return Measures(**{"experiment": "flights", "control": "control", "metrics": metrics, **fields})


class Ledger:
    """What the journal does with events: their rows, and the fold, in one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def declare(self, *metrics: MetricSpec, **fields) -> None:
        with self.database.write() as connection:
            declare(connection, measures(*metrics, **fields))

    def ship(self, *events: Exposure | Outcome) -> None:
        exposures = [event for event in events if isinstance(event, Exposure)]
        outcomes = [event for event in events if isinstance(event, Outcome)]
        with self.database.write() as connection:
            store(connection, exposures, outcomes)
            fold(connection, exposures, outcomes)

    def rebuild(self) -> None:
        with self.database.write() as connection:
            rebuild(connection, "flights")

    def evidence(self) -> Evidence:
        return read_evidence(self.database, "flights")

    def cell(self, metric: str, variant: str = "control", **parts):
        """The only cell of everybody that has these parts, or None."""
        wanted = {"metric": metric, "variant": variant, "dimension": EVERYBODY, **parts}
        found = [
            cell
            for cell in self.evidence().cells
            if all(getattr(cell, name) == value for name, value in wanted.items())
        ]
        assert len(found) <= 1
        return found[0] if found else None

    def mean(self, metric: str, variant: str = "control", **parts) -> list[float]:
        cell = self.cell(metric, variant, **parts)
        return cell.moments.mean.tolist() if cell else []

    def clear(self) -> None:
        with self.database.write() as connection:
            for table in ("exposures", "outcomes", "measures", "units", "rollups", "arrivals"):
                connection.execute(delete(tables.metadata.tables[table]))
            for table in ("ledger_counts", "waiting_outcomes", "ledger_gaps"):
                connection.execute(delete(tables.metadata.tables[table]))


def store(connection, exposures: Iterable[Exposure], outcomes: Iterable[Outcome]) -> None:
    """Write raw events as the journal does."""
    rows = [msgspec.structs.asdict(event) for event in exposures]
    for row in rows:
        for name in ("dimensions", "context", "shadows"):
            row[name] = msgspec.json.encode(row[name]).decode()
    if rows:
        connection.execute(tables.exposures.insert(), rows)
    if rows := [msgspec.structs.asdict(event) for event in outcomes]:
        connection.execute(tables.outcomes.insert(), rows)


# --- the second opinion: from all events at once, one unit after the other, in plain Python


@dataclass
class Expected:
    """What all events amount to: cells by revision, variant, day, dimension, value and metric."""

    cells: dict[tuple, tuple[int, np.ndarray, np.ndarray]]
    values: dict[tuple, list[float]]
    arrivals: Counter
    moved: Counter
    multiple: int
    exposures: int
    outcomes: int
    early: int
    orphans: int


def expect(spec: Measures, exposures: Sequence[Exposure], outcomes: Sequence[Outcome], cuts=None) -> Expected:
    decisions = {event.id: event for event in exposures}
    by_unit: dict[str, list[Exposure]] = {}
    for event in exposures:
        by_unit.setdefault(event.unit, []).append(event)
    of_unit: dict[str, list[tuple[Outcome, Exposure | None]]] = {unit: [] for unit in by_unit}
    orphans, began = 0, min((event.at_us for event in exposures), default=0)
    known = {metric.covariate for metric in spec.metrics}
    used = {name for metric in spec.metrics for name in (metric.source, metric.denominator)}
    for event in outcomes:
        decision = decisions.get(event.decision) if event.decision else None
        unit = decision.unit if decision else event.unit
        if (event.decision and decision is None) or unit not in by_unit:
            orphans += not event.decision or (event.at_us >= began and event.name in known | used)
        else:
            of_unit[unit].append((event, decision))
    rows: dict[tuple, list[list[float]]] = {}
    values: dict[tuple, list[float]] = {}
    arrivals: Counter = Counter()
    moved: Counter = Counter()
    multiple = counted = early = 0
    for unit, mine in by_unit.items():
        first = min(mine, key=lambda event: (event.at_us, event.id))
        day = str(np.datetime64(first.at_us // DAY, "D"))
        base = (first.revision, first.variant, day)
        if len({event.variant for event in mine}) > 1:
            multiple += 1
            moved[base] += 1
            continue
        arrivals[base] += 1
        early += sum(event.at_us < first.at_us and not before(spec, event, first) for event, _ in of_unit[unit])
        counted += sum(event.at_us >= first.at_us and event.name in used for event, _ in of_unit[unit])
        parts = [(EVERYBODY, ""), *((name, first.dimensions.get(name, "(unknown)")) for name in spec.dimensions)]
        for metric in spec.metrics:
            found = row_of(spec, metric, first, mine, of_unit[unit], (cuts or {}).get(metric.name))
            if found is None:
                continue
            row, singles = found
            for part in parts:
                key = (*base, *part, metric.name)
                values.setdefault(key, []).extend(singles)
                if row is not None:
                    rows.setdefault(key, []).append(row)
    cells = {key: (len(each), *moments(each)) for key, each in rows.items()}
    return Expected(cells, values, arrivals, moved, multiple, len(exposures), counted, early, orphans)


def before(spec, event, first):
    """Whether an outcome is in a covariate."""
    since = first.at_us - event.at_us
    return any(each.covariate == event.name and 0 < since <= each.covariate_seconds * 1e6 for each in spec.metrics)


def moments(rows: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    columns = list(zip(*rows, strict=True))
    mean = [math.fsum(column) / len(rows) for column in columns]
    m2 = [
        [
            math.fsum((x - a) * (y - b) for x, y in zip(one, other, strict=True))
            for other, b in zip(columns, mean, strict=True)
        ]
        for one, a in zip(columns, mean, strict=True)
    ]
    return np.array(mean), np.array(m2)


def row_of(spec, metric, first, exposures, outcomes, cut):
    """The row of a unit, and its single values; None where the metric says nothing about it."""
    shadows = [name for name in spec.shadows if name != spec.control]
    answers_matter = bool(metric.loss) or {metric.source, metric.denominator} & {"latency_seconds", "error", "score"}
    who = [None, *shadows] if answers_matter and metric.kind != "quantile" else [None]
    numerator = timed(metric.source, metric.loss, who, first, exposures, outcomes, metric)
    low = -math.inf if metric.lower is None else metric.lower
    high = math.inf if metric.upper is None else metric.upper

    def cap(value):
        return min(max(value, low), high)

    denominator = (
        timed(metric.denominator, "", who, first, exposures, outcomes, metric) if metric.denominator else numerator
    )
    any_value = bool(numerator) or bool(denominator)
    row: list[float] = []
    singles: list[float] = []
    for place in range(len(who)):
        mine = [each[place] for each in numerator]
        if metric.kind == "mean":
            row.append(cap(math.fsum(mine)))
        elif metric.kind == "count":
            row.append(cap(len(mine)))
        elif metric.kind == "proportion":
            row.append(float(any(value > 0 for value in mine)))
        elif metric.kind == "ratio":
            below = math.fsum(each[place] for each in denominator) if metric.denominator else len(mine)
            row += [cap(math.fsum(mine)), below]
        else:
            singles = [cap(value) for value in mine]
            row += [0 if cut is None else sum(value <= cut for value in singles), len(singles)]
    if metric.covariate:
        known = covariate_of(spec, metric, first, outcomes)
        if known is None:
            return None, singles
        row.insert(2 if metric.kind == "ratio" else 1, known)
    if metric.missing == "skip" and not any_value:
        return None, singles
    return row, singles


def covariate_of(spec, metric, first, outcomes):
    if metric.covariate == "shadow_score":
        return score_of(first, spec.control)
    start = first.at_us - round(metric.covariate_seconds * SECOND)
    before = (event for event, _ in outcomes if event.name == metric.covariate)
    return math.fsum(event.value for event in before if start <= event.at_us < first.at_us)


def timed(source, loss, who, first, exposures, outcomes, metric) -> list[list[float]]:
    """Values of each answerer within the window, of requests or outcomes that have one of everybody."""
    until = math.inf if metric.window_seconds is None else first.at_us + round(metric.window_seconds * SECOND)
    found = []
    if source in {"latency_seconds", "error", "fallback", "score", "exposures"}:
        for event in exposures:
            if not first.at_us <= event.at_us <= until:
                continue
            if len(who) > 1 and any(answer_of(event, name) is None for name in who[1:]):
                continue
            each = [built_in(event, name, source) for name in who]
            if None not in each:
                found.append(each)
        return found
    for event, decision in outcomes:
        if event.name != source or not first.at_us <= event.at_us <= until:
            continue
        each = [event.value] * len(who)
        if loss:
            each = [None if decision is None else loss_of(loss, score_of(decision, name), event.value) for name in who]
        if None not in each:
            found.append(each)
    return found


def answer_of(event: Exposure, name: str | None) -> Exposure | ShadowAnswer | None:
    if name is None or event.variant == name:
        return event
    return next((shadow for shadow in event.shadows if shadow.variant == name), None)


def score_of(event: Exposure, name: str | None) -> float | None:
    answer = answer_of(event, name)
    return None if answer is None else answer.score


def built_in(event, name, source):
    if source == "exposures":
        return 1.0
    if source == "fallback":
        return float(event.fallback)
    value = getattr(answer_of(event, name), source)
    return None if value is None else float(value)


def loss_of(loss, score, value):
    if score is None:
        return None
    if loss == "squared":
        return (score - value) ** 2
    if loss == "absolute":
        return abs(score - value)
    if loss == "zero_one":
        return float((score >= 0.5) != (value >= 0.5))
    if value not in {0, 1} or not 0 <= score <= 1:
        return None
    return -math.log(max(score if value else 1 - score, 1e-15))


def compare(evidence: Evidence, expected: Expected, *, tolerance: float = 1e-9) -> None:
    """Fail where roll-ups and second opinion differ by more than the tolerance."""
    found = {(c.revision, c.variant, c.day, c.dimension, c.value, c.metric): c for c in evidence.cells}
    wanted = {key for key in expected.cells if expected.cells[key][0]} | {
        key for key, v in expected.values.items() if v
    }
    assert found.keys() == wanted
    for key, cell in found.items():
        n, mean, m2 = expected.cells.get(key, (0, None, None))
        assert cell.moments.n == n, key
        if n:
            spread = np.sqrt(np.diag(m2) / n)
            scale = 1e-3 + np.abs(mean) + spread
            assert np.all(np.abs(cell.moments.mean - mean) <= tolerance * scale), (key, cell.moments.mean, mean)
            assert np.all(np.abs(cell.moments.m2 - m2) <= tolerance * n * np.outer(scale, scale)), (
                key,
                cell.moments.m2,
                m2,
            )
        if cell.sketch is not None:
            assert cell.sketch.n == len(expected.values.get(key, []))
    came = {(a.revision, a.variant, a.day): (a.units, a.moved) for a in evidence.arrivals}
    bases = expected.arrivals.keys() | expected.moved.keys()
    assert came == {base: (expected.arrivals[base], expected.moved[base]) for base in bases}
    for name in ("multiple", "exposures", "outcomes", "early", "orphans"):
        assert getattr(evidence, name) == getattr(expected, name), name
