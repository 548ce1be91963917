"""Bad events of the new version against those of the old one in the same seconds: counting, and the test.

Nothing is compared with the past: whatever changes from hour to hour changes for both versions alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from crossfade.methods.stats.error_rate import ErrorRate, Window, observe_all
from crossfade.releases.checks.phase import CheckResult, Measurement
from crossfade.releases.checks.spec import ErrorRateCheck, Event
from crossfade.releases.rollout import Rollout, RolloutEvidence
from crossfade.traffic.health import (
    LATENCY_BOUNDS,
    SHADOW,
    TIERS,
    Counts,
    Health,
    HealthLog,
    HealthReport,
    added,
)

_SHARE: Mapping[Event, float] = {"errors": 0.7, "slow": 0.1, "unsafe": 0.1, "fallbacks": 0.1}
"""How much of alpha each event gets. A share that is e times smaller costs one to three more bad events before they are
seen, whichever event it is (`make calibrate ARGS="rollouts shares"`), so shares are in proportion to harm: a failed
request counts as seven that were slow, unsafe, or answered by another version."""
ENOUGH = 100
"""Answers of the old version that a p99 can be taken from: from before the rollout, else from its beginning."""
_NO_WINDOW: Window = (0, 0, 0, 0)
_WORDS: Mapping[Event, str] = {
    "errors": "failed or were refused",
    "slow": "were slower than the old version's p99",
    "unsafe": "were answered unsafely",
    "fallbacks": "were answered by another version",
}


def gather(rollout: Rollout, reports: Sequence[HealthReport]) -> tuple[RolloutEvidence, int]:
    """Return the evidence with these reports, and how many requests the new version got in them.

    All reports are one window. As long as only one of the versions was asked, it goes on: when it ends depends on how
    many requests came, never on how they went, so the test stays valid.
    """
    known = rollout.evidence
    canary, baseline = _sides(rollout, reports)
    counts, waiting = dict(known.counts), dict(known.waiting)
    checks = [check for check in rollout.plan.checks if isinstance(check, ErrorRateCheck)]
    whole: dict[Event, Window] = {}
    # before the new version can be asked the old one has nothing beside it, however long that takes
    for event in {event for check in checks for event in check.events} if _is_asked(rollout) else ():
        if event == "slow" and _is_shadow(rollout):
            continue  # copies are answered after the answer, alone and warm: their latency would prove too much
        # by the limit of before: one that is taken from a window says something about it
        fresh = _window(event, canary, baseline, known.slow_above)
        counts[event] = _added(counts.get(event, _NO_WINDOW), fresh)
        window = _added(waiting.pop(event, _NO_WINDOW), fresh)
        if window[1] and window[3]:
            whole[event] = window
        else:
            waiting[event] = window
    proving = [check for check in checks if check.margin is not None]
    cursors = dict(known.cursors)
    for report in reports:
        cursors[report.process] = max(cursors.get(report.process, 0), report.at_us)
    latency, slow_above = _slow_above(known, baseline)
    tests = _observed(known.tests, checks, whole, lambda check: ErrorRate.worse(check.tolerated))
    proofs = _observed(known.proofs, proving, whole, lambda check: ErrorRate.not_worse(check.margin or 0.0))
    return RolloutEvidence(cursors, tests, proofs, counts, waiting, slow_above, latency), canary.requests


def measure(check: ErrorRateCheck, rollout: Rollout) -> Measurement:
    """Return what the evidence says of the new version."""
    tests = rollout.evidence.tests.get(check.name, {})
    shares = alphas(check)
    for event in check.events:
        test = tests.get(event)
        if test is not None and test.p_value <= shares[event]:
            return Measurement(CheckResult.FAIL, _compared(rollout, event), test.p_value, shares[event])
    if not rollout.state.requests:
        return Measurement(CheckResult.NO_TRAFFIC, f"nobody has asked version {rollout.candidate} in this step")
    if not tests and check.events != ("slow",):
        words = f"nothing to compare with: {rollout.stable} was not asked at the same time; {_summary(check, rollout)}"
        return Measurement(CheckResult.NO_TRAFFIC, words)
    if lack := _lack_of_slowness(check, rollout):
        return Measurement(CheckResult.NO_TRAFFIC, lack)
    if check.margin is None:
        least = min((test.p_value for test in tests.values()), default=1.0)
        words = f"nothing speaks against it; {_summary(check, rollout)}"
        return Measurement(CheckResult.PASS, words, least, check.alpha)
    return _proven(check, rollout, check.margin)


def with_past(rollout: Rollout, health: HealthLog) -> Rollout:
    """Return a rollout of which nothing is counted yet with what was slow before it.

    That is taken from the newest answers that are enough; where there never were, its own beginning has to tell.
    """
    asked = any(isinstance(check, ErrorRateCheck) and "slow" in check.events for check in rollout.plan.checks)
    if not asked or rollout.evidence.cursors or rollout.evidence.slow_above is not None:
        return rollout
    for tier in TIERS:
        past = health.window(tier.kept_seconds, model=rollout.subject, version=rollout.stable)
        if past.answered >= ENOUGH:
            evidence = msgspec.structs.replace(rollout.evidence, slow_above=_limit(past))
            return msgspec.structs.replace(rollout, evidence=evidence)
    return rollout


def alphas(check: ErrorRateCheck) -> dict[Event, float]:
    """Return how much of the check's alpha each of its events gets.

    Example:
        >>> alphas(ErrorRateCheck("errors", events=("errors", "slow"), alpha=0.08))
        {'errors': 0.07, 'slow': 0.01}
    """
    total = sum(_SHARE[event] for event in check.events)
    return {event: check.alpha * _SHARE[event] / total for event in check.events}


def _lack_of_slowness(check: ErrorRateCheck, rollout: Rollout) -> str:
    """Say what is missing before it can be told whether the new version is slow; nothing where nothing is."""
    if "slow" not in check.events or _is_shadow(rollout):
        return ""
    evidence = rollout.evidence
    if evidence.slow_above is None:
        there = sum(evidence.latency.values())
        return f"what is slow is not known yet: {there} of {ENOUGH} answers of {rollout.stable} have come"
    looked = evidence.counts.get("slow", _NO_WINDOW)[1] if "slow" in evidence.tests.get(check.name, {}) else 0
    least = max(rollout.plan.steps[rollout.state.step].minimum_units, 1)
    if looked >= least:
        return ""
    return (
        f"how slow it is was seen of {looked} of {least} answers of {rollout.candidate}, with {rollout.stable} beside"
    )


def _proven(check: ErrorRateCheck, rollout: Rollout, margin: float) -> Measurement:
    proofs, shares = rollout.evidence.proofs.get(check.name, {}), alphas(check)
    for event in check.events:
        bad, _, bad_before, _ = rollout.evidence.counts.get(event, _NO_WINDOW)
        if not (bad or bad_before):
            continue  # neither has any: no ratio can be shown, and nothing is wrong
        proof = proofs.get(event)
        if proof is None or proof.p_value > shares[event]:
            words = f"it is not shown yet that fewer than {1 + margin:.3g} times as many {_WORDS[event]}"
            return Measurement(CheckResult.INCONCLUSIVE, f"{words}; {_compared(rollout, event)}")
    words = f"shown to be less than {1 + margin:.3g} times as bad"
    return Measurement(CheckResult.PASS, f"{words}; {_summary(check, rollout)}")


def _sides(rollout: Rollout, reports: Sequence[HealthReport]) -> tuple[Counts, Counts]:
    """Return what the new and the old version did; in a shadow step the new one did it with copies."""
    candidate = rollout.candidate + SHADOW if _is_shadow(rollout) else rollout.candidate
    return added(reports, candidate), added(reports, rollout.stable)


def _is_asked(rollout: Rollout) -> bool:
    """Tell whether the new version gets requests, or copies of them, in this step."""
    if rollout.state.step < 0:
        return False
    step = rollout.plan.steps[rollout.state.step]
    return step.shadow or step.weight > 0


def _is_shadow(rollout: Rollout) -> bool:
    """Tell whether the new version gets nothing but copies in this step."""
    return rollout.state.step >= 0 and rollout.plan.steps[rollout.state.step].shadow


def _slow_above(known: RolloutEvidence, baseline: Counts) -> tuple[dict[int, int], float | None]:
    """Return the old version's answers by their latency until there are enough, and then what is slow, for good."""
    if known.slow_above is not None:
        return {}, known.slow_above
    health = Health(latency=dict(known.latency))
    health.add_up(baseline)
    if health.answered < ENOUGH:
        return health.latency, None
    return {}, _limit(health)


