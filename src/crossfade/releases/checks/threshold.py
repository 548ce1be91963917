"""Numbers against their limits: from our own health windows, or from Prometheus."""

from __future__ import annotations

import math

from crossfade.releases.checks.phase import CheckResult, Measurement
from crossfade.releases.checks.spec import ThresholdCheck
from crossfade.releases.rollout import Rollout
from crossfade.telemetry.prometheus import PrometheusClient
from crossfade.traffic.health import HealthLog


def measure(
    check: ThresholdCheck, rollout: Rollout, health: HealthLog, prometheus: PrometheusClient | None
) -> Measurement:
    """Return whether a number of the new version is within its limits."""
    if check.series is None:
        return _of_query(check, rollout, prometheus)
    window = health.window(check.window_seconds, model=rollout.subject, version=rollout.candidate)
    if not window:
        return Measurement(CheckResult.NO_TRAFFIC, f"nobody has asked version {rollout.candidate} lately")
    value = getattr(window, check.series)
    return judge(check, None if value is None else float(value), check.series)


def judge(check: ThresholdCheck, value: float | None, what: str) -> Measurement:
    """Compare a number with its limits; one that is none could not be measured.

    Example:
        >>> judge(ThresholdCheck("p99", series="p99_seconds", maximum=0.2), 0.5, "p99_seconds").reason
        'p99_seconds is 0.5, and at most 0.2 is acceptable'
    """
    if value is None or math.isnan(value):
        return Measurement(CheckResult.ERROR, f"{what} is no number")
    if check.minimum is not None and value < check.minimum:
        words = f"{what} is {value:.6g}, and at least {check.minimum:.6g} is acceptable"
        return Measurement(CheckResult.FAIL, words, value, check.minimum)
    if check.maximum is not None and value > check.maximum:
        words = f"{what} is {value:.6g}, and at most {check.maximum:.6g} is acceptable"
        return Measurement(CheckResult.FAIL, words, value, check.maximum)
    limit = check.minimum if check.maximum is None else check.maximum
    return Measurement(CheckResult.PASS, f"{what} is {value:.6g}", value, limit)


def _of_query(check: ThresholdCheck, rollout: Rollout, prometheus: PrometheusClient | None) -> Measurement:
    if prometheus is None:
        return Measurement(CheckResult.ERROR, "no Prometheus is configured: set `CROSSFADE_TELEMETRY__PROMETHEUS_URL`")
    query = check.query
    for name, value in (("model", rollout.subject), ("version", rollout.candidate), ("rollout", rollout.name)):
        query = query.replace("{" + name + "}", value)
    found = prometheus.read(query)
    if found.value is None:
        return Measurement(
            CheckResult.ERROR, f"the query has no number for an answer: {found.outcome.replace('_', ' ')}"
        )
    return judge(check, found.value, "the query's result")
