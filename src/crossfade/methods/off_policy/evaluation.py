"""Evaluating a policy on a log by every method, or refusing to."""

from __future__ import annotations

import math
from collections.abc import Callable

from crossfade.errors import InvalidDecisionLogError
from crossfade.methods.off_policy.estimators import Found, clipped_ips, direct, doubly_robust, ips, snips
from crossfade.methods.off_policy.log import Log
from crossfade.methods.off_policy.report import Method, PolicyReport, PolicyValue
from crossfade.methods.off_policy.reward_model import CellMeans, LinearRewards, RewardModel
from crossfade.methods.off_policy.support import LEAST_SIZE, effective_size, refusal, warnings
from crossfade.methods.off_policy.target import Target
from crossfade.methods.stats.distributions import Array, t_quantile
from crossfade.methods.stats.values import NotEstimable, require, require_probability

MOST_PREDICTIONS = 200_000_000
"""Rows times actions up to which a model is asked for every action in every row: about ten seconds."""


def evaluate(
    log: Log, target: Target, *, alpha: float = 0.05, clip: float | None = None, least: float = LEAST_SIZE
) -> PolicyReport:
    """Say what a policy would have earned.

    The reward model of the direct method and of doubly robust is linear in the features of the log where it has some,
    else the mean of each action in each cell, else the mean of each action.

    Args:
        log: What was done, what it earned, and how probable it was.
        target: What the policy would have done.
        alpha: Intervals miss with this probability.
        clip: Where clipped IPS cuts importance off; the root of the number of rows by default.
        least: Effective rows below which nothing is estimated.

    Raises:
        InvalidAnalysisError: `alpha` is not between 0 and 1, `clip` not above zero, or `least` not above 1.
        InvalidDecisionLogError: The log has features and cells.
    """
    require_probability(alpha)
    limit = math.sqrt(log.count) if clip is None else clip
    require(limit > 0, f"`clip` is {limit}, which is not above zero")
    require(least > 1, f"`least` is {least}, and no spread is known of so few rows")
    if log.features is not None and log.cells is not None:
        raise InvalidDecisionLogError(problem="a reward model takes features or cells, and it has both")
    importance = target.taken / log.propensities
    size = effective_size(importance)
    refused = refusal(importance, target, least)
    values = {} if refused is not None else _values(log, target, importance, limit, alpha)
    return PolicyReport(
        rows=log.count,
        actions=len(log.names),
        effective_size=size,
        mean_importance=float(importance.mean()),
        largest_importance=float(importance.max()),
        clip=limit,
        alpha=alpha,
        logged=_value("logged", _logged(log), log, log.count, alpha),
        values=values,
        refusal=refused,
        warnings=warnings(importance),
    )


def _values(
    log: Log, target: Target, importance: Array, clip: float, alpha: float
) -> dict[Method, PolicyValue | NotEstimable]:
    model: type[RewardModel] = CellMeans if log.features is None else LinearRewards
    found: dict[Method, PolicyValue | NotEstimable] = {}
    methods: dict[Method, Callable[[], Found]] = {
        "ips": lambda: ips(importance, log.rewards),
        "clipped_ips": lambda: clipped_ips(importance, log.rewards, clip),
        "snips": lambda: snips(importance, log.rewards),
    }
    unknown = _unmodelled(log, target)
    if unknown is None:
        methods["dm"] = lambda: direct(log, target, model)
        methods["dr"] = lambda: doubly_robust(log, target, importance, model)
    size = effective_size(importance)
    for method, estimate in methods.items():
        found[method] = _value(method, estimate(), log, size, alpha)
    if unknown is not None:
        found |= {"dm": unknown, "dr": unknown}
    return found


def _unmodelled(log: Log, target: Target) -> NotEstimable | None:
    if target.table is None:
        return NotEstimable("it is not known what the policy thinks of actions that were not taken")
    if log.count * len(log.names) > MOST_PREDICTIONS:
        return NotEstimable(f"predicting {len(log.names):,} actions in {log.count:,} rows would take too long")
    return None


def _logged(log: Log) -> Found:
    value = float(log.rewards.mean())
    return Found(value, log.rewards - value)


def _value(method: Method, found: Found, log: Log, size: float, alpha: float) -> PolicyValue:
    """Give an estimate its intervals; how well a spread is known depends on how many rows count effectively."""
    reach = float(t_quantile(1 - alpha / 2, max(size - 1, 1.0)))
    base = _logged(log)
    gain = Found(found.value - base.value, found.influence - base.influence)
    half, half_gain = reach * found.standard_error, reach * gain.standard_error
    return PolicyValue(
        method=method,
        value=found.value,
        standard_error=found.standard_error,
        lower=found.value - half,
        upper=found.value + half,
        gain=gain.value,
        gain_lower=gain.value - half_gain,
        gain_upper=gain.value + half_gain,
    )