def _limit(health: Health) -> float:
    """Return the p99, or the last bound that is counted: what takes even longer is slow for both versions."""
    return float(min(health.p99_seconds or 0.0, LATENCY_BOUNDS[-1]))


def _window(event: Event, canary: Counts, baseline: Counts, slow_above: float | None) -> Window:
    """Return (bad, of how many) of the new version, then of the old one; nothing where it cannot be told."""
    if event == "errors":
        failed, failed_before = canary.errors + canary.refused, baseline.errors + baseline.refused
        return _shares(failed, canary.requests, failed_before, baseline.requests)
    if event == "fallbacks":
        return _shares(canary.fallbacks, canary.requests, baseline.fallbacks, baseline.requests)
    answered, answered_before = sum(canary.latency.values()), sum(baseline.latency.values())
    if event == "unsafe":  # where nothing else can be given, an unsafe answer is refused
        looked_at, looked_at_before = answered + canary.refused, answered_before + baseline.refused
        return _shares(canary.unsafe, looked_at, baseline.unsafe, looked_at_before)
    if slow_above is None:
        return _NO_WINDOW
    return canary.slower_than(slow_above), answered, baseline.slower_than(slow_above), answered_before


def _shares(bad: int, of: int, bad_before: int, of_before: int) -> Window:
    """Return counts that fit together: a report may begin between a request and what is counted of it after that."""
    return min(bad, of), of, min(bad_before, of_before), of_before


