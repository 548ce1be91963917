"""Rollouts, plans and forecasts as people see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from crossfade.cli.output import Sheet, facts, moment

if TYPE_CHECKING:
    from crossfade.releases.plan import RolloutPlan, Step
    from crossfade.releases.requests import RolloutForecast, StepForecast
    from crossfade.releases.rollout import Rollout, RolloutTransition


def rollout_sheet(rollouts: Iterable[Rollout]) -> Sheet:
    """Rollouts, one per row."""
    rows = [
        (
            item.name,
            item.status.value,
            f"{item.stable} -> {item.candidate}",
            place(item),
            f"{item.weight:.4g}",
            moment(item.created_at),
            item.state.words,
        )
        for item in rollouts
    ]
    headings = ("rollout", "status", "versions", "step", "weight", "created", "why")
    return Sheet(headings, rows, empty="no rollouts yet")


def one_rollout(item: Rollout) -> Sheet:
    """A rollout."""
    pairs = [
        ("rollout", item.name),
        ("status", item.status.value + (f", waits for {item.state.waiting_for}" if item.state.waiting_for else "")),
        ("why", item.state.words),
        ("begun for", item.state.cause),
        ("subject", f"{item.kind} {item.subject}"),
        ("versions", f"{item.stable} -> {item.candidate}"),
        ("plan", _plan(item.plan, fast=item.fast)),
        ("step", place(item)),
        ("weight", f"{item.weight:.4g}"),
        ("requests", f"{item.state.requests:,} to version {item.candidate} in this step"),
        *((f"check {check.name}", _check(item, check.name)) for check in item.plan.checks),
        ("latched", "yes: it comes again only by a person's word" if item.latched else ""),
        ("created", f"{moment(item.created_at)} by {item.created_by}"),
        ("finished", moment(item.finished_at)),
    ]
    return facts(pairs, name=item.name)


def history_sheet(transitions: Iterable[RolloutTransition]) -> Sheet:
    """What happened to a rollout, one per row."""
    rows = [
        (moment(item.at), item.kind, item.target, str(item.step + 1), f"{item.weight:.4g}", item.by, item.reason)
        for item in transitions
    ]
    return Sheet(("at", "what", "status", "step", "weight", "by", "why"), rows, empty="nothing happened yet")


def plan_sheet(plans: Mapping[str, RolloutPlan]) -> Sheet:
    """Plans, one per row."""
    rows = [
        (
            name,
            plan.kind,
            ", ".join(map(_step, plan.steps)),
            ", ".join(check.name for check in plan.checks),
            f"{sum(step.hold_seconds for step in plan.steps) / 60:.3g} min",
        )
        for name, plan in plans.items()
    ]
    return Sheet(("plan", "kind", "steps", "checks", "holds"), rows)


def forecast_sheet(found: RolloutForecast) -> Sheet:
    """What a rollout would do."""
    pairs = [
        ("would", f"roll {found.subject} out from {found.stable} to {found.candidate}"),
        ("plan", _plan(found.plan, fast=found.fast)),
        ("holds", f"{found.seconds:.0f} seconds in all, at least"),
        ("now", f"{found.requests_per_second:.3g} requests/s, of which {_failing(found)}"),
        *((f"step {number}", _foreseen(step)) for number, step in enumerate(found.steps, 1)),
    ]
    return facts(pairs, name=found.subject)


def place(item: Rollout) -> str:
    """Say where a rollout is in its plan."""
    return f"{item.state.step + 1} of {len(item.plan.steps)}"


def share(item: Rollout) -> str:
    """Say what a rollout's new version gets now."""
    shadow = item.active and item.state.step >= 0 and item.plan.steps[item.state.step].shadow
    return _share(item.weight, shadow=shadow)


def _share(weight: float, *, shadow: bool) -> str:
    if shadow:
        return "a copy of every request"
    part = {0.0: "none", 1.0: "all"}.get(weight, f"{weight:.4g}")
    return f"{part} of the traffic"


def _plan(plan: RolloutPlan, *, fast: bool) -> str:
    from crossfade.releases.plan import PRESETS

    names = [f"{name}: " for name, known in PRESETS.items() if known == plan]
    return "".join(names) + (f"{plan.kind}, at once: a return" if fast else f"{plan.kind}, {len(plan.steps)} steps")


def _check(item: Rollout, name: str) -> str:
    state = item.state.checks.get(name)
    if state is None or state.last is None:
        return "not made in this step yet"
    return f"{state.last.result.value}: {state.last.reason}"


def _step(step: Step) -> str:
    return "shadow" if step.shadow else f"{step.weight:.4g}"


def _failing(found: RolloutForecast) -> str:
    if found.assumed:
        return f"none is known to have failed; {found.base_rate:.3g} is assumed of what follows"
    return f"{found.base_rate:.3%} fail"


def _foreseen(step: StepForecast) -> str:
    words = f"{_share(step.weight, shadow=False)} for {step.hold_seconds:.0f} s"
    if step.requests_to_see is None:
        return words
    when = "" if step.seconds_to_see is None else f" (about {step.seconds_to_see:.0f} s)"
    return f"{words}; twice the failures are seen after about {step.requests_to_see:,} of its requests{when}"
