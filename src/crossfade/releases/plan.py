"""`RolloutPlan`: by which steps a version gets traffic, and what has to be true meanwhile."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from crossfade.core.decoding import problem_of
from crossfade.core.identity import check_name
from crossfade.errors import InvalidNameError, InvalidPlanError
from crossfade.releases.checks.spec import CheckSpec, ErrorRateCheck, problems_of_check

Kind = Literal["canary", "blue_green", "rolling", "staged", "shadow_first"]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]

MAX_STEPS = 100
MAX_CHECKS = 50
MAX_SECONDS = 400 * 86_400.0
MAX_UNITS = 10**12


class Step(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One position of a rollout.

    Args:
        weight: The fraction of traffic that the new version gets; of a rolling rollout, the fraction of processes that
            answer with it.
        hold_seconds: How long it stays there at least, once every process follows; anew when nobody served meanwhile.
        minimum_units: How many requests the new version must have got in this step before it goes on.
        shadow: Whether it gets a copy of what the old version answers; needs `weight` 0.
        not_before: When it begins at the earliest: what a schedule is made of.
        approval: Whether a person has to say that it may go on from here.
        checks: Names of the checks that count in this step; all by default.
    """

    weight: float
    hold_seconds: float = 0.0
    minimum_units: int = 0
    shadow: bool = False
    not_before: Moment | None = None
    approval: bool = False
    checks: tuple[str, ...] | None = None


