"""Whether a new deployment has come up: a pure function of what serving processes say of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from crossfade.releases.deployment import Deployment, ProcessReplicas


class Verdict(StrEnum):
    """What there is to do."""

    WAIT = "wait"
    PROVED = "proved"
    FAILED = "failed"


class Judgement(NamedTuple):
    """What there is to do, and why, in words."""

    verdict: Verdict
    reason: str = ""


_WAIT = Judgement(Verdict.WAIT)


def judge(
    deployment: Deployment, processes: Sequence[ProcessReplicas], now: datetime, patience: timedelta
) -> Judgement:
    """Decide whether a deployment has come up everywhere, or cannot.

    It has, when every process that runs it has as many replicas ready as it wants, and the probation is over. It has
    not, when a process has given up, when replicas end as often as probes may fail, or when it takes too long.

    Args:
        deployment: In whatever status.
        processes: Who is alive, with what they say of it. A process may say something of what ran before, too, and of
            a version that an alias is about to move to; one that follows late says something of what ran before alone.
        now: What time it is.
        patience: How long it may take to become ready.
    """
    awaited = deployment.generation, deployment.version
    current = [each for each in processes if (each.report.generation, each.report.version) == awaited]
    if not current:
        return _WAIT
    threshold = deployment.spec.probe.failure_threshold
    for process in current:
        where, report = f"{process.host}/{process.pid}", process.report
        if report.failed:
            return Judgement(Verdict.FAILED, f"{where}: {report.problem}")
        if report.restarts >= threshold:
            problem = f"its replicas ended {report.restarts} times while it was new, lastly: {report.problem}"
            return Judgement(Verdict.FAILED, f"{where}: {problem}")
    age = now - deployment.changed_at
    ready = {each.process for each in current if each.report.complete}
    unready = [each for each in processes if each.process not in ready]
    if not unready and age >= timedelta(seconds=deployment.spec.probation_seconds):
        return Judgement(Verdict.PROVED)
    if unready and age >= patience:
        where = ", ".join(dict.fromkeys(f"{process.host}/{process.pid}" for process in unready))
        problem = next((each.report.problem for each in unready if each.report.problem), "nobody says why")
        seconds = patience.total_seconds()
        return Judgement(Verdict.FAILED, f"{where} did not have it ready within {seconds:g} seconds: {problem}")
    return _WAIT
