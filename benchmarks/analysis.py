"""Rolling events up and reading them back, beside what a database and numpy do with the raw rows.

Ten million exposures are synthesised and go straight into roll-ups by the numeric path that a rebuild takes, in chunks
of whole units; raw rows of that many events would only measure the disk.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
import numpy as np
from sqlalchemy import Connection, func, select

from benchmarks.harness import Result
from crossfade.ledger.cells import apply
from crossfade.ledger.changes import Move
from crossfade.ledger.events import Exposure, Outcome
from crossfade.ledger.measured import Measured, load
from crossfade.ledger.metrics import Measures, MetricSpec
from crossfade.ledger.reading import read_evidence
from crossfade.ledger.rebuilding import declare, rebuild
from crossfade.ledger.rollups import fold
from crossfade.ledger.sums import ExposureColumns, OutcomeColumns, sums
from crossfade.ledger.units import DAY_US, Origin, Units
from crossfade.methods.stats.moments import Moments
from crossfade.storage import tables
from crossfade.storage.database import Database, open_database
from crossfade.storage.migrate import migrate

EXPOSURES, EACH, CHUNK = 10_000_000, 5, 100_000
"""Exposures in all, of each unit, and units at once."""
DAYS, SEGMENTS, VARIANTS = 14, 10, ("control", "treatment")
EVENTS, BATCH = 60_000, 5_000
START = 1_795_737_600_000_000
METRICS = (
    MetricSpec("latency_seconds"),
    MetricSpec("error", kind="proportion"),
    MetricSpec("mean_score", kind="ratio", outcome="score"),
    MetricSpec("late", kind="proportion"),
)
GOAL_SECONDS, GOAL_READ, GOAL_ROW, GOAL_FOLD = 120.0, 1.0, 1.0, 50.0
"""All of it; reading; microseconds per raw row and per event."""


@dataclass
class Clock:
    """Seconds by what they were spent on."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start


def run() -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(f"sqlite:///{folder}/large.db")
        migrate(database)
        yield from ten_million(database)
        database.close()
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(f"sqlite:///{folder}/small.db")
        migrate(database)
        yield from incremental(database)
        database.close()


