"""The catalogue: every rule there is, with the thresholds of the settings. Evaluation and export read nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from crossfade.alerts.conditions import (
    BurnRate,
    CounterGrows,
    FactHolds,
    FailuresAbove,
    GaugeAbove,
    QuantileAbove,
    ShareBelow,
    Sli,
)
from crossfade.alerts.rule import AlertRule
from crossfade.alerts.signals import KNOWN_LABELS
from crossfade.settings import Settings

MINUTE, HOUR, DAY = 60, 3_600, 86_400
_BURN_RATES = (
    ("Fast", "page", HOUR, 5 * MINUTE, 14.4, "2 % of a month's budget is gone within an hour"),
    ("", "page", 6 * HOUR, 30 * MINUTE, 6.0, "5 % of a month's budget is gone within six hours"),
    ("Slowly", "ticket", 3 * DAY, 6 * HOUR, 1.0, "all of a month's budget is gone before the month is over"),
)
"""Suffix, severity, long and short window, factor, and what it comes to."""


def catalogue(settings: Settings) -> tuple[AlertRule, ...]:
    """Return every rule that is not disabled.

    Example:
        >>> len({rule.name for rule in catalogue(Settings())}) == len(catalogue(Settings()))
        True
    """
    rules = (
        *_of_budgets("errors", "Error", "too many requests fail"),
        *_of_budgets("latency", "Latency", "too many answers are slow"),
        *_of_models(settings),
        *_of_caches(settings),
        *_of_processes(),
        *_of_events(settings),
        *_of_facts(),
    )
    return tuple(rule for rule in rules if rule.name not in settings.alerts.disabled)


def labels_of(rules: Iterable[AlertRule]) -> frozenset[str]:
    """Return the labels that alerts of these rules can have."""
    apart = (rule.condition.by for rule in rules if isinstance(rule.condition, GaugeAbove | CounterGrows | ShareBelow))
    return KNOWN_LABELS.union(*apart)


def _of_budgets(sli: Sli, prefix: str, what: str) -> tuple[AlertRule, ...]:
    return tuple(
        AlertRule(
            f"{prefix}BudgetBurns{suffix}",
            severity,
            f"{what} of {{labels}}: {cost}",
            f"The service level of the model (settings `slo`) is missed: at this pace, {cost}. Look at the "
            "versions that answer now, and at what was released last; roll back first, understand later.",
            BurnRate(sli, long, short, factor),
        )
        for suffix, severity, long, short, factor, cost in _BURN_RATES
    )


def _of_models(settings: Settings) -> tuple[AlertRule, ...]:
    at = settings.alerts
    return (
        AlertRule(
            "ModelInferenceLatencyHigh",
            "ticket",
            "5 % of the answers of {labels} are slower than they should be",
            "The 95th percentile of latency is above `alerts.p95_seconds`. Compare versions, batch sizes and queues.",
            QuantileAbove(0.95, 5 * MINUTE, at.p95_seconds),
            for_seconds=5 * MINUTE,
        ),
        AlertRule(
            "ApiLatencyHigh",
            "page",
            "1 % of the answers of {labels} are very slow",
            "The 99th percentile of latency is above `alerts.p99_seconds`. Look for a queue, or a slow dependency.",
            QuantileAbove(0.99, 5 * MINUTE, at.p99_seconds),
            for_seconds=5 * MINUTE,
        ),
        AlertRule(
            "ModelErrorRateHigh",
            "page",
            "requests to {labels} fail",
            "More than `alerts.error_rate` of the requests fail. Roll back when a release is recent.",
            FailuresAbove(5 * MINUTE, at.error_rate),
            for_seconds=2 * MINUTE,
        ),
        AlertRule(
            "ModelInferenceFailures",
            "ticket",
            "some requests to {labels} fail",
            "More than `alerts.failure_rate` of the requests fail. See what they have in common.",
            FailuresAbove(5 * MINUTE, at.failure_rate),
            for_seconds=5 * MINUTE,
        ),
        AlertRule(
            "QueueDepthHigh",
            "ticket",
            "requests queue up for {labels}",
            "More than `alerts.queue_depth` requests wait. Add processes, or shed load earlier.",
            GaugeAbove("crossfade_queue_depth", float(at.queue_depth), by=("model",)),
            for_seconds=MINUTE,
        ),
        AlertRule(
            "ModelLoadFailed",
            "ticket",
            "a version could not be loaded",
            "A version that shall be served cannot be loaded here. `crossfade models show` says why.",
            GaugeAbove("crossfade_slots", 0.0, where={"state": "failed"}),
            for_seconds=MINUTE,
        ),
        AlertRule(
            "ModelProcessesEnd",
            "ticket",
            "the process of {labels} ends again and again",
            "A model in a process of its own crashes or hangs. The log has what it printed.",
            CounterGrows("crossfade_model_process_ends_total", 15 * MINUTE, 3.0, by=("model",)),
        ),
    )


def _of_caches(settings: Settings) -> tuple[AlertRule, ...]:
    at, size = settings.alerts, settings.cache.max_bytes * settings.serving.workers
    return (
        AlertRule(
            "CacheHitRateLow",
            "ticket",
            "few answers of {labels} come from the cache",
            "Less than `alerts.cache_hit_rate` of the questions are answered from kept answers. Maybe inputs never "
            "repeat: then leave the model out of the cache.",
            ShareBelow(
                "crossfade_cache_lookups_total", 15 * MINUTE, "result", "computed", at.cache_hit_rate, 1_000, ("model",)
            ),
            for_seconds=15 * MINUTE,
        ),
        AlertRule(
            "CacheNearlyFull",
            "ticket",
            "the memory for kept answers is nearly full",
            "More than `alerts.cache_share` of `cache.max_bytes` is in use; new answers push old ones out.",
            GaugeAbove("crossfade_cache_bytes", at.cache_share * size),
            for_seconds=15 * MINUTE,
        ),
        AlertRule(
            "SharedCacheFailing",
            "ticket",
            "the shared cache is left alone, because it fails",
            "Redis does not answer, is too slow, or has no connection to spare. Answers are computed meanwhile.",
            GaugeAbove("crossfade_cache_breaker_open", 0.0, by=("operation",)),
            for_seconds=MINUTE,
        ),
    )


def _of_processes() -> tuple[AlertRule, ...]:
    age = "crossfade_snapshot_age_seconds"
    return (
        AlertRule(
            "SnapshotOld",
            "ticket",
            "a process does not hear from the database",
            "It serves by what it knew last. Changes do not reach it, rollbacks included.",
            GaugeAbove(age, 60.0),
        ),
        AlertRule(
            "SnapshotVeryOld",
            "page",
            "a process has not heard from the database for minutes",
            "As `SnapshotOld`, for more than five minutes.",
            GaugeAbove(age, 300.0),
        ),
        AlertRule(
            "WorkersEnd",
            "ticket",
            "a worker ended and was replaced",
            "A process of the server died. Requests that it worked on failed. The log says of what.",
            CounterGrows("crossfade_worker_restarts_total", 15 * MINUTE),
        ),
        AlertRule(
            "LoadsHang",
            "ticket",
            "loading a version hangs",
            "A load did not end and was left behind; what it holds is lost until the process ends.",
            CounterGrows("crossfade_abandoned_loads_total", 15 * MINUTE),
        ),
    )


def _of_events(settings: Settings) -> tuple[AlertRule, ...]:
    spool = settings.alerts.spool_share * settings.ledger.max_spool_bytes
    return (
        AlertRule(
            "EventsDropped",
            "page",
            "events are lost",
            "Exposures could not be written: the disk is full or too slow. Experiments of that time are incomplete, "
            "and decide nothing by themselves.",
            CounterGrows("crossfade_events_dropped_total", 15 * MINUTE, by=("kind",)),
        ),
        AlertRule(
            "SpoolNearlyFull",
            "page",
            "events wait for the database, and soon there is no room for more",
            "More than `alerts.spool_share` of `ledger.max_spool_bytes` waits. Then outcomes are refused.",
            GaugeAbove("crossfade_spool_bytes", spool),
        ),
        AlertRule(
            "EventsWaitLong",
            "ticket",
            "events wait for the database",
            "The oldest event has waited for more than five minutes: the database is away or too slow.",
            GaugeAbove("crossfade_events_unshipped_age_seconds", 300.0),
        ),
        AlertRule(
            "JournalDamaged",
            "ticket",
            "a journal of events was damaged",
            "A process was killed while it wrote, or the disk lies. `crossfade doctor` looks further.",
            CounterGrows("crossfade_log_truncated_bytes_total", 15 * MINUTE),
        ),
        AlertRule(
            "LedgerGaps",
            "ticket",
            "events of {labels} are missing",
            "Events that there have been are not in the database. Analyses say so, and decide nothing.",
            FactHolds("ledger_gaps"),
        ),
    )


def _of_facts() -> tuple[AlertRule, ...]:
    return (
        AlertRule(
            "ABTestSignificantResult",
            "info",
            "{labels} has a result",
            "The evidence is enough to decide, however often one looks. `crossfade experiments decide` acts on it.",
            FactHolds("experiment_results"),
        ),
        AlertRule(
            "ABTestTrafficDeviation",
            "ticket",
            "the variants of {labels} do not get the units that they should",
            "Who takes part differs from what the weights say, beyond chance. Trust no number of the experiment.",
            FactHolds("experiment_deviations"),
        ),
        AlertRule(
            "SafetyViolationsCritical",
            "page",
            "answers of {labels} are critical",
            "Safety checks stop answers. `crossfade safety status` has the violations.",
            FactHolds(
                "safety_violations",
                CounterGrows(
                    "crossfade_safety_violations_total",
                    5 * MINUTE,
                    0.0,
                    ("model",),
                    {"level": "critical", "role": "answer"},
                ),
            ),
        ),
        AlertRule(
            "EmergencyModeActive",
            "page",
            "emergency mode is on for {labels}",
            "Somebody, or a rule, has stopped answers of models. It stays until a person ends it.",
            FactHolds("emergency_mode", GaugeAbove("crossfade_emergency", 0.0, by=("model",))),
        ),
        AlertRule(
            "ConfigurationDrift",
            "ticket",
            "clients of {labels} run another configuration than they should",
            "Clients report a digest that is not the active version's.",
            FactHolds("configuration_drift"),
            for_seconds=5 * MINUTE,
        ),
        AlertRule(
            "RollbackPerformed",
            "info",
            "{labels} was rolled back",
            "Traffic went back to an earlier version within the last 15 minutes. Find out why before the next attempt.",
            FactHolds("rollbacks"),
        ),
        AlertRule(
            "AlertSourceMissing",
            "ticket",
            "alert rules cannot be evaluated: {labels}",
            "What a rule reads has given no answer for a while, so the rule is blind.",
            FactHolds("blind_rules"),
            for_seconds=5 * MINUTE,
        ),
    )
