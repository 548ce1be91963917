"""`MetricSpec`: what is measured of the units of an experiment, and how it is judged; `Measures`: all of it.

The unit of analysis is the unit of assignment: whatever a metric is about, each unit adds one row to its moments.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from crossfade.core.decoding import problem_of
from crossfade.core.identity import check_name
from crossfade.errors import InvalidMeasuresError, InvalidMetricError, InvalidNameError

Kind = Literal["mean", "proportion", "ratio", "count", "quantile"]
Direction = Literal["up", "down"]
Role = Literal["primary", "secondary", "guardrail"]
Loss = Literal["", "log", "squared", "absolute", "zero_one"]

LATENCY, ERROR, FALLBACK, SCORE, EXPOSURES = "latency_seconds", "error", "fallback", "score", "exposures"
BUILT_IN = frozenset({LATENCY, ERROR, FALLBACK, SCORE, EXPOSURES})
"""Measured by serving with every exposure; everything else is the name of an outcome. `exposures` is always 1."""
SHADOW_SCORE = "shadow_score"
"""As a covariate: what the control would have answered to the unit's first request."""
RESERVED = BUILT_IN | {SHADOW_SCORE}
"""Names that no outcome can have: they already mean something."""
OF_ANSWERS = frozenset({LATENCY, ERROR, SCORE})
"""Built-in values that depend on who answers, so that a shadow has its own."""
MAX_METRICS = 100
MAX_DIMENSIONS = 10
MAX_SHADOWS = 16
MAX_TEXT = 256
"""Characters of the name of a dimension."""
LARGEST = 1e30
"""Larger values are taken for mistakes: nothing that is measured needs them, and their squares could not be summed."""


class MetricSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One metric of an experiment.

    Kinds, per unit: `mean` the sum of its values, `count` how many values, `proportion` whether any value is above
    zero, `ratio` the sum of its values over the sum of the denominator's (summed over units before dividing),
    `quantile` of all single values, units being clusters; of the answers of shadows single values are not kept.

    Args:
        name: A slug.
        kind: See above.
        outcome: Name of the outcome, or one of `BUILT_IN`.
        denominator: Of a ratio: name of an outcome, one of `BUILT_IN`, or empty: how many values there are.
        loss: Turn each outcome into a loss of the answer's score before anything else: `log` for probabilities of an
            outcome that is 0 or 1. Needs outcomes that belong to decisions with a score.
        direction: Which way is better.
        role: `primary` decides, `guardrail` must not become worse, `secondary` is looked at.
        margin: Of a guardrail: how much worse, relative to the control, is still acceptable.
        margin_absolute: Instead, in the metric's unit: of what is so rare that the control may have none, since no
            share of nothing is a margin.
        level: Of a quantile, between 0 and 1.
        lower: Values below are pulled up to it (winsorising): what a unit has in all (of a ratio: its numerator), or
            each single value of a quantile.
        upper: Values above are pulled down to it.
        covariate: Reduces variance (CUPED): the name of an outcome, its sum before the unit's first exposure; or
            `shadow_score`.
        covariate_seconds: How far back the covariate looks.
        window_seconds: Outcomes count from a unit's first exposure until this much later; None for ever.
        missing: What a unit without any value is: `zero`, or `skip` for none of the metric's units.
    """

    name: str
    kind: Kind = "mean"
    outcome: str = ""
    denominator: str = ""
    loss: Loss = ""
    direction: Direction = "up"
    role: Role = "primary"
    margin: float | None = None
    margin_absolute: float | None = None
    level: float | None = None
    lower: float | None = None
    upper: float | None = None
    covariate: str = ""
    covariate_seconds: float = 30 * 86_400.0
    window_seconds: float | None = None
    missing: Literal["zero", "skip"] = "zero"

    @property
    def source(self) -> str:
        """What its values are: the outcome it names, by default one of the metric's own name."""
        return self.outcome or self.name

    @property
    def depends_on_answers(self) -> bool:
        """Whether another variant's answer to the same request would have given another value."""
        return bool(self.loss) or not OF_ANSWERS.isdisjoint({self.source, self.denominator})

    @property
    def depends_on_latency(self) -> bool:
        """Whether it is about how long answers take, which the copy that a shadow gets does not show."""
        return LATENCY in {self.source, self.denominator}

    def checked(self) -> MetricSpec:
        """Return a copy that shares nothing with the caller, after all checks.

        Raises:
            InvalidMetricError: The first thing that is wrong.

        Example:
            >>> MetricSpec("late", kind="proportion", direction="down").checked().source
            'late'
        """
        try:
            spec = msgspec.convert(msgspec.to_builtins(self), MetricSpec)
        except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
            raise InvalidMetricError(
                name=_cut(self.name), problem=f"it is no specification ({problem_of(error, MetricSpec)})"
            ) from error
        of_numbers = (*_problems_of_numbers(spec), *_problems_of_margins(spec))
        for problem in (*_problems_of_names(spec), *_problems_of_kind(spec), *of_numbers):
            raise InvalidMetricError(name=_cut(spec.name), problem=problem)
        return spec