def ten_million(database: Database) -> Iterator[Result]:
    clock, random = Clock(), np.random.default_rng(11)
    with database.write() as connection:
        declare(connection, Measures("flights", "control", METRICS, ("segment",)))
        measured = load(connection, ["flights"])["flights"]
        for start in range(0, EXPOSURES // EACH, CHUNK):
            with clock.of("synthesis"):
                units, exposures, outcomes = synthesis(measured, random, start)
            with clock.of("numpy"):
                naive(exposures)
            with clock.of("sums"):
                state, _ = sums(measured.plan, units.first, exposures, outcomes)
            with clock.of("cells"):
                roll_up(connection, measured, units, state)
    with clock.of("read"):
        evidence = read_evidence(database, "flights")
    everybody = [cell for cell in evidence.cells if cell.dimension == "" and cell.metric == "latency_seconds"]
    assert sum(int(cell.moments.n) for cell in everybody) == EXPOSURES // EACH
    seconds = clock.seconds
    yield Result("rollups_of_ten_million_exposures", sum(seconds.values()), "s", goal=GOAL_SECONDS)
    rows = EXPOSURES / 1e6
    value, baseline = (seconds["sums"] + seconds["cells"]) / rows, seconds["numpy"] / rows
    yield Result("rollup_of_a_raw_row", value, "us", goal=GOAL_ROW)
    yield Result("rollup_of_a_raw_row_beside_numpy", value, "us", baseline)
    yield Result("read_evidence_of_ten_million_exposures", seconds["read"], "s", goal=GOAL_READ)


def synthesis(
    measured: Measured, random: np.random.Generator, start: int
) -> tuple[Units, ExposureColumns, OutcomeColumns]:
    """A hundred thousand units, five exposures and one outcome each."""
    origins = [[Origin(1, variant, f'["{segment}"]') for segment in range(SEGMENTS)] for variant in VARIANTS]
    chosen = zip(random.integers(0, 2, CHUNK).tolist(), random.integers(0, SEGMENTS, CHUNK).tolist(), strict=True)
    units = Units.unknown(measured.plan, [f"unit-{start + number}" for number in range(CHUNK)])
    units.known[:] = True
    units.origins = [origins[variant][segment] for variant, segment in chosen]
    units.first = START + random.integers(0, DAYS, CHUNK) * DAY_US
    of = np.repeat(np.arange(CHUNK), EACH)
    count = len(of)
    values = {
        "latency_seconds": random.exponential(0.02, (1, count)),
        "error": (random.random((1, count)) < 0.01).astype(np.float64),
        "score": random.random((1, count)),
        "fallback": np.zeros((1, count)),
        "exposures": np.ones((1, count)),
    }
    at = units.first[of] + np.tile(np.arange(EACH), CHUNK) * 60_000_000
    names = np.zeros(CHUNK, dtype=np.int64)
    late = (random.random(CHUNK) < 0.2).astype(np.float64)
    outcomes = OutcomeColumns(np.arange(CHUNK), units.first + 1, names, late, np.full((1, CHUNK), np.nan))
    return units, ExposureColumns(of, at, values), outcomes


def naive(exposures: ExposureColumns) -> None:
    """What numpy needs for the mean and the variance of the three columns, of everybody and without units."""
    for name in ("latency_seconds", "error", "score"):
        exposures.values[name].mean(), exposures.values[name].var()


def roll_up(connection: Connection, measured: Measured, units: Units, state: np.ndarray) -> None:
    nobody = Units.unknown(measured.plan, units.names)
    units.state = state
    move = Move(measured.plan, nobody, units)
    for metric in measured.plan.metrics:
        apply(connection, "flights", metric, move.keys, move.of(metric, None))


# --- one batch after the other, as events come


def incremental(database: Database) -> Iterator[Result]:
    clock, random = Clock(), np.random.default_rng(12)
    with database.write() as connection:
        declare(connection, Measures("flights", "control", METRICS, ("segment",)))
    for start in range(0, EVENTS, BATCH):
        shown, found = events(random, start)
        with database.write() as connection:
            with clock.of("insert"):
                store(connection, shown, found)
            with clock.of("fold"):
                fold(connection, shown, found)
    value, baseline = (clock.seconds[name] / EVENTS * 1e6 for name in ("fold", "insert"))
    yield Result("fold_of_an_event", value, "us", goal=GOAL_FOLD)
    yield Result("fold_of_an_event_beside_its_insert", value, "us", baseline)
    with database.write() as connection, clock.of("rebuild"):
        rebuild(connection, "flights")
    yield Result("rebuild_of_an_event", clock.seconds["rebuild"] / EVENTS * 1e6, "us")
    with clock.of("read"):
        read_evidence(database, "flights")
    with database.read() as connection, clock.of("sql"):
        raw = tables.exposures
        columns = [func.avg(column) for column in (raw.c.latency_seconds, raw.c.error, raw.c.score)]
        connection.execute(select(raw.c.variant, *columns).group_by(raw.c.variant)).all()
    yield Result("read_evidence_beside_sql_averages_of_40000_rows", clock.seconds["read"], "s", clock.seconds["sql"])
    values, groups = random.normal(size=(4_000_000, 1)), random.integers(0, 20, 4_000_000)
    with clock.of("grouped"):
        Moments.grouped(values, groups, 20)
    with clock.of("loop"):
        for group in range(20):
            mine = values[groups == group]
            mine.mean(), mine.var()
    yield Result("moments_of_a_raw_row", clock.seconds["grouped"] / 4, "us", clock.seconds["loop"] / 4, 1.0)


def events(random: np.random.Generator, start: int) -> tuple[list[Exposure], list[Outcome]]:
    """Two exposures for each outcome, of two hundred thousand units."""
    shown = [
        Exposure(
            id=f"decision-{start + number}",
            at_us=START + (start + number) * 1_000,
            experiment="flights",
            revision=1,
            variant=VARIANTS[unit % 2],
            unit=f"unit-{unit}",
            propensity=0.5,
            score=score,
            latency_seconds=latency,
            dimensions={"segment": str(unit % SEGMENTS)},
        )
        for number, (unit, score, latency) in enumerate(
            zip(
                random.integers(0, 200_000, BATCH * 2 // 3).tolist(),
                random.random(BATCH * 2 // 3).tolist(),
                random.exponential(0.02, BATCH * 2 // 3).tolist(),
                strict=True,
            )
        )
    ]
    found = [
        Outcome(f"outcome-{event.id}", event.at_us + 1, "late", float(late), event.id)
        for event, late in zip(shown[::2], (random.random(BATCH // 3) < 0.2).tolist(), strict=False)
    ]
    return shown, found


def store(connection: Connection, exposures: list[Exposure], outcomes: list[Outcome]) -> None:
    rows = [msgspec.structs.asdict(event) for event in exposures]
    for row in rows:
        for name in ("dimensions", "context", "shadows"):
            row[name] = msgspec.json.encode(row[name]).decode()
    connection.execute(tables.exposures.insert(), rows)
    connection.execute(tables.outcomes.insert(), [msgspec.structs.asdict(event) for event in outcomes])
