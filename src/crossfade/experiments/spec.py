"""`ExperimentSpec`: everything that people say about an experiment, in one document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from crossfade.core.decoding import problem_of
from crossfade.core.identity import Semver, check_name
from crossfade.errors import InvalidExperimentError, InvalidNameError, InvalidPolicyError, InvalidSemverError
from crossfade.experiments.analysis_spec import SHIPPING_PLANS, AnalysisSpec, DecisionSpec
from crossfade.experiments.question import Question
from crossfade.ledger.metrics import FALLBACK, RESERVED, Measures, MetricSpec
from crossfade.methods.bandits.contextual import ContextualSpec
from crossfade.methods.bandits.policy import PolicySpec, start
from crossfade.traffic.allocation.segments import Segment
from crossfade.traffic.allocation.specs import AllocationSpec, Moment, RampStep, VariantSpec

MAX_DESCRIPTION = 10_000
MAX_MATURITY_SECONDS = 400 * 86_400.0
MIN_UPDATE_SECONDS = 1.0


class Variant(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One arm.

    Args:
        name: A slug.
        weight: Its fraction of the units that take part; the weights of an experiment sum to 1.
        version: Which version of the model answers: a semver, or an alias, which becomes a semver at the start.
        value: What clients of feature flags are given, any JSON; its name by default.
    """

    name: str
    weight: float
    version: str = ""
    value: Any = None


class BanditSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Weights that follow what variants earn.

    Args:
        policy: How.
        reward: Name of the outcome that is earned; larger is better. Outcomes name the decision that earned them.
        maturity_seconds: A decision is learned from when it is that old: until then its reward may still come. What
            has come by then counts; a decision without any earned nothing.
        update_seconds: How often it is learned.
        warm_from: Another bandit whose rewards count from the start, for variants of the same name.
        trust: How much one of those rewards counts, 0 to 1.
    """

    policy: PolicySpec
    reward: str
    maturity_seconds: float = 3600.0
    update_seconds: float = 60.0
    warm_from: str = ""
    trust: float = 1.0


class ExperimentSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An experiment as it is written down. Everything but name and variants has a default.

    Args:
        name: A slug.
        variants: In an order that stays; the first is the control, unless `fallback` names another.
        model: Whose traffic it takes; empty for an experiment that only answers as a flag.
        description: What it is about.
        layer: Which it shares units in; without one it is alone, and sticky to `unit_id`.
        share: Fraction of its layer's units that are kept for it.
        coverage: Fraction of its units that takes part; all others get the champion.
        segment: Which requests it is about; all by default.
        start_at: Before, nobody takes part.
        end_at: From then on, nobody takes part any more.
        ramp: Planned changes of the coverage, the earliest first.
        overrides: Unit -> variant, for people who try something out; they do not take part.
        sticky: Whether a unit keeps its variant; if not, every request draws one.
        fallback: The control, when it is not the first variant.
        salt: What draws the units; the name by default.
        shadows: Variants that get a copy of every request that is decided here. Nobody sees their answers. With all
            weight on the control, this compares versions without any risk: by what they say, not by how long it takes.
        metrics: What is measured.
        dimensions: Attributes of the context by which results are broken down.
        analysis: How the numbers are judged.
        decision: What follows from them.
        bandit: Lets the weights follow what variants earn, from those of the variants on, unless it begins warm.

    Example:
        >>> both = (Variant("old", 0.5, "1.0.0"), Variant("new", 0.5, "1.1.0"))
        >>> ExperimentSpec("late_flights", both, model="flight_delay").checked().control
        'old'
    """

    name: str
    variants: tuple[Variant, ...]
    model: str = ""
    description: str = ""
    layer: str = ""
    share: float = 1.0
    coverage: float = 1.0
    segment: Segment | None = None
    start_at: Moment | None = None
    end_at: Moment | None = None
    ramp: tuple[RampStep, ...] = ()
    overrides: dict[str, str] = {}
    sticky: bool = True
    fallback: str = ""
    salt: str = ""
    shadows: tuple[str, ...] = ()
    metrics: tuple[MetricSpec, ...] = ()
    dimensions: tuple[str, ...] = ()
    analysis: AnalysisSpec = AnalysisSpec()
    decision: DecisionSpec = DecisionSpec()
    bandit: BanditSpec | None = None

    @property
    def control(self) -> str:
        """The variant that all others are compared with."""
        return self.fallback or self.variants[0].name

    @property
    def kind(self) -> str:
        """What it does to traffic.

        `bandit`, `shadow` when all of it gets one variant and others are mirrored, else `split`.
        """
        if self.bandit is not None:
            return "bandit"
        taking = [variant for variant in self.variants if variant.weight > 0]
        return "shadow" if self.shadows and len(taking) == 1 else "split"

    @property
    def contextual(self) -> bool:
        """Whether the context of each request decides, so that no variant has a weight."""
        return self.bandit is not None and isinstance(self.bandit.policy, ContextualSpec)

    def allocation(self) -> AllocationSpec:
        """Return who takes part, and who gets which variant."""
        return AllocationSpec(
            self.name,
            tuple(VariantSpec(variant.name, variant.weight, variant.value) for variant in self.variants),
            layer=self.layer,
            share=self.share,
            coverage=self.coverage,
            segment=self.segment,
            start_at=self.start_at,
            end_at=self.end_at,
            ramp=self.ramp,
            overrides=self.overrides,
            sticky=self.sticky,
            fallback=self.control,
            salt=self.salt,
        )

    def measures(self) -> Measures:
        """Return what the ledger has to know."""
        reward = "" if self.bandit is None else self.bandit.reward
        return Measures(self.name, self.control, self.metrics, self.dimensions, self.shadows, reward)

    def begins(self, started_at: datetime) -> datetime:
        """Return when units can take part for the first time: its schedule or its ramp may say later than its start."""
        ramped = next((step.at for step in self.ramp if step.coverage), None) if not self.coverage else None
        return max(each for each in (started_at, self.start_at, ramped) if each is not None)

    def question(
        self, started_at: datetime | None, ends_at: datetime | None = None, paused_seconds: float = 0.0
    ) -> Question:
        """Return what is asked of the evidence.

        Args:
            started_at: When it was started; see `begins`.
            ends_at: When it ended, if it has; else its planned end.
            paused_seconds: How long it was paused.
        """
        mirrored = self.measures().paired
        exposed = tuple(variant.name for variant in self.variants if variant.name not in mirrored)
        return Question(
            self.name,
            exposed,
            self.metrics,
            control=self.control,
            dimensions=self.dimensions,
            shadows=mirrored,
            analysis=self.analysis,
            decision=self.decision,
            started_at=None if started_at is None else self.begins(started_at),
            ends_at=ends_at or self.end_at,
            cut_short=ends_at is not None and (self.end_at is None or ends_at < self.end_at),
            paused_seconds=paused_seconds,
            adaptive=self.bandit is not None,
            sticky=self.sticky,
        )

    def checked(self) -> ExperimentSpec:
        """Return a copy that shares nothing with the caller, after all checks that need nothing else.

        Raises:
            InvalidInputError: The first thing that is wrong: with the experiment, its allocation, a segment, a metric,
                or how it is analysed.
        """
        try:
            plain = msgspec.to_builtins(self, str_keys=True, builtin_types=(datetime,))
            spec = msgspec.convert(plain, ExperimentSpec)
        except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
            raise InvalidExperimentError(
                name=str(self.name)[:80], problem=f"it is no specification ({problem_of(error, ExperimentSpec)})"
            ) from error
        for problem in _problems(spec):
            raise InvalidExperimentError(name=spec.name[:80], problem=problem)
        spec.allocation().checked()
        spec.measures().checked()
        spec.question(None).checked()
        return spec


