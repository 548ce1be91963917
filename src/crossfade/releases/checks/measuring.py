"""`Measurer`: makes the checks of a rollout, each by what it is about. No check can raise: what fails is a result."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, Protocol

import msgspec

from crossfade.core.wording import in_one_line
from crossfade.errors import CrossfadeError, ExperimentNotFoundError
from crossfade.experiments.record import Status
from crossfade.experiments.store import ExperimentStore
from crossfade.releases.checks import error_rate, metric, threshold
from crossfade.releases.checks.phase import CheckResult, Measurement
from crossfade.releases.checks.questions import Questions
from crossfade.releases.checks.spec import (
    CheckSpec,
    ErrorRateCheck,
    ExperimentCheck,
    MetricCheck,
    ThresholdCheck,
    WebhookCheck,
)
from crossfade.releases.checks.units import units_of
from crossfade.releases.policy import Situation, too_early_to_say
from crossfade.releases.rollout import UNITS, CheckState, Rollout, RolloutEvidence, RolloutState
from crossfade.storage.database import Database
from crossfade.telemetry.prometheus import PrometheusClient
from crossfade.traffic.health import HealthLog

_log = logging.getLogger(__name__)

_ANSWERS = {"pass": CheckResult.PASS, "fail": CheckResult.FAIL, "inconclusive": CheckResult.INCONCLUSIVE}


_CUMULATIVE = (ErrorRateCheck, MetricCheck)
"""Checks whose evidence grows: what they cannot say yet they may say at the end of the step."""


class Asks(Protocol):
    """Asks somebody's service."""

    def ask(self, url: str, event: dict[str, Any]) -> dict[str, Any]:
        """Send an event, and return what was answered.

        Raises:
            CrossfadeError: It could not be asked, or has not answered.
        """


