"""What people ask of an analysis: `AnalysisSpec`, how numbers are judged, and `DecisionSpec`, what follows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from crossfade.core.decoding import problem_of
from crossfade.errors import InvalidAnalysisError
from crossfade.methods.stats.bayesian import Prior
from crossfade.methods.stats.confidence_sequence import SMALLEST, TUNING
from crossfade.methods.stats.group_sequential import Spending
from crossfade.methods.stats.planning import Mode
from crossfade.methods.stats.values import Scale

Correction = Literal["", "holm", "bh", "e_bh", "none"]
"""How many comparisons at once are paid for; empty is what suits the method."""
Action = Literal["ship", "keep", "review", "stop", "continue"]
"""Give everybody a variant; keep the control; let a person look; end it, because it harms; go on measuring."""
Finding = Literal["better", "worse", "harmful", "acceptable", "unknown"]
"""Significantly better, significantly worse, worse by more than the margin (of guardrails; without a margin: worse),
shown to be within it, or not estimable."""
MOST_LOOKS = 20
MOST_RULES = 50
LEAST_ALPHA = 1e-12
"""Nobody needs to be surer, and quantiles of less are not numbers any more."""
MOST_PRIOR, LEAST_DEVIATION = 1e6, 1e-6
"""Of relative effects: beyond, a prior is a mistake and not a belief."""


class AnalysisSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How the numbers of an experiment are judged. Fixed before they are seen: changing it later voids its promises.

    Args:
        method: `always_valid`: look whenever you like, the default; `group_sequential`: at a few planned looks, which
            sees effects earlier when the end is known; `fixed`: once, at the planned end.
        alpha: Probability of seeing what is not there, over all looks.
        power: Probability of seeing what is there, for planning.
        correction: Of many comparisons of the same role: `holm` keeps the probability of any false one, `bh` and `e_bh`
            the share of false ones among those seen. Default: `e_bh` for `always_valid`, which holds under peeking and
            any dependence, else `holm`.
        scales: Metric -> on which scale it is judged; `absolute` by default, which there always is. Relative effects
            are reported anyway.
        smallest_effect: The smallest effect worth seeing, relative to the control: 0.02 for 2 %. Needed to say "there
            is nothing to be seen" before the planned end.
        planned_units: Units of all variants at the planned end.
        planned_seconds: How long until the planned end, from the start.
        looks: How many are planned (`group_sequential`), equally spaced in units.
        spending: How alpha is spent over them.
        smallest_units: Units that each variant must have before `always_valid` speaks: its intervals are asymptotic.
        prior_mean: What relative effect is expected (Bayesian reading); 0 favours nobody.
        prior_deviation: How large relative effects usually are: 0.3 hardly pulls, 0.05 is sceptical.

    Example:
        >>> AnalysisSpec(method="group_sequential", planned_units=20_000).checked().corrects_by
        'holm'
    """

    method: Mode = "always_valid"
    alpha: float = 0.05
    power: float = 0.8
    correction: Correction = ""
    scales: dict[str, Scale] = {}
    smallest_effect: float | None = None
    planned_units: int | None = None
    planned_seconds: float | None = None
    looks: int = 5
    spending: Spending = "obrien_fleming"
    smallest_units: int = SMALLEST
    prior_mean: float = 0.0
    prior_deviation: float = 0.3

    @property
    def corrects_by(self) -> Correction:
        """The correction in use."""
        return self.correction or ("e_bh" if self.method == "always_valid" else "holm")

    @property
    def prior(self) -> Prior:
        """What was believed of relative effects before."""
        return Prior(self.prior_mean, self.prior_deviation)

    @property
    def tuning(self) -> float:
        """Units at which always-valid intervals are tightest."""
        return float(self.planned_units or TUNING)

    def checked(self) -> AnalysisSpec:
        """Return a copy that shares nothing with the caller, after all checks.

        Raises:
            InvalidAnalysisError: The first thing that is wrong.
        """
        spec = _copied(self)
        for problem in _problems_of_analysis(spec):
            raise InvalidAnalysisError(problem=problem)
        return spec


class Condition(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a rule asks of the metrics of one role, for one treatment.

    Args:
        metrics: Of which role.
        match: `all` of them (true when there are none), `any`, or `none`.
        finding: What is found of them.
    """

    metrics: Literal["primary", "secondary", "guardrail"]
    match: Literal["all", "any", "none"]
    finding: Finding


class Rule(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What follows when all conditions hold. Rules are asked in order, of every treatment; the first that holds counts.

    Args:
        action: What follows.
        conditions: All of them must hold; none always do.
        at_end: Only when the planned end is reached, or the power to see the smallest effect.
    """

    action: Action
    conditions: tuple[Condition, ...] = ()
    at_end: bool = False


_BETTER = Condition("primary", "any", "better")
_HARMED = Condition("guardrail", "any", "harmful")
RULES: tuple[Rule, ...] = (
    Rule("review", (_BETTER, Condition("primary", "any", "worse"))),
    Rule("review", (_BETTER, _HARMED)),
    Rule("stop", (Condition("primary", "any", "worse"),)),
    Rule("stop", (_HARMED,)),
    Rule("ship", (_BETTER, Condition("guardrail", "all", "acceptable"))),
    Rule("review", (_BETTER,), at_end=True),
    Rule("review", (Condition("primary", "any", "unknown"),), at_end=True),
    Rule("keep", at_end=True),
)
"""Ship what is better and harms nothing, stop what is worse, let a person look where they contradict each other, and
where the end has come and nothing is known."""


SHIPPING_PLANS = ("careful", "fast", "shadow-first", "blue-green", "immediate", "rolling")
"""The plans of rollouts that have a name (`crossfade.releases.plan.PRESETS`)."""
ShippingPlan = Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["", *SHIPPING_PLANS]})]


class DecisionSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What follows from the numbers, and when.

    Args:
        rules: What follows from what is found, as data; see `RULES`.
        auto: Whether decisions act by themselves.
        plan: How a variant that is shipped gets everything: the name of a plan of rollouts; empty for at
            once, which what decides by itself does by the plan `immediate`.
        minimum_runtime_seconds: Nothing is decided earlier, so that every hour and some weekdays are in it; pauses do
            not count.
        minimum_units: Of the control and of the treatment, each, before anything is decided.
        harm_alpha: A guardrail that is worse at this level, and by more than its margin, stops the experiment at any
            time.
        multiple_share: Share of units seen in several variants above which nothing is decided.
    """

    rules: tuple[Rule, ...] = RULES
    auto: bool = False
    plan: ShippingPlan = ""
    minimum_runtime_seconds: float = 3 * 86_400.0
    minimum_units: int = 100
    harm_alpha: float = 0.001
    multiple_share: float = 0.01

    def checked(self) -> DecisionSpec:
        """Return a copy that shares nothing with the caller, after all checks.

        Raises:
            InvalidAnalysisError: The first thing that is wrong.
        """
        spec = _copied(self)
        for problem in _problems_of_decision(spec):
            raise InvalidAnalysisError(problem=problem)
        return spec


S = TypeVar("S", AnalysisSpec, DecisionSpec)


def _copied(spec: S) -> S:
    """Return a specification as a decoder would have made it, so that it means the same before and after storage."""
    try:
        return msgspec.convert(msgspec.to_builtins(spec, str_keys=True), type(spec))
    except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
        raise InvalidAnalysisError(problem=f"it is no specification ({problem_of(error, type(spec))})") from error


def _problems_of_analysis(spec: AnalysisSpec) -> Iterator[str]:
    for name in ("alpha", "power"):
        if not 0 < getattr(spec, name) < 1:  # which NaN is not either
            yield f"`{name}` is {getattr(spec, name)}, which is not between 0 and 1"
    if not spec.alpha >= LEAST_ALPHA:
        yield f"`alpha` is {spec.alpha}, and {LEAST_ALPHA:g} is the least"
    if not spec.alpha < spec.power:
        yield f"a power of {spec.power} is not above alpha"
    if spec.correction == "e_bh" and spec.method != "always_valid":
        yield "`e_bh` needs the evidence of `always_valid`; use `holm` or `bh`"
    if spec.method == "group_sequential" and spec.planned_units is None:
        yield "`group_sequential` needs `planned_units`: looks are planned as shares of them"
    if spec.method == "fixed" and spec.planned_units is None and spec.planned_seconds is None:
        yield "`fixed` needs a planned end: `planned_units` or `planned_seconds`"
    yield from _problems_of_sizes(spec)
    if not abs(spec.prior_mean) <= MOST_PRIOR:
        yield f"`prior_mean` is {spec.prior_mean}, and {-MOST_PRIOR:g} to {MOST_PRIOR:g} are possible"
    if not LEAST_DEVIATION <= spec.prior_deviation <= MOST_PRIOR:
        yield f"`prior_deviation` is {spec.prior_deviation}, and {LEAST_DEVIATION:g} to {MOST_PRIOR:g} are possible"


def _problems_of_sizes(spec: AnalysisSpec) -> Iterator[str]:
    if not 1 <= spec.looks <= MOST_LOOKS:
        yield f"{spec.looks} looks are not 1 to {MOST_LOOKS}"
    if not 2 <= spec.smallest_units < 2**53:
        yield f"`smallest_units` is {spec.smallest_units}, and two units are the least that vary"
    if spec.planned_units is not None and not 4 <= spec.planned_units < 2**53:
        yield f"{spec.planned_units} planned units are too few, or no number of units"
    for name in ("planned_seconds", "smallest_effect"):
        value: Any = getattr(spec, name)
        if value is not None and not 0 < value < math.inf:
            yield f"`{name}` is {value}, which is not above zero"


def _problems_of_decision(spec: DecisionSpec) -> Iterator[str]:
    if len(spec.rules) > MOST_RULES:
        yield f"{len(spec.rules)} rules are more than {MOST_RULES}"
    for rule in spec.rules:
        if rule.action == "ship" and not any(each.finding == "better" for each in rule.conditions):
            yield "a rule ships although nothing is better"
    if not 0 <= spec.minimum_runtime_seconds < math.inf:
        yield f"`minimum_runtime_seconds` is {spec.minimum_runtime_seconds}, which is not zero or more"
    if not 2 <= spec.minimum_units < 2**53:
        yield f"`minimum_units` is {spec.minimum_units}, and two units are the least that vary"
    if not LEAST_ALPHA <= spec.harm_alpha < 1:
        yield f"`harm_alpha` is {spec.harm_alpha}, and {LEAST_ALPHA:g} to less than 1 is possible"
    if not 0 <= spec.multiple_share <= 1:
        yield f"`multiple_share` is {spec.multiple_share}, and 0 to 1 is possible"
