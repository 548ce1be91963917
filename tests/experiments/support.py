"""Experiments made up for tests: from rows of units to the evidence that roll-ups would give."""

from datetime import UTC, datetime, timedelta

import numpy as np

from crossfade.experiments.question import Question
from crossfade.ledger.evidence import EVERYBODY, Arrival, Cell, Evidence
from crossfade.ledger.metrics import MetricSpec
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.sketch import Sketch

START = datetime(2026, 3, 2, tzinfo=UTC)
EVEN = {"control": 0.5, "treatment": 0.5}


def day(number):
    return (START + timedelta(days=number)).strftime("%Y-%m-%d")


def after(days):
    """The end of the so many-th day."""
    return START + timedelta(days=days)


def split(rows, days):
    """Rows of units, spread evenly over days in their order."""
    return dict(zip([day(number) for number in range(days)], np.array_split(np.asarray(rows), days), strict=True))


def cells(metric, rows_by_variant, *, days=1, revision=1, dimension=EVERYBODY, value="", first_day=0, cut=None):
    """Cells of one metric: for a quantile, rows are lists of values, one list for each unit, or one value."""
    found = []
    for variant, rows in rows_by_variant.items():
        for number, part in enumerate(np.array_split(np.asarray(rows, dtype=float), days)):
            if not len(part):
                continue
            sketch, columns = None, part
            if cut is not None:
                sketch, units = Sketch.of(part), part.reshape(len(part), -1)
                columns = np.stack([(units <= cut).sum(axis=1), np.full(len(part), units.shape[1])], axis=1)
            found.append(
                Cell(
                    revision,
                    variant,
                    day(first_day + number),
                    dimension,
                    value,
                    metric,
                    Moments.of(columns),
                    sketch,
                    cut,
                )
            )
    return found


def arrivals(units_by_variant, weights, *, days=1, revision=1, first_day=0):
    found = []
    for variant, count in units_by_variant.items():
        for number, part in enumerate(np.array_split(np.arange(count), days)):
            if len(part):
                found.append(Arrival(revision, variant, day(first_day + number), len(part), weights[variant]))
    return found


def evidence(metrics, *, weights=None, days=1, cut=None, **more):
    """Evidence of one revision.

    Args:
        metrics: Metric -> variant -> rows of units.
    """
    weights = weights or {variant: 1 / len(rows) for rows in metrics.values() for variant in rows}
    found = [
        cell for metric, rows in metrics.items() for cell in cells(metric, rows, days=days, cut=(cut or {}).get(metric))
    ]
    first = next(iter(metrics.values()))
    counts = {variant: len(rows) for variant, rows in first.items()}
    last = int((after(days) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6)
    values = {"last_us": last, "outcomes": sum(counts.values())} | more
    return Evidence("late", tuple(found), tuple(arrivals(counts, weights, days=days)), **values)


def question(*metrics, variants=("control", "treatment"), **more):
    """A question about metrics; names become means."""
    specs = tuple(MetricSpec(each) if isinstance(each, str) else each for each in metrics)
    return Question("late", variants, specs, **({"started_at": START} | more))
