"""A report as rows: one for each comparison, those within segments last."""

from __future__ import annotations

from typing import Any

from crossfade.experiments.report import AnalysisReport, Arm, Belief, Comparison, SegmentComparison
from crossfade.methods.stats.non_inferiority import NonInferiority
from crossfade.methods.stats.values import Effect, NotEstimable


def rows(report: AnalysisReport) -> list[dict[str, Any]]:
    """Return flat rows with the same columns everywhere; what there is not is None."""
    return [*map(_whole, report.comparisons), *map(_part, report.segments)]


def _whole(each: Comparison) -> dict[str, Any]:
    belief = each.belief if isinstance(each.belief, Belief) else None
    margin = each.non_inferiority if isinstance(each.non_inferiority, NonInferiority) else None
    return {
        **_arms("", "", each.metric, each.control, each.treatment),
        "role": each.role,
        "direction": each.direction,
        **_effect("absolute", each.absolute),
        **_effect("relative", each.relative),
        "judged": each.judged,
        "p_value": each.p_value,
        "adjusted_p": each.adjusted_p,
        "e_value": each.e_value,
        "reading": each.reading,
        "chance_better": belief.chance_better if belief else None,
        "loss_of_treatment": belief.loss_of_treatment if belief else None,
        "variance_reduction": each.variance_reduction,
        "within_margin": margin.shown if margin else None,
        "worst": margin.worst if margin else None,
        "harmful": each.harmful if each.role == "guardrail" else None,
        "harm_p": each.harm_p,
        "reason": each.effect.reason if isinstance(each.effect, NotEstimable) else None,
    }


def _part(each: SegmentComparison) -> dict[str, Any]:
    empty = NotEstimable("")
    absolute = each.judged == "absolute"
    return {
        **_arms(each.dimension, each.value, each.metric, each.control, each.treatment),
        "role": "segment",
        "direction": None,
        **_effect("absolute", each.effect if absolute else empty),
        **_effect("relative", empty if absolute else each.effect),
        "judged": each.judged,
        "p_value": each.effect.p_value if isinstance(each.effect, Effect) else None,
        "adjusted_p": each.adjusted_p,
        "e_value": None,
        "reading": each.reading,
        "chance_better": None,
        "loss_of_treatment": None,
        "variance_reduction": None,
        "within_margin": None,
        "worst": None,
        "harmful": None,
        "harm_p": None,
        "reason": each.effect.reason if isinstance(each.effect, NotEstimable) else None,
    }


def _arms(dimension: str, value: str, metric: str, control: Arm, treatment: Arm) -> dict[str, Any]:
    return {
        "metric": metric,
        "treatment": treatment.variant,
        "dimension": dimension,
        "value": value,
        "n_control": control.units,
        "n_treatment": treatment.units,
        "control_value": control.value,
        "treatment_value": treatment.value,
    }


def _effect(name: str, found: Effect | NotEstimable) -> dict[str, Any]:
    if isinstance(found, NotEstimable):
        return {name: None, f"{name}_lower": None, f"{name}_upper": None}
    return {name: found.effect, f"{name}_lower": found.lower, f"{name}_upper": found.upper}
