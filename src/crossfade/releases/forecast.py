"""What a plan would do, before it does anything: how long it takes, and how soon it would see that errors double."""

from __future__ import annotations

import math

import numpy as np

from crossfade.methods.stats.error_rate import WORSE
from crossfade.releases.checks.error_rate import alphas
from crossfade.releases.checks.spec import ErrorRateCheck
from crossfade.releases.plan import RolloutPlan
from crossfade.releases.requests import RolloutForecast, StepForecast
from crossfade.releases.rollout import Rollout
from crossfade.traffic.health import HealthLog

ASSUMED_RATE = 0.01
"""Taken for the fraction of requests that fail where nothing is known, or nothing has failed."""
_MOST = 10_000_000
_RATE_SECONDS, _TRAFFIC_SECONDS = 3600.0, 300.0


def forecast(rollout: Rollout, health: HealthLog) -> RolloutForecast:
    """Return what a rollout that does not exist yet would do."""
    hour = health.window(_RATE_SECONDS, model=rollout.subject, version=rollout.stable)
    traffic = health.pace(_TRAFFIC_SECONDS, model=rollout.subject)
    base_rate = (hour.errors + hour.refused) / hour.requests if hour.requests else 0.0
    return RolloutForecast(
        rollout.subject,
        rollout.stable,
        rollout.candidate,
        rollout.plan,
        rollout.fast,
        sum(step.hold_seconds for step in rollout.plan.steps),
        base_rate or ASSUMED_RATE,
        traffic,
        tuple(_steps(rollout.plan, base_rate or ASSUMED_RATE, traffic)),
        assumed=not base_rate,
    )


def _steps(plan: RolloutPlan, base_rate: float, traffic: float) -> list[StepForecast]:
    found = []
    for place, step in enumerate(plan.steps):
        checks = [check for check in plan.checks_of(place) if isinstance(check, ErrorRateCheck)]
        weight = 0.5 if step.shadow else step.weight
        needed = None
        if checks and 0 < weight < 1:
            alpha = max(alphas(check).get("errors", 0.0) for check in checks)
            needed = requests_to_see(2.0, weight, base_rate, alpha) if alpha else None
        coming = traffic * (1.0 if step.shadow else step.weight)
        seconds = needed / coming if needed is not None and coming else None
        found.append(StepForecast(step.weight, step.hold_seconds, needed, seconds))
    return found


def requests_to_see(ratio: float, weight: float, base_rate: float, alpha: float) -> int | None:
    """Return after about how many requests the error-rate test sees that the new version fails `ratio` times as often.

    That is when the expected evidence passes the limit: about half of all rollouts see it before, half after.

    Args:
        ratio: How many times as often.
        weight: The new version's fraction of the requests.
        base_rate: The fraction of the old version's requests that fail.
        alpha: Of the test.

    Returns:
        How many requests of the new version; None when ten million are not enough.

    Example:
        >>> 400 < requests_to_see(3.0, 0.1, 0.01, 0.01) < 900
        True
    """
    shifted = np.array(WORSE) * weight / (np.array(WORSE) * weight + 1 - weight)
    bad, bad_before = min(1.0, ratio * base_rate), base_rate * (1 - weight) / weight
    growth = bad * np.log(shifted / weight) + bad_before * np.log((1 - shifted) / (1 - weight))
    low, high = 1, 1
    while _log_evidence(growth, high) < math.log(1 / alpha):
        low, high = high, 2 * high
        if high > _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _log_evidence(growth, middle) >= math.log(1 / alpha) else (middle, high)
    return high


def _log_evidence(growth: np.ndarray[tuple[int], np.dtype[np.float64]], requests: int) -> float:
    """Return ln of the mean of exp(growth * requests), without overflow."""
    exponents = growth * requests
    largest = float(exponents.max())
    return largest + math.log(float(np.exp(exponents - largest).mean()))
