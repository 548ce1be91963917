"""`decide`: what follows from a report, by rules that are data, with the reason in words and what is still missing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from crossfade.experiments.analysis_spec import Action, Condition, Rule
from crossfade.experiments.forecast import Forecast, forecast, forecast_margin, rate, reached
from crossfade.experiments.looking import schedule
from crossfade.experiments.margins import NO_SHARE
from crossfade.experiments.question import Question
from crossfade.experiments.report import Comparison, Decision, Health
from crossfade.experiments.reports import words
from crossfade.ledger.evidence import Arrival
from crossfade.methods.stats.values import NotEstimable

_ORDER: tuple[Action, ...] = ("ship", "review", "continue", "keep", "stop")
"""Of what follows for single treatments: the first that any of them has is what follows for the experiment."""


@dataclass(frozen=True)
class Findings:
    """What decisions are made from.

    Args:
        question: What was asked.
        comparisons: Corrected.
        health: Whether the data can be trusted.
        arrivals: For how fast units come.
        now: The present time.
    """

    question: Question
    comparisons: Sequence[Comparison]
    health: Health
    arrivals: tuple[Arrival, ...]
    now: datetime

    def of(self, treatment: str, role: str = "") -> list[Comparison]:
        """Return the comparisons of one treatment, of one role or of all."""
        return [each for each in self.comparisons if each.treatment.variant == treatment and role in {"", each.role}]


def decide(findings: Findings) -> Decision:
    """Return what follows. A pure function: asked again with the same findings it answers the same.

    Nothing is decided while the data cannot be trusted, nor before the minimum runtime and units; only a guardrail that
    is clearly harmed stops an experiment at any time, whatever is wrong with other metrics.
    """
    blocking = findings.health.blocking
    harm = _harm(findings)
    if blocking and not (harm is not None and all(each.metric not in {"", harm.metric} for each in blocking)):
        return _blocked(findings, harm)
    if harm is not None:
        than = "" if harm.non_inferiority is None else " than its margin accepts"
        reason = f"{words.sentence(harm)}; the guardrail is worse{than} with {words.p_is(harm.harm_p)}"
        reason += ", at whatever time one asks"
        return Decision("stop", harm.treatment.variant, reason)
    if (early := _early(findings) or _cut_short(findings)) is not None:
        return early
    verdicts = {name: _verdict(findings, name) for name in findings.question.treatments}
    if not verdicts:
        return Decision("continue", "", "there is no treatment to compare")
    action = min((verdict[0] for verdict in verdicts.values()), key=_ORDER.index)
    concerned = [name for name, verdict in verdicts.items() if verdict[0] == action]
    if action == "stop" and len(concerned) < len(verdicts):
        action = "keep"
    chosen = _best(findings, concerned) if action == "ship" else concerned[0]
    about = chosen if len(verdicts) == 1 or action in {"ship", "review"} else ""
    reason = verdicts[chosen][1] if about else "; ".join(verdict[1] for verdict in verdicts.values())
    if action == "ship" and len(concerned) > 1:
        reason += f"; of {words.listed(concerned)}, which all may be shipped, it has the largest effect"
    if action != "continue":
        return Decision(action, about, reason)
    return _continue(findings, about, reason)


def _harm(findings: Findings) -> Comparison | None:
    """Return the guardrail that is most clearly harmed, if one is."""
    harmed = [
        each
        for each in findings.comparisons
        if each.role == "guardrail" and each.harm_p is not None and each.harm_p < findings.question.decision.harm_alpha
    ]
    return min(harmed, key=lambda each: each.harm_p or 0.0) if harmed else None


def _blocked(findings: Findings, harm: Comparison | None) -> Decision:
    blocking = findings.health.blocking
    question = findings.question
    over = question.ended(findings.now) or (question.horizon is not None and findings.now >= question.horizon)
    passing = all(problem.waits for problem in blocking) and harm is None and not over
    reason = "; ".join(problem.words for problem in blocking)
    if harm is not None:
        reason += f". Look now: if the data are right, a guardrail is harmed: {words.sentence(harm)}"
    return Decision(
        "continue" if passing else "review",
        harm.treatment.variant if harm is not None else "",
        reason,
        missing="more data" if passing else "data that can be trusted",
        blocked_by=tuple(dict.fromkeys(problem.code for problem in blocking)),
    )


def _early(findings: Findings) -> Decision | None:
    """Return that it is too early, if it is; of an experiment that has ended, that it was too short."""
    spec, question = findings.question.decision, findings.question
    ended = question.ended(findings.now)
    until = question.ends_at if ended and question.ends_at is not None else findings.now
    ran = math.inf
    if question.started_at is not None:
        ran = max((until - question.started_at).total_seconds() - question.paused_seconds, 0.0)
    expected = dict(findings.health.expected)  # a variant that is a shadow alone gets no units
    units = {name: count for name, count in findings.health.units if expected[name] > 0 or name == question.against}
    fewest = min(units, key=lambda name: units[name])
    if ran < spec.minimum_runtime_seconds:
        least, remaining = words.duration(spec.minimum_runtime_seconds), spec.minimum_runtime_seconds - ran
        least += " without pauses" if question.paused_seconds else ""
        if ended:
            return Decision("review", "", f"it ended after {words.duration(ran)}, and {least} are the least")
        reason = f"it has run for {words.duration(ran)}, and {least} are the least"
        return Decision("continue", "", reason, words.duration(remaining), None, remaining)
    if units[fewest] >= spec.minimum_units:
        return None
    reason = f"`{fewest}` has {units[fewest]:,} units, and {spec.minimum_units:,} are the least"
    if ended:
        return Decision("review", "", reason)
    share = units[fewest] / findings.health.total
    return _waiting(findings, "", reason, math.ceil((spec.minimum_units - units[fewest]) / share) if share else None)


def _cut_short(findings: Findings) -> Decision | None:
    """Return that a person has to look at a single planned look that came too early: who saw the data chose when."""
    question, total = findings.question, findings.health.total
    spec, horizon = question.analysis, question.horizon
    if spec.method != "fixed" or not question.cut_short:
        return None
    if spec.planned_units is not None and total < spec.planned_units:
        planned = f"at {total:,} of {spec.planned_units:,} planned units"
    elif horizon is not None and question.ends_at is not None and question.ends_at < horizon:
        planned = f"{words.duration((horizon - question.ends_at).total_seconds())} before its planned time was over"
    else:
        return None
    reason = f"it was stopped {planned}, and one look at the planned end promises nothing about an earlier one"
    return Decision("review", "", reason)


def _verdict(findings: Findings, treatment: str) -> tuple[Action, str]:
    """Return what follows for one treatment, and why."""
    at_end = _at_end(findings, treatment)
    for rule in findings.question.decision.rules:
        if rule.at_end and not at_end:
            continue
        if all(_holds(condition, findings.of(treatment, condition.metrics)) for condition in rule.conditions):
            return rule.action, _why(findings, treatment, rule, at_end)
    return "continue", _undecided(findings, treatment)


def _holds(condition: Condition, comparisons: Iterable[Comparison]) -> bool:
    found = [_is(each, condition) for each in comparisons]
    return {"all": all(found), "any": any(found), "none": not any(found)}[condition.match]


def _is(comparison: Comparison, condition: Condition) -> bool:
    by_margin = {"acceptable": comparison.acceptable, "harmful": comparison.harmful}
    return by_margin.get(condition.finding, comparison.reading == condition.finding)


def _at_end(findings: Findings, treatment: str) -> str:
    """Return why no more is to be expected of the treatment; empty while more is."""
    question, total = findings.question, findings.health.total
    spec, horizon = question.analysis, question.horizon
    if question.ended(findings.now):
        return "the experiment has ended"
    if spec.planned_units is not None and total >= spec.planned_units and _looked(findings):
        return f"the planned {spec.planned_units:,} units are there"
    if horizon is not None and findings.now >= horizon and _looked(findings):
        return "the planned time is over"
    primaries = findings.of(treatment, "primary") if spec.method == "always_valid" else []
    powers = [reached(each, question, total, _family(findings)) for each in primaries]
    if powers and all(each is not None and each >= spec.power for each in powers):
        effect = words.percent(spec.smallest_effect or 0.0)
        return f"an effect of {effect} would be seen by now with a power of {spec.power:.0%}"
    return ""


def _family(findings: Findings) -> int:
    """Return how many comparisons share alpha: the primary ones of all treatments, unless nothing is corrected."""
    if findings.question.analysis.corrects_by == "none":
        return 1
    return sum(each.role == "primary" and each.p_value is not None for each in findings.comparisons)


def _looked(findings: Findings) -> bool:
    """Whether planned looks have caught up with the units: they wait for a day to end."""
    if findings.question.analysis.method == "always_valid":
        return True
    looks = [each.looks for each in findings.comparisons]
    planned = findings.question.analysis.planned_units
    if planned is None or findings.question.analysis.method == "fixed":
        return all(looks)
    days = {look[-1].day for look in looks if look}
    until = max(days, default="")
    return sum(arrival.units for arrival in findings.arrivals if arrival.day <= until) >= planned


def _why(findings: Findings, treatment: str, rule: Rule, at_end: str) -> str:
    """Return the sentences that made the rule hold."""
    shown: dict[tuple[str, str], str] = {}
    for condition in rule.conditions:
        for each in findings.of(treatment, condition.metrics):
            told = condition.finding == "acceptable" or _is(each, condition)
            if told and condition.match != "none":
                by_margin = condition.finding in {"acceptable", "harmful"}
                shown[each.metric, each.treatment.variant] = words.within(each) if by_margin else words.sentence(each)
    parts = list(shown.values())
    if rule.at_end:
        parts.insert(0, at_end)
        unproven = [each for each in findings.of(treatment, "guardrail") if not each.acceptable]
        parts += [words.within(each) for each in unproven]
        if not rule.conditions:
            parts += [words.sentence(each) for each in findings.of(treatment, "primary")]
    return "; ".join(dict.fromkeys(parts)) or f"the rules say `{rule.action}`"


def _undecided(findings: Findings, treatment: str) -> str:
    primaries = findings.of(treatment, "primary")
    better = [each for each in primaries if each.reading == "better"]
    if better:
        open_guardrails = [each for each in findings.of(treatment, "guardrail") if not each.acceptable]
        return "; ".join([*map(words.sentence, better), *map(words.within, open_guardrails)])
    return "; ".join(map(words.sentence, primaries)) or "there is no primary metric, so nothing can be decided"


def _best(findings: Findings, candidates: Sequence[str]) -> str:
    """Return the treatment that is the best by the first primary metric that one of them is better by.

    The largest estimated effect is what loses least on average, whatever the effects' errors and however they depend on
    each other, as those of shadows do: all of them answered the same requests.
    """
    primaries = [
        each for each in findings.comparisons if each.role == "primary" and each.treatment.variant in candidates
    ]
    decisive = next((each.metric for each in primaries if each.reading == "better"), "")
    found = {each.treatment.variant: each for each in primaries if each.metric == decisive}
    return max(candidates, key=lambda name: _gain(found.get(name)))


def _gain(comparison: Comparison | None) -> tuple[bool, float]:
    """Return whether a treatment is significantly better, and by how much; what is not estimable comes last."""
    if comparison is None or isinstance(comparison.effect, NotEstimable):
        return False, -math.inf
    effect = comparison.effect.effect
    return comparison.reading == "better", effect if comparison.direction == "up" else -effect


def _continue(findings: Findings, about: str, reason: str) -> Decision:
    total = findings.health.total
    if findings.question.analysis.method != "always_valid":
        return _until_a_look(findings, about, reason)
    concerned = (about,) if about else findings.question.treatments
    if hopeless := _hopeless(findings, concerned):
        missing = f"a person who decides, or some `{hopeless.metric}` of the control, which its margin is relative to"
        return Decision("continue", about, reason, missing)
    predicted = list(_predicted(findings, concerned))
    if not predicted or any(each.units is None for each in predicted):
        return Decision("continue", about, reason, "more units than can be said now")
    most = max(predicted, key=lambda each: each.units or 0)
    remaining = (most.units or 0) - total
    if remaining <= 0:
        return Decision("continue", about, reason, f"patience: there are enough units {most.aim}", 0, 0.0)
    return _waiting(findings, about, reason, remaining, most.aim)


def _until_a_look(findings: Findings, about: str, reason: str) -> Decision:
    """Return that it goes on until a planned look, for which days end, or until the planned end."""
    question, now = findings.question, findings.now
    spec, horizon = question.analysis, question.horizon
    due = schedule(question, findings.arrivals, now).due
    if due is not None:
        seconds = (due - now).total_seconds()
        missing = f"the end of the day (UTC), in {words.duration(seconds)}: its units are there, and are looked at then"
        return Decision("continue", about, reason, missing, 0, seconds)
    left = (horizon - now).total_seconds() if horizon is not None and spec.method == "fixed" else 0.0
    units = max((spec.planned_units or 0) - findings.health.total, 0)
    by_units = _waiting(findings, about, reason, units) if units else None
    if left > 0 and (by_units is None or by_units.missing_seconds is None or by_units.missing_seconds > left):
        return Decision("continue", about, reason, words.duration(left), None, left)
    if by_units is not None:
        return by_units
    return Decision("continue", about, reason, "a person who decides: the planned end is there, and no rule holds")


def _hopeless(findings: Findings, treatments: Iterable[str]) -> Comparison | None:
    """Return the guardrail of a better treatment that no number of units shows to be within its margin, if one is."""
    for name in treatments:
        if any(each.reading == "better" for each in findings.of(name, "primary")):
            unproven = [each for each in findings.of(name, "guardrail") if not each.acceptable]
            return next((each for each in unproven if each.non_inferiority == NO_SHARE), None)
    return None


def _predicted(findings: Findings, treatments: Iterable[str]) -> Iterator[Forecast]:
    """Yield how many units it takes for every finding that is still open."""
    total = findings.health.total
    for name in treatments:
        primaries = findings.of(name, "primary")
        unclear = [each for each in primaries if each.reading == "unclear"]
        found = [forecast(each, findings.question, total, _family(findings)) for each in unclear]
        if any(each.reading == "better" for each in primaries):
            unproven = (each for each in findings.of(name, "guardrail") if not each.acceptable)
            found = [forecast_margin(each, findings.question, total) for each in unproven]
        yield from (each for each in found if each is not None)


def _waiting(findings: Findings, about: str, reason: str, units: int | None, aim: str = "") -> Decision:
    """Return that it goes on, with how many units are missing and about how long they take."""
    found = rate(findings.arrivals, findings.question.started_at, findings.now)
    seconds = units / found.per_second if found and found.per_second and units is not None else None
    missing = "more units" if units is None else f"about {words.rounded(units)} more units"
    missing += f" {aim}" if aim else ""
    if found and seconds is not None:
        missing += f"; that takes {'very roughly' if found.rough else 'about'} {words.duration(seconds)}"
        missing += " by the rate since the start" if found.rough else " as they arrive now"
    return Decision("continue", about, reason, missing, units, seconds)
