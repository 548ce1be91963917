"""The whole way: simulated units become moments, moments evidence, evidence a report; what is promised of reports."""

import math
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np

from crossfade.experiments.analysis import analyze
from crossfade.experiments.analysis_spec import AnalysisSpec, DecisionSpec
from crossfade.experiments.health import health
from crossfade.experiments.question import Question
from crossfade.ledger.evidence import EVERYBODY, Arrival, Cell, Evidence
from crossfade.ledger.metrics import MetricSpec
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.power import Design, power
from crossfade.methods.stats.sample_ratio import ALARM
from crossfade.methods.stats.sequential_power import always_valid_power, group_sequential_power
from crossfade.methods.stats.sketch import Sketch
from crossfade.methods.stats.values import Effect
from tests.calibration.checks import ALPHA, Figure, about, at_most
from tests.calibration.streams import KINDS

START = datetime(2026, 3, 2, tzinfo=UTC)
DAYS, PER_DAY, LOOKS = 50, 100, 5
"""Days, units of each variant on each of them, and planned looks."""
UNITS = 2 * DAYS * PER_DAY
ARMS = ("control", "treatment")
METRICS = {
    "mean": MetricSpec("mean"),
    "proportion": MetricSpec("proportion", kind="proportion"),
    "count": MetricSpec("count", kind="count"),
    "ratio": MetricSpec("ratio", kind="ratio"),
    "cuped": MetricSpec("cuped", covariate="before"),
    "quantile": MetricSpec("quantile", kind="quantile", level=0.9),
}
SPECS = {
    "always_valid": AnalysisSpec(),
    "group_sequential": AnalysisSpec(method="group_sequential", planned_units=UNITS, looks=LOOKS),
    "fixed": AnalysisSpec(method="fixed", planned_units=UNITS),
}
_NAMES = [(START + timedelta(days=day)).strftime("%Y-%m-%d") for day in range(DAYS)]
_NOW = START + timedelta(days=DAYS)


def evidence(name, random, effect):
    """The evidence of one experiment, as roll-ups would give it."""
    cells, arrivals = [], []
    for arm, each in zip(ARMS, (0.0, effect), strict=True):
        rows = KINDS[name].draw(random, (DAYS, PER_DAY), each)
        sketches, columns = [None] * DAYS, rows
        if name == "quantile":
            cut = 1.9
            sketches = [Sketch.of(values) for values in rows]
            columns = np.concatenate([rows <= cut, np.ones_like(rows)], axis=-1)
        moments = Moments.of(columns)
        for place, day in enumerate(_NAMES):
            cells.append(Cell(1, arm, day, EVERYBODY, "", name, moments[place], sketches[place]))
            arrivals.append(Arrival(1, arm, day, PER_DAY, 0.5))
    return Evidence(name, tuple(cells), tuple(arrivals), last_us=int(_NOW.timestamp() * 1e6))


def reports(name, experiments, effect, seed, methods):
    """One comparison by each method, for each experiment."""
    for number in range(experiments):
        found = evidence(name, np.random.default_rng([seed, number]), effect)
        made = {}
        for method in methods:
            spec = SPECS[method]
            question = Question("calibration", ARMS, (METRICS[name],), analysis=spec, started_at=START, ends_at=_NOW)
            (made[method],) = analyze(found, question, _NOW).comparisons
        yield made


def seen(comparison):
    """Whether any look so far was significant."""
    smallest = comparison.looks[-1].running_p
    return smallest is not None and smallest <= ALPHA


def covered(comparison, truth):
    """Whether the intervals of all looks hold the truth."""
    return all(look.effect is None or look.lower <= truth <= look.upper for look in comparison.looks)