class Measures(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is measured of one experiment: what the ledger has to know to roll its events up.

    Args:
        experiment: Its name, a slug.
        control: The variant that others are compared with.
        metrics: At most `MAX_METRICS`.
        dimensions: Declared attributes of the context, for breakdowns; at most `MAX_DIMENSIONS`.
        shadows: Variants that are mirrored. Those beside the control are compared with it on the same requests. The
            control alone: it answers in the shadow of the treatments, for the covariate `shadow_score`.
        reward: Name of the outcome of decisions that a bandit learns from, measured by a metric or not.

    Example:
        >>> Measures("flights", "champion", (MetricSpec("late"),), dimensions=("carrier",)).checked().shadows
        ()
    """

    experiment: str
    control: str
    metrics: tuple[MetricSpec, ...]
    dimensions: tuple[str, ...] = ()
    shadows: tuple[str, ...] = ()
    reward: str = ""

    @property
    def paired(self) -> tuple[str, ...]:
        """Shadows that are compared with the control on the same requests."""
        return tuple(name for name in self.shadows if name != self.control)

    @property
    def scored(self) -> bool:
        """Whether the score of answers is needed: then classifiers are asked for probabilities, too."""
        return any(metric.loss or SCORE in {metric.source, metric.denominator} for metric in self.metrics) or any(
            metric.covariate == SHADOW_SCORE for metric in self.metrics
        )

    def checked(self) -> Measures:
        """Return a copy that shares nothing with the caller, after all checks.

        Raises:
            InvalidMetricError: The first thing that is wrong with a metric.
            InvalidMeasuresError: The first thing that is wrong otherwise.
        """
        try:
            copy = msgspec.convert(msgspec.to_builtins(self), Measures)
        except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
            problem = f"it is no specification ({problem_of(error, Measures)})"
            raise InvalidMeasuresError(experiment=_cut(self.experiment), problem=problem) from error
        checked = msgspec.structs.replace(copy, metrics=tuple(metric.checked() for metric in copy.metrics))
        for problem in _problems_of_measures(checked):
            raise InvalidMeasuresError(experiment=_cut(self.experiment), problem=problem)
        return checked


def _problems_of_names(spec: MetricSpec) -> Iterator[str]:
    yield from _problems_of_name(spec.name, "metric")
    if spec.name == SHADOW_SCORE:
        yield f"`{SHADOW_SCORE}` is the name of a covariate"
    for field in ("outcome", "denominator", "covariate"):
        name = getattr(spec, field)
        if name and name not in RESERVED:
            yield from _problems_of_name(name, field)
    for field in ("outcome", "denominator"):
        if getattr(spec, field) == SHADOW_SCORE:
            yield f"`{SHADOW_SCORE}` is a covariate, and no `{field}`"
    if spec.covariate in BUILT_IN:
        yield f"nothing is known of `{spec.covariate}` before the first exposure; use an outcome or `{SHADOW_SCORE}`"


def _problems_of_kind(spec: MetricSpec) -> Iterator[str]:
    if spec.kind != "ratio" and spec.denominator:
        yield f"a {spec.kind} has no denominator"
    if spec.kind == "ratio" and spec.denominator == spec.source and not spec.loss:
        yield "numerator and denominator are the same, so the ratio is always 1"
    if (spec.kind == "quantile") != (spec.level is not None):
        yield f"a {spec.kind} has {'a' if spec.kind == 'quantile' else 'no'} level"
    if spec.kind == "quantile" and spec.covariate:
        yield "a quantile has no covariate"
    if spec.loss and spec.source in BUILT_IN:
        yield f"a loss is of an outcome, and `{spec.source}` is measured with the answer"
    if spec.loss and (spec.kind == "count" or (spec.kind == "proportion" and spec.loss != "zero_one")):
        yield f"a {spec.kind} of the loss `{spec.loss}` says nothing about it; use `mean` or `ratio`"
    if spec.kind == "proportion" and (spec.lower is not None or spec.upper is not None):
        yield "a proportion has no caps: it is whether any value is above zero"


def _problems_of_numbers(spec: MetricSpec) -> Iterator[str]:
    if spec.level is not None and not 0 < spec.level < 1:  # which NaN is not either
        yield f"the level {spec.level} is not between 0 and 1"
    for field in ("lower", "upper"):
        value = getattr(spec, field)
        if value is not None and not abs(value) <= LARGEST:
            yield f"`{field}` is {value}, which is no cap"
    if spec.lower is not None and spec.upper is not None and not spec.lower <= spec.upper:
        yield f"`lower` is {spec.lower}, above `upper`, which is {spec.upper}"
    for field in ("covariate_seconds", "window_seconds"):
        value = getattr(spec, field)
        if value is not None and not 0 < value < math.inf:
            yield f"`{field}` is {value}, which is not above zero"


def _problems_of_margins(spec: MetricSpec) -> Iterator[str]:
    margins = [margin for margin in (spec.margin, spec.margin_absolute) if margin is not None]
    if margins and spec.role != "guardrail":
        yield f"a margin is of a guardrail, and this metric is {spec.role}"
    if len(margins) > 1:
        yield "it has a `margin` and a `margin_absolute`: which of them holds would be chosen after looking"
    for margin in margins:
        if not 0 <= margin < math.inf:
            yield f"the margin is {margin}, which is not zero or more"
    if spec.direction == "up" and spec.margin is not None and spec.margin >= 1:
        yield f"the margin is {spec.margin}, and of what should be much less than 1 is possible: 1 would accept none"


def _problems_of_measures(measures: Measures) -> Iterator[str]:
    yield from _problems_of_name(measures.experiment, "experiment")
    for name in (measures.control, *measures.shadows):
        yield from _problems_of_name(name, "variant")
    names = [metric.name for metric in measures.metrics]
    groups = (
        ("metric", names, MAX_METRICS),
        ("dimension", measures.dimensions, MAX_DIMENSIONS),
        ("shadow", measures.shadows, MAX_SHADOWS),
    )
    for what, given, most in groups:
        if len(given) > most:
            yield f"{len(given)} {what}s are more than {most}"
        for name, times in Counter(given).items():
            if times > 1:
                yield f"the {what} `{_cut(name)}` is there {times} times"
    if not all(0 < len(name) <= MAX_TEXT and is_text(name) for name in measures.dimensions):
        yield f"a dimension has a name of 1 to {MAX_TEXT} characters"
    if measures.control in measures.shadows and len(measures.shadows) > 1:
        yield "the control is mirrored either alone, as a covariate, or not, where shadows are compared with it"
    if not measures.shadows and any(metric.covariate == SHADOW_SCORE for metric in measures.metrics):
        yield f"the covariate `{SHADOW_SCORE}` needs what the control would have answered, and nothing is mirrored"


def _problems_of_name(name: str, kind: str) -> Iterator[str]:
    try:
        check_name(name, kind)
    except InvalidNameError as error:
        yield f"{error.message}; {error.hint}"


def is_text(text: str) -> bool:
    """Tell whether both databases can keep a text: it has no NUL and no halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _cut(text: Any) -> str:
    return str(text)[:80]