def _problems(spec: ExperimentSpec) -> Iterator[str]:
    if not spec.variants:
        yield "it has no variants"
    if len(spec.description) > MAX_DESCRIPTION:
        yield f"its description is longer than {MAX_DESCRIPTION} characters"
    if spec.decision.plan not in {"", *SHIPPING_PLANS}:
        yield f"`decision.plan` is `{spec.decision.plan[:80]}`, and the plans are {', '.join(SHIPPING_PLANS)}"
    yield from _problems_of_shadows(spec)
    yield from _problems_of_model(spec)
    if spec.bandit is not None:
        yield from _problems_of_bandit(spec, spec.bandit)


def _problems_of_shadows(spec: ExperimentSpec) -> Iterator[str]:
    names = {variant.name for variant in spec.variants}
    for name, times in Counter(spec.shadows).items():
        if name not in names:
            yield f"the shadow `{name[:80]}` is none of its variants"
        if times > 1:
            yield f"the shadow `{name[:80]}` is there {times} times"
    mirrored = [variant for variant in spec.variants if variant.name in spec.shadows and variant.name != spec.control]
    for variant in mirrored:
        if variant.weight:
            yield f"`{variant.name[:80]}` is a shadow, and has a weight: nobody may see it"
    if mirrored and len(mirrored) == len(spec.variants) - 1:
        for metric in spec.metrics:
            if metric.depends_on_latency:
                yield (
                    f"the metric `{metric.name[:80]}` is about latency, and there are only shadows to compare it on, "
                    "which answer after the answer, alone and warm: leave it out, or compare it in a split, where "
                    "treatments have weights"
                )


def _problems_of_bandit(spec: ExperimentSpec, bandit: BanditSpec) -> Iterator[str]:
    try:
        check_name(bandit.reward, "outcome")
    except InvalidNameError as error:
        yield f"{error.message}; {error.hint}"
    if bandit.reward in RESERVED:
        yield f"its reward is `{bandit.reward}`, which is measured while answering: no outcome can have that name"
    if not 0 <= bandit.maturity_seconds <= MAX_MATURITY_SECONDS:
        yield f"`maturity_seconds` is {bandit.maturity_seconds}, and 0 to {MAX_MATURITY_SECONDS:g} is possible"
    if not MIN_UPDATE_SECONDS <= bandit.update_seconds <= MAX_MATURITY_SECONDS:
        yield f"`update_seconds` is {bandit.update_seconds}, and {MIN_UPDATE_SECONDS:g} is the least"
    if not 0 <= bandit.trust <= 1:
        yield f"`trust` is {bandit.trust}, and 0 to 1 is possible"
    if spec.ramp:
        yield "a bandit has no ramp: its coverage is changed by hand"
    if spec.shadows:
        yield "a bandit has no shadows: every variant gets its part of the traffic"
    if isinstance(bandit.policy, ContextualSpec) and not spec.model:
        yield "a policy that looks at the request needs a `model`; flags are drawn by slots"
    try:
        start(bandit.policy, [variant.name for variant in spec.variants], datetime.fromtimestamp(0, UTC))
    except InvalidPolicyError as error:
        yield error.message


def _problems_of_model(spec: ExperimentSpec) -> Iterator[str]:
    if not spec.model:
        if spec.shadows:
            yield "only an experiment on a model can have shadows"
        if any(variant.version for variant in spec.variants):
            yield "its variants have versions, and it names no `model`"
        for metric in spec.metrics:
            if metric.depends_on_answers or FALLBACK in {metric.source, metric.denominator}:
                yield f"the metric `{metric.name[:80]}` is measured while a model answers, and it names no `model`"
        return
    try:
        check_name(spec.model)
    except InvalidNameError as error:
        yield f"{error.message}; {error.hint}"
    for variant in spec.variants:
        if not variant.version:
            yield f"it is about the model `{spec.model[:80]}`, and the variant `{variant.name[:80]}` names no version"
        elif not _is_version(variant.version):
            yield f"the version of `{variant.name[:80]}` is `{variant.version[:80]}`, neither a semver nor an alias"


def _is_version(text: str) -> bool:
    try:
        Semver.parse(text)
    except InvalidSemverError:
        try:
            check_name(text, "alias")
        except InvalidNameError:
            return False
    return True