def pipeline(name, experiments, seed=11, methods=tuple(SPECS)):
    """A/A, and A/B with an effect: false positives, coverage and power of every method, from units to report."""
    counts = {method: [0, 0, 0, 0] for method in methods}
    kind = KINDS[name]
    for effect in (0.0, kind.effect):
        truth = _truth(name, effect)
        for made in reports(name, experiments, effect, seed + (effect > 0), methods):
            for method, comparison in made.items():
                assert isinstance(comparison.absolute, Effect)
                counts[method][0 if effect == 0 else 1] += seen(comparison)
                counts[method][2 if effect == 0 else 3] += covered(comparison, truth)
    for method, (false, true, of_nothing, of_something) in counts.items():
        limit = about if method == "fixed" else at_most
        label = f"pipeline, {name}, {method}"
        yield limit(f"{label}: false positives", false / experiments, ALPHA, experiments)
        for what, held in (("no effect", of_nothing), ("an effect", of_something)):
            error = 3 * math.sqrt(ALPHA * (1 - ALPHA) / experiments)
            high = 1 - ALPHA + error if method == "fixed" else 1.0
            yield Figure(f"{label}: coverage, {what}", held / experiments, 1 - ALPHA - error, high)
        if kind.population is not None:
            expected = calculated(name, method)
            slack = max(0.03, 3 * math.sqrt(expected * (1 - expected) / experiments))
            found = f"{label}: power (calculator {expected:.3f})"
            yield Figure(found, true / experiments, expected - slack, expected + slack)


def _truth(name, effect):
    """The absolute effect that an effect really makes."""
    means = {"count": 1.5, "ratio": 0.2}
    return means[name] * effect if name in means else KINDS[name].truth(effect)


def calculated(name, method):
    """What the calculator says of the power."""
    kind, design = KINDS[name], Design(ALPHA)
    if method == "fixed":
        return power(kind.population, kind.effect, UNITS, design)
    if method == "group_sequential":
        return group_sequential_power(kind.population, kind.effect, UNITS, design, times=LOOKS)
    tuning = SPECS[method].tuning
    return always_valid_power(kind.population, kind.effect, UNITS, design, times=DAYS, tuning=tuning)


RAMP = ((0.9, 0.1), (0.7, 0.3), (0.5, 0.5))


def ramp(experiments, seed=13, per_day=200):
    """A/A while the treatment's weight grows and so does everybody's mean: what pooling would take for an effect."""
    metric, false, pooled = METRICS["mean"], dict.fromkeys(SPECS, 0), 0
    held = 0
    for number in range(experiments):
        random = np.random.default_rng([seed, number])
        found, naive = _ramped(random, per_day), _ramped(random, per_day, forget=True)
        for method, spec in SPECS.items():
            question = Question("ramp", ARMS, (metric,), analysis=spec, started_at=START, ends_at=_NOW)
            (comparison,) = analyze(found, question, _NOW).comparisons
            false[method] += seen(comparison)
            held += method == "fixed" and covered(comparison, 0.0)
        question = Question("ramp", ARMS, (metric,), started_at=START, ends_at=_NOW)
        pooled += seen(analyze(naive, question, _NOW).comparisons[0])
    for method, count in false.items():
        limit = about if method == "fixed" else at_most
        yield limit(f"pipeline, ramp, {method}: false positives", count / experiments, ALPHA, experiments)
    yield about("pipeline, ramp, fixed: coverage", held / experiments, 1 - ALPHA, experiments)
    yield Figure("pipeline, ramp: false positives if periods were pooled", pooled / experiments, 0.5, 1.0)


def _ramped(random, per_day, *, forget=False):
    cells, arrivals = [], []
    for place, day in enumerate(_NAMES):
        step = place * len(RAMP) // DAYS
        revision, weights = (1, (0.5, 0.5)) if forget else (step + 1, RAMP[step])
        sizes = random.multinomial(per_day, RAMP[step])
        for arm, weight, size in zip(ARMS, weights, sizes, strict=True):
            rows = random.gamma(2.0, 1.0, size=size) + place / DAYS
            cells.append(Cell(revision, arm, day, EVERYBODY, "", "mean", Moments.of(rows)))
            arrivals.append(Arrival(revision, arm, day, int(size), weight))
    return Evidence("ramp", tuple(cells), tuple(arrivals), last_us=int(_NOW.timestamp() * 1e6))


RARE = {
    "90:10, rate of 1 %": (((0.9, 0.1),), lambda random, size: (random.random(size) < 0.01).astype(float)),
    "90:10, heavy tail": (((0.9, 0.1),), lambda random, size: random.lognormal(0.0, 1.5, size)),
    "canary from 1 %, rate of 2 %": (
        ((0.99, 0.01), (0.95, 0.05), (0.8, 0.2), (0.5, 0.5)),
        lambda random, size: (random.random(size) < 0.02).astype(float),
    ),
}


