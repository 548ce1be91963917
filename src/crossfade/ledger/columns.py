"""Events as they come, turned into the columns that are summed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from crossfade.ledger.events import Exposure, Outcome
from crossfade.ledger.metrics import ERROR, EXPOSURES, FALLBACK, LARGEST, LATENCY, SCORE
from crossfade.ledger.plan import Plan
from crossfade.ledger.sums import ExposureColumns, OutcomeColumns
from crossfade.methods.stats.distributions import Array

_NONE = math.nan


class JoinedOutcome(msgspec.Struct, frozen=True, gc=False):
    """An outcome of which is known whose it is.

    Args:
        event: The outcome.
        unit: Whose.
        exposure: The decision it belongs to; None when only the unit is known.
    """

    event: Outcome
    unit: str
    exposure: Exposure | None = None


def exposure_columns(plan: Plan, exposures: Sequence[Exposure], numbers: dict[str, int]) -> ExposureColumns:
    """Return exposures as columns.

    Args:
        plan: What is measured.
        exposures: Of one experiment.
        numbers: Of their units.
    """
    values: dict[str, list[list[float]]] = {
        LATENCY: [[event.latency_seconds for event in exposures]],
        ERROR: [[event.error for event in exposures]],
        SCORE: [[_NONE if event.score is None else event.score for event in exposures]],
        FALLBACK: [[event.fallback for event in exposures]],
        EXPOSURES: [[1.0] * len(exposures)],
    }
    for name in plan.measures.paired:
        answers = [_answer(event, name) for event in exposures]
        for own, of_shadow in zip((SCORE, LATENCY, ERROR), zip(*answers, strict=True), strict=True) if answers else ():
            values[own].append(list(of_shadow))
    return ExposureColumns(
        units=_integers([numbers[event.unit] for event in exposures]),
        at=_integers([event.at_us for event in exposures]),
        values={name: _measured(np.array(lists, dtype=np.float64), name) for name, lists in values.items()},
    )


def outcome_columns(plan: Plan, outcomes: Sequence[JoinedOutcome], numbers: dict[str, int]) -> OutcomeColumns:
    """Return outcomes as columns; their names must be known to the plan."""
    scores = np.full((plan.answerers, len(outcomes)), _NONE)
    if plan.needs_scores:
        for place, outcome in enumerate(outcomes):
            if outcome.exposure is not None:
                scores[:, place] = _scores(plan, outcome.exposure)
    return OutcomeColumns(
        units=_integers([numbers[outcome.unit] for outcome in outcomes]),
        at=_integers([outcome.event.at_us for outcome in outcomes]),
        names=_integers([plan.names[outcome.event.name] for outcome in outcomes]),
        values=np.array([outcome.event.value for outcome in outcomes], dtype=np.float64),
        scores=scores,
    )


def refused_values(plan: Plan, exposures: Sequence[Exposure], columns: ExposureColumns) -> Counter[str]:
    """Return how many values of exposures cannot be used, by what they are; `unpaired` lack the answer of a shadow."""
    scored = sum(event.score is not None for event in exposures)
    return Counter(
        {
            LATENCY: int(np.isnan(columns.values[LATENCY][0]).sum()),
            SCORE: scored - int(np.isfinite(columns.values[SCORE][0]).sum()),
            "unpaired": int(np.isnan(columns.values[ERROR]).any(axis=0).sum()) if plan.measures.paired else 0,
        }
    )


def control_score(plan: Plan, exposure: Exposure) -> float:
    """Return what the control answered to a request, or would have; NaN when nobody knows."""
    score = _answer(exposure, plan.measures.control)[0]
    return score if abs(score) <= LARGEST else _NONE


def _answer(event: Exposure, variant: str) -> tuple[float, float, float]:
    """Return score, latency and error of a variant's answer; it may have answered for real."""
    if event.variant == variant:
        return (_NONE if event.score is None else event.score), event.latency_seconds, event.error
    for shadow in event.shadows:
        if shadow.variant == variant:
            return (_NONE if shadow.score is None else shadow.score), shadow.latency_seconds, shadow.error
    return _NONE, _NONE, _NONE


def _scores(plan: Plan, event: Exposure) -> list[float]:
    own = _NONE if event.score is None else event.score
    return [own, *(_answer(event, name)[0] for name in plan.measures.paired)]


def _measured(values: Array, name: str) -> Array:
    smallest = 0.0 if name == LATENCY else -LARGEST
    return np.where((values >= smallest) & (values <= LARGEST), values, _NONE)


def _integers(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)