class Measurer:
    """Makes checks.

    Args:
        database: Where roll-ups are.
        health: What processes report.
        experiments: Whose decisions may count.
        prometheus: Where queries go; None when none is configured.
        webhooks: Who is asked; None when nobody may be.
        questions: How they and Prometheus are asked.
    """

    def __init__(
        self,
        database: Database,
        health: HealthLog,
        experiments: ExperimentStore,
        prometheus: PrometheusClient | None = None,
        webhooks: Asks | None = None,
        questions: Questions | None = None,
    ) -> None:
        self._database = database
        self._health = health
        self._experiments = experiments
        self._prometheus = prometheus
        self._webhooks = webhooks
        self._questions = questions or Questions()

    def look(self, rollout: Rollout, seen: Situation) -> tuple[RolloutEvidence, RolloutState]:
        """Return what is known now: new reports counted, and the checks made that are due."""
        evidence, requests = self._counted(rollout)
        state = rollout.state
        if requests:
            state = msgspec.structs.replace(state, requests=state.requests + requests, asked_at=seen.now)
        followed = bool(seen.processes) and not seen.behind
        if state.step >= 0 and followed and (state.live_at is None or state.live_at > seen.now):  # a clock was ahead
            state = msgspec.structs.replace(state, live_at=seen.now)
        if state.step < 0:
            return evidence, state
        known = msgspec.structs.replace(rollout, evidence=evidence, state=state)
        return evidence, msgspec.structs.replace(state, checks=self._made(known, seen.now))

    def _counted(self, rollout: Rollout) -> tuple[RolloutEvidence, int]:
        """Return the evidence as it is now, and how many requests, or units, the new version got since."""
        if rollout.kind != "model":
            units, before = units_of(self._database, rollout.name)
            known = rollout.evidence.counts.get(UNITS, (0, 0, 0, 0))[1]
            counts = rollout.evidence.counts | {UNITS: (0, units, 0, before)}
            return msgspec.structs.replace(rollout.evidence, counts=counts), units - known
        rollout = error_rate.with_past(rollout, self._health)
        first_us = int(rollout.created_at.timestamp() * 1e6)
        reports = self._health.since(rollout.evidence.cursors, first_us, model=rollout.subject)
        return error_rate.gather(rollout, reports) if reports else (rollout.evidence, 0)

    def _made(self, rollout: Rollout, now: datetime) -> dict[str, CheckState]:
        checks = dict(rollout.state.checks)
        live, early = rollout.state.live_at is not None, bool(too_early_to_say(rollout, now))
        for check, due, measurement in self._measured(rollout, now):
            before = rollout.check_state(check)
            if early and measurement.result is CheckResult.INCONCLUSIVE and isinstance(check, _CUMULATIVE):
                checks[check.name] = before.noted(measurement, now)
                continue
            # a process that does not follow keeps a step from passing, but nobody from going back
            if (measurement != before.last or due) if live else measurement.result is CheckResult.FAIL:
                checks[check.name] = before.with_(measurement, now)
        return checks

    def _measured(self, rollout: Rollout, now: datetime) -> Iterator[tuple[CheckSpec, bool, Measurement]]:
        """Yield the checks that are made now, whether each was due, and what came out."""
        state, asked = rollout.state, dict[Hashable, CheckSpec]()
        for check in rollout.plan.checks_of(state.step):
            measured_at = rollout.check_state(check).measured_at
            due = _is_due(measured_at, now, check.interval_seconds)
            # evidence that is there already costs nothing to look at, and every look is as good as one
            if not isinstance(check, ErrorRateCheck) and not (due and state.live_at):
                continue
            if _is_remote(check):
                asked[rollout.name, state.step, state.live_at, check.name, measured_at] = check
            else:
                yield check, due, self.measure(check, rollout, now)
        questions = {key: partial(self.measure, check, rollout, now) for key, check in asked.items()}
        for key, measurement in self._questions.answers(questions).items():
            yield asked[key], True, measurement

    def measure(self, check: CheckSpec, rollout: Rollout, now: datetime) -> Measurement:
        """Make one check. What others say of it can be stored: it is the reason why a version goes back."""
        try:
            found = self._measure(check, rollout, now)
        except CrossfadeError as error:
            found = Measurement(CheckResult.ERROR, error.message)
        except Exception as error:  # noqa: BLE001 - a bug in one check must not stop the control of all rollouts
            _log.exception("check `%s` of `%s`", check.name, rollout.name)
            found = Measurement(CheckResult.ERROR, f"it could not be made: {error!r}")
        return msgspec.structs.replace(found, reason=in_one_line(found.reason))

    def _measure(self, check: CheckSpec, rollout: Rollout, now: datetime) -> Measurement:
        if isinstance(check, ErrorRateCheck):
            return error_rate.measure(check, rollout)
        if isinstance(check, MetricCheck):
            return metric.measure(check, rollout, self._database, now)
        if isinstance(check, ThresholdCheck):
            return threshold.measure(check, rollout, self._health, self._prometheus)
        if isinstance(check, ExperimentCheck):
            return self._decided(check, rollout)
        return self._asked(check, rollout)

    def _decided(self, check: ExperimentCheck, rollout: Rollout) -> Measurement:
        try:
            found = self._experiments.find(check.experiment)
        except ExperimentNotFoundError as error:
            return Measurement(CheckResult.ERROR, error.message)
        if found.status is Status.STOPPED:  # a person may decide it still, and let the rollout go on
            words = f"experiment `{check.experiment}` was stopped without a decision"
            return Measurement(CheckResult.INCONCLUSIVE, words)
        if found.verdict is None:
            return Measurement(CheckResult.PENDING, f"experiment `{check.experiment}` has not decided")
        shipped = found.versions.get(found.verdict.variant)
        if found.verdict.action == "ship" and shipped == rollout.candidate:
            return Measurement(CheckResult.PASS, f"experiment `{check.experiment}` shipped it: {found.verdict.reason}")
        return Measurement(CheckResult.FAIL, f"experiment `{check.experiment}` did not ship it: {found.verdict.reason}")

    def _asked(self, check: WebhookCheck, rollout: Rollout) -> Measurement:
        if self._webhooks is None:
            return Measurement(CheckResult.ERROR, "webhooks are not configured")
        answer = self._webhooks.ask(check.url, described(rollout, f"check.{check.name}"))
        result, reason = _ANSWERS.get(str(answer.get("result"))), str(answer.get("reason", ""))
        if result is None:
            return Measurement(CheckResult.ERROR, "it answered neither `pass`, `fail` nor `inconclusive`")
        return Measurement(result, reason or f"it answered {result.value}")


def _is_remote(check: CheckSpec) -> bool:
    """Tell whether a check asks another server."""
    return isinstance(check, WebhookCheck) or (isinstance(check, ThresholdCheck) and check.series is None)


def _is_due(measured_at: datetime | None, now: datetime, interval_seconds: float) -> bool:
    """Tell whether a check is to be made: after its interval, or when its last time is ahead: a clock was wrong."""
    if measured_at is None or measured_at > now:
        return True
    return (now - measured_at).total_seconds() >= interval_seconds


def described(rollout: Rollout, event: str) -> dict[str, Any]:
    """Return what others are told about a rollout."""
    return {
        "event": event,
        "rollout": rollout.name,
        "kind": rollout.kind,
        "subject": rollout.subject,
        "stable": rollout.stable,
        "candidate": rollout.candidate,
        "status": rollout.status.value,
        "step": rollout.state.step,
        "weight": rollout.weight,
        "reason": rollout.reason,
    }