def unequal(name, experiments, seed=16, per_day=1000):
    """A/A of unequal variants and skewed values, where the smaller variant's variance is underestimated most."""
    steps, draw = RARE[name]
    false = dict.fromkeys(("always_valid", "group_sequential"), 0)
    for number in range(experiments):
        random, cells, arrivals = np.random.default_rng([seed, number]), [], []
        for place, day in enumerate(_NAMES):
            step = place * len(steps) // DAYS
            sizes = random.multinomial(per_day, steps[step])
            for arm, weight, size in zip(ARMS, steps[step], sizes, strict=True):
                cells.append(Cell(step + 1, arm, day, EVERYBODY, "", "mean", Moments.of(draw(random, size))))
                arrivals.append(Arrival(step + 1, arm, day, int(size), weight))
        found = Evidence("unequal", tuple(cells), tuple(arrivals), last_us=int(_NOW.timestamp() * 1e6))
        for method in false:
            spec = AnalysisSpec(method=method, planned_units=per_day * DAYS, looks=LOOKS)
            question = Question("unequal", ARMS, (METRICS["mean"],), analysis=spec, started_at=START, ends_at=_NOW)
            (comparison,) = analyze(found, question, _NOW).comparisons
            false[method] += seen(comparison)
    for method, count in false.items():
        yield at_most(f"pipeline, {name}, {method}: false positives", count / experiments, ALPHA, experiments)


def guardrail(experiments, seed=14, margin=0.05, days=10, per_day=300):
    """A guardrail exactly at its margin, looked at every day: how often it is acceptable, or harmed, at any look.

    One that is worse by twice its margin is harmed, and the power of that is shown.
    """
    metric = MetricSpec("mean", role="guardrail", margin=margin)
    acceptable, harmed, stopped = Counter(), Counter(), Counter()
    for number in range(experiments):
        for worse in (0.0, margin, 2 * margin):
            random, cells, arrivals, seen = np.random.default_rng([seed, number]), [], [], []
            for place, day in enumerate(_NAMES[:days]):
                for arm, factor in zip(ARMS, (1.0, 1.0 - worse), strict=True):
                    rows = random.gamma(4.0, 1.0, size=per_day) * factor
                    cells.append(Cell(1, arm, day, EVERYBODY, "", "mean", Moments.of(rows)))
                    arrivals.append(Arrival(1, arm, day, per_day, 0.5))
                now = START + timedelta(days=place + 1)
                found = Evidence("guardrail", tuple(cells), tuple(arrivals), last_us=int(now.timestamp() * 1e6))
                question = Question("guardrail", ARMS, (metric,), started_at=START)
                seen.append(analyze(found, question, now).comparisons[0])
            acceptable[worse] += any(each.acceptable for each in seen)
            harmed[worse] += any(each.harmful for each in seen)
            stopped[worse] += any(each.harm_p is not None and each.harm_p < DecisionSpec().harm_alpha for each in seen)
    rate = acceptable[margin] / experiments
    yield at_most("pipeline, guardrail at its margin: called acceptable", rate, ALPHA, experiments)
    yield Figure("pipeline, guardrail unchanged: called acceptable", acceptable[0.0] / experiments, 0.8, 1.0)
    rate = harmed[margin] / experiments
    yield at_most("pipeline, guardrail at its margin: called harmed", rate, ALPHA, experiments)
    rate = stopped[margin] / experiments
    yield at_most("pipeline, guardrail at its margin: stopped at once", rate, DecisionSpec().harm_alpha, experiments)
    yield Figure("pipeline, guardrail twice beyond: called harmed", harmed[2 * margin] / experiments, 0.5, 1.0)


def arrivals_as_they_should(experiments, seed=15, per_day=400):
    """Units arrive by the weights, through a ramp and 50 days: alarms of the report's health."""
    alarms = 0
    for number in range(experiments):
        random, found = np.random.default_rng([seed, number]), []
        for place, day in enumerate(_NAMES):
            step = place * len(RAMP) // DAYS
            sizes = random.multinomial(per_day, RAMP[step])
            found += [
                Arrival(step + 1, arm, day, int(size), weight)
                for arm, weight, size in zip(ARMS, RAMP[step], sizes, strict=True)
            ]
        known = Evidence("arrivals", (), tuple(found), last_us=int(_NOW.timestamp() * 1e6))
        checked = health(known, Question("arrivals", ARMS, (), started_at=START), _NOW)
        alarms += any(problem.code == "sample_ratio" for problem in checked.problems)
    yield at_most("pipeline, sample ratio: false alarms", alarms / experiments, ALARM, experiments)
