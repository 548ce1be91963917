"""A metric of the ledger: the same roll-ups and the same always-valid analysis as of an experiment."""

from __future__ import annotations

from datetime import datetime

from crossfade.errors import CrossfadeError
from crossfade.experiments.analysis import analyze
from crossfade.experiments.analysis_spec import AnalysisSpec
from crossfade.experiments.question import Question
from crossfade.experiments.report import Comparison
from crossfade.ledger.metrics import BUILT_IN, Measures, MetricSpec
from crossfade.ledger.reading import read_evidence
from crossfade.methods.stats.confidence_sequence import SMALLEST
from crossfade.methods.stats.non_inferiority import NonInferiority
from crossfade.releases.checks.phase import CheckResult, Measurement
from crossfade.releases.checks.spec import MetricCheck
from crossfade.releases.plan import RolloutPlan
from crossfade.releases.rollout import CANDIDATE, STABLE, Rollout
from crossfade.storage.database import Database


def measures(name: str, plan: RolloutPlan) -> Measures:
    """Return what the ledger has to know about a rollout."""
    return Measures(name, STABLE, tuple(check.guardrail for check in plan.checks if isinstance(check, MetricCheck)))


def measure(check: MetricCheck, rollout: Rollout, database: Database, now: datetime) -> Measurement:
    """Return what the ledger says of one metric of the new version."""
    metric = check.guardrail
    question = Question(
        rollout.name,
        (STABLE, CANDIDATE),
        (metric,),
        control=STABLE,
        analysis=AnalysisSpec(alpha=check.alpha),
        started_at=rollout.created_at,
    )
    try:
        evidence = read_evidence(database, rollout.name)
        report = analyze(evidence, question, now)
    except CrossfadeError as error:
        return Measurement(CheckResult.ERROR, error.message)
    found = next((each for each in report.comparisons if each.metric == metric.name), None)
    blocking = next(
        (problem for problem in report.health.problems if problem.blocks and problem.code == "incomplete"), None
    )
    if blocking is not None:
        return Measurement(CheckResult.ERROR, f"the ledger is incomplete: {blocking.words}")
    lack = f"`{metric.name}` is not measured yet" if found is None else _lack(metric, found, evidence.outcomes)
    if found is None or lack:
        return Measurement(CheckResult.NO_TRAFFIC, lack)
    return _judged(check, found)


def _lack(metric: MetricSpec, found: Comparison, outcomes: int) -> str:
    """Say what is missing before anything can be compared, however long one waits; nothing where nothing is.

    A unit without a value may count as zero, so zeros alone are no evidence that anybody reports anything.
    """
    for arm, side in ((found.treatment, "new"), (found.control, "old")):
        if arm.units == 0:
            return f"`{metric.name}` has no unit of the {side} version yet"
    if found.treatment.value or found.control.value or metric.source in BUILT_IN:
        return ""
    if not outcomes:
        return f"no outcome has been reported of either version, so nothing is known of `{metric.name}`"
    return "" if metric.direction == "down" else f"`{metric.name}` is 0 of both versions: there is nothing to compare"


def _judged(check: MetricCheck, found: Comparison) -> Measurement:
    name, alpha = check.metric.name, check.alpha
    arms = f"{_number(found.treatment.value)}, and {_number(found.control.value)} of the old version"
    if found.harm_p is not None and found.harm_p <= alpha:
        than = "" if found.non_inferiority is None else " than its margin accepts"
        return Measurement(CheckResult.FAIL, f"`{name}` is worse{than}: {arms}", found.harm_p, alpha)
    if found.harm_p is None and not _never_on_either_side(found):
        return Measurement(CheckResult.PENDING, f"`{name}` cannot be compared yet: {arms}")
    if found.non_inferiority is None or found.spotless:
        return Measurement(CheckResult.PASS, f"nothing speaks against `{name}`: {arms}", found.harm_p, alpha)
    if isinstance(found.non_inferiority, NonInferiority) and found.non_inferiority.shown:
        return Measurement(CheckResult.PASS, f"`{name}` is within its margin: {arms}", found.harm_p, alpha)
    margin = check.metric.margin if check.metric.margin_absolute is None else check.metric.margin_absolute
    words = f"it is not shown yet that `{name}` is within its margin of {margin:.4g}: {arms}"
    return Measurement(CheckResult.INCONCLUSIVE, words, found.harm_p, alpha)


def _never_on_either_side(found: Comparison) -> bool:
    """Tell whether what should be little was seen of neither version, of as many units as any comparison needs."""
    return found.spotless and not found.control.value and min(found.treatment.units, found.control.units) >= SMALLEST


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.5g}"