class RolloutPlan(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Steps, checks, and limits.

    Args:
        steps: In order; weights grow, and the last one is 1.
        kind: What it is called: `canary`, `blue_green`, `rolling` (process by process), `staged`, `shadow_first`.
        checks: What has to be true.
        deadline_seconds: Of the whole rollout, or since a person let it go on: then it waits for a person where it is.
            0: there is none.
        no_traffic_seconds: So long without a request for the new version, and it waits for a person.
        hold_down_seconds: After its end, the old version stays loaded for so long.
        fast_rollback_seconds: A version that was champion so lately gets its traffic back in one step.

    Example:
        >>> RolloutPlan((Step(0.1, hold_seconds=60), Step(1.0))).checked().steps[0].weight
        0.1
    """

    steps: tuple[Step, ...]
    kind: Kind = "canary"
    checks: tuple[CheckSpec, ...] = ()
    deadline_seconds: float = 7 * 86_400.0
    no_traffic_seconds: float = 300.0
    hold_down_seconds: float = 600.0
    fast_rollback_seconds: float = 86_400.0

    def checks_of(self, step: int) -> tuple[CheckSpec, ...]:
        """Return the checks that count in a step."""
        named = self.steps[step].checks
        return self.checks if named is None else tuple(check for check in self.checks if check.name in named)

    def checked(self) -> RolloutPlan:
        """Return a copy that shares nothing with the caller, after all checks.

        Raises:
            InvalidPlanError: The first thing that is wrong.
        """
        try:
            plain = msgspec.to_builtins(self, str_keys=True, builtin_types=(datetime,))
            plan = msgspec.convert(plain, RolloutPlan)
        except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
            raise InvalidPlanError(problem=f"it is no plan ({problem_of(error, RolloutPlan)})") from error
        for problem in (
            *_problems_of_steps(plan),
            *_problems_of_checks(plan),
            *_problems_of_times(plan),
            *_problems_of_evidence(plan),
        ):
            raise InvalidPlanError(problem=problem)
        return plan


def _problems_of_steps(plan: RolloutPlan) -> Iterator[str]:
    if not 1 <= len(plan.steps) <= MAX_STEPS:
        yield f"it has {len(plan.steps)} steps, and 1 to {MAX_STEPS} are possible"
        return
    reached = 0.0
    for number, step in enumerate(plan.steps, 1):
        if not 0 <= step.weight <= 1:  # which NaN is not either
            yield f"the weight of step {number} is {step.weight}, and 0 to 1 is possible"
        if step.weight < reached:
            yield f"step {number} gives the new version less than the step before it: that is a rollback"
        reached = step.weight
        if step.shadow and step.weight:
            yield f"step {number} is a shadow, and has a weight: nobody may see its answers"
        if not 0 <= step.minimum_units <= MAX_UNITS:
            yield f"step {number} wants {step.minimum_units} units, and 0 to {MAX_UNITS} are possible"
    if reached != 1:
        yield f"its last step has the weight {reached}, and has to have 1: the new version gets everything, or nothing"


def _problems_of_checks(plan: RolloutPlan) -> Iterator[str]:
    if len(plan.checks) > MAX_CHECKS:
        yield f"it has {len(plan.checks)} checks, and {MAX_CHECKS} are possible"
    names = Counter(check.name for check in plan.checks)
    for name, times in names.items():
        try:
            check_name(name, "check")
        except InvalidNameError as error:
            yield f"{error.message}; {error.hint}"
        if times > 1:
            yield f"the check `{name}` is there {times} times"
    for number, step in enumerate(plan.steps, 1):
        for name in step.checks or ():
            if name not in names:
                yield f"step {number} names the check `{name[:80]}`, which the plan does not have"
    for check in plan.checks:
        for problem in problems_of_check(check):
            yield f"the check `{check.name}` {problem}"


def _problems_of_evidence(plan: RolloutPlan) -> Iterator[str]:
    compared = False
    for number, step in enumerate(plan.steps, 1):
        compared |= step.shadow or 0 < step.weight < 1
        for check in plan.checks_of(number - 1):
            if isinstance(check, ErrorRateCheck) and not compared:
                yield f"step {number} makes the check `{check.name}`, which compares, before both versions are asked"


def _problems_of_times(plan: RolloutPlan) -> Iterator[str]:
    fields = ("deadline_seconds", "no_traffic_seconds", "hold_down_seconds", "fast_rollback_seconds")
    for field in fields:
        value = getattr(plan, field)
        if not 0 <= value <= MAX_SECONDS:
            yield f"`{field}` is {value}, and 0 to {MAX_SECONDS:g} is possible"
    for number, step in enumerate(plan.steps, 1):
        if not 0 <= step.hold_seconds <= MAX_SECONDS or math.isnan(step.hold_seconds):
            yield f"`hold_seconds` of step {number} is {step.hold_seconds}, and 0 to {MAX_SECONDS:g} is possible"
    longest = _longest_hold(plan)
    if 0 < plan.deadline_seconds < longest:
        given = plan.deadline_seconds
        yield f"its steps hold for {longest:,.0f} seconds, and `deadline_seconds` is {given:,.0f}, less than that"


def _longest_hold(plan: RolloutPlan) -> float:
    """Return how long steps hold at least until the end or an approval, from which the deadline counts anew."""
    longest = held = 0.0
    for step in plan.steps:
        held += step.hold_seconds
        longest = max(longest, held)
        held = 0.0 if step.approval else held
    return longest


_ERRORS = ErrorRateCheck("errors")

PRESETS: dict[str, RolloutPlan] = {
    "careful": RolloutPlan(
        (
            Step(0.01, hold_seconds=300, minimum_units=200),
            Step(0.05, hold_seconds=600, minimum_units=1_000),
            Step(0.25, hold_seconds=900, minimum_units=2_000),
            Step(0.5, hold_seconds=900, minimum_units=2_000),
            Step(1.0),
        ),
        checks=(_ERRORS,),
    ),
    "fast": RolloutPlan(
        (Step(0.1, hold_seconds=30, minimum_units=100), Step(0.5, hold_seconds=30, minimum_units=100), Step(1.0)),
        checks=(_ERRORS,),
    ),
    "shadow-first": RolloutPlan(
        (
            Step(0.0, shadow=True, hold_seconds=300, minimum_units=500),
            Step(0.05, hold_seconds=300, minimum_units=500),
            Step(0.5, hold_seconds=600, minimum_units=1_000),
            Step(1.0),
        ),
        kind="shadow_first",
        checks=(_ERRORS,),
    ),
    "blue-green": RolloutPlan(
        (Step(0.0, shadow=True, hold_seconds=60, minimum_units=100, approval=True), Step(1.0)),
        kind="blue_green",
        checks=(_ERRORS,),
    ),
    "immediate": RolloutPlan((Step(1.0),)),
    "rolling": RolloutPlan(
        (*(Step(part / 4, hold_seconds=30, minimum_units=50) for part in (1, 2, 3)), Step(1.0)),
        kind="rolling",
        checks=(_ERRORS,),
    ),
}
"""Plans that need not be written: `careful` takes three quarters of an hour, `fast` a minute, `immediate` no time."""


def preset(name: str) -> RolloutPlan:
    """Return a plan by its name.

    Raises:
        InvalidPlanError: There is none of this name.
    """
    if name not in PRESETS:
        raise InvalidPlanError(problem=f"there is no plan `{name[:80]}`; there are {', '.join(PRESETS)}")
    return PRESETS[name]