def _observed(
    states: Mapping[str, Mapping[str, ErrorRate]],
    checks: Sequence[ErrorRateCheck],
    windows: Mapping[Event, Window],
    fresh: Callable[[ErrorRateCheck], ErrorRate],
) -> dict[str, dict[str, ErrorRate]]:
    """Return the states of tests, check -> event, after these windows."""
    found = {name: dict(known) for name, known in states.items()}
    places = [(check, event) for check in checks for event in check.events if event in windows]
    tests = [found.get(check.name, {}).get(event) or fresh(check) for check, event in places]
    for (check, event), test in zip(places, observe_all(tests, [windows[event] for _, event in places]), strict=True):
        found.setdefault(check.name, {})[event] = test
    return found


def _added(total: Window, window: Window) -> Window:
    return total[0] + window[0], total[1] + window[1], total[2] + window[2], total[3] + window[3]


def _compared(rollout: Rollout, event: Event) -> str:
    bad, of, bad_before, of_before = rollout.evidence.counts.get(event, _NO_WINDOW)
    return (
        f"{bad} of {of} requests of {rollout.candidate} {_WORDS[event]}, "
        f"and {bad_before} of {of_before} of {rollout.stable} meanwhile"
    )


def _summary(check: ErrorRateCheck, rollout: Rollout) -> str:
    """Say what was counted of the events that are checked, as far as there was anything to count."""
    counts = rollout.evidence.counts
    counted = [event for event in check.events if any(counts.get(event, _NO_WINDOW))]
    return "; ".join(_compared(rollout, event) for event in counted or check.events[:1])
