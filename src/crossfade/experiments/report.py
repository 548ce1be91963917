"""`AnalysisReport`: what the evidence says, as frozen values that encode as JSON and show themselves to people."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from crossfade.errors import MissingExtraError
from crossfade.experiments.analysis_spec import Action, Correction
from crossfade.ledger.metrics import Direction, Kind, Role
from crossfade.methods.stats.non_inferiority import NonInferiority
from crossfade.methods.stats.planning import Mode
from crossfade.methods.stats.values import Effect, NotEstimable, Scale

Reading = Literal["better", "worse", "unclear", "unknown"]
"""Significant in the good direction, in the bad one, not significant, or not estimable."""


class Arm(msgspec.Struct, frozen=True):
    """What one variant did, without any adjustment.

    Args:
        variant: Its name.
        units: That the metric has.
        value: The mean, rate, ratio or quantile of all its units; None where there is none. Not comparable between
            variants when weights changed; effects are.
    """

    variant: str
    units: int
    value: float | None


class Look(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was to be seen at the end of a day, of units first exposed until then, with what is known of them now.

    Outcomes of early days that arrive late change earlier looks, too. That is why the present look is computed from
    present totals and not from what was seen before.

    Args:
        day: Last of the look, `2026-11-27` (UTC).
        units: Of both variants.
        effect: On the scale that is judged; None where there is none.
        lower: Lower end of this look's interval.
        upper: Upper end.
        p_value: Of this look.
        running_lower: What all looks until here exclude together.
        running_upper: The same from above.
        running_p: The smallest p-value until here.
        note: Why something is missing.
    """

    day: str
    units: int
    effect: float | None = None
    lower: float | None = None
    upper: float | None = None
    p_value: float | None = None
    running_lower: float | None = None
    running_upper: float | None = None
    running_p: float | None = None
    note: str = ""


class Belief(msgspec.Struct, frozen=True, tag="belief"):
    """The Bayesian reading: what to believe of the effect, given the prior. It makes no promise about peeking.

    Args:
        chance_better: Probability that the treatment is better than the control, in the metric's direction.
        loss_of_treatment: How much is lost on average by choosing the treatment, in the metric's unit.
        loss_of_control: How much is lost on average by staying with the control.
        lower: Lower end of the credible interval of the absolute effect.
        upper: Its upper end.
    """

    chance_better: float
    loss_of_treatment: float
    loss_of_control: float
    lower: float
    upper: float


class Comparison(msgspec.Struct, frozen=True):
    """One metric of one treatment against the control.

    Args:
        metric: Its name.
        kind: Of the metric.
        role: Of the metric.
        direction: Which way is better.
        control: How the control did.
        treatment: How the treatment did.
        paired: Whether both are about the same units (shadows).
        judged: The scale on which significance is judged.
        absolute: Effect in the metric's unit.
        relative: Effect relative to the control; on the logarithmic scale where both are clearly above zero.
        p_value: On the judged scale, by the chosen method.
        e_value: How strongly the data speak against "no effect", for always-valid analyses; above 1 / alpha counts.
        adjusted_p: For all comparisons of this role.
        reading: What follows, by `adjusted_p`.
        variance_reduction: Share of the variance that the covariate took away; None without one.
        belief: The Bayesian reading.
        non_inferiority: Of a guardrail with a margin.
        excess_p: Of a guardrail: p-value of "it is no worse than its margin accepts", by the chosen method.
        harmful: Of a guardrail: significantly worse, and by more than its margin where it has one, corrected for all
            guardrails.
        harm_p: Of a guardrail: always-valid p-value of "it is not harmful".
        left_out: Units of periods in which one of the two variants had hardly any.
        looks: The effect over time, the present one last.
    """

    metric: str
    kind: Kind
    role: Role
    direction: Direction
    control: Arm
    treatment: Arm
    paired: bool
    judged: Scale
    absolute: Effect | NotEstimable
    relative: Effect | NotEstimable
    p_value: float | None
    e_value: float | None
    adjusted_p: float | None
    reading: Reading
    variance_reduction: float | None
    belief: Belief | NotEstimable
    non_inferiority: NonInferiority | NotEstimable | None
    excess_p: float | None
    harmful: bool
    harm_p: float | None
    left_out: int
    looks: tuple[Look, ...]

    @property
    def effect(self) -> Effect | NotEstimable:
        """The effect on the judged scale."""
        return self.absolute if self.judged == "absolute" else self.relative

    @property
    def spotless(self) -> bool:
        """Whether the treatment had nothing at all of what should be little, such as errors.

        No relative margin can be shown around a control that is zero; but nothing can be less than nothing.
        """
        return self.direction == "down" and self.treatment.value == 0 and (self.control.value or 0.0) >= 0

    @property
    def acceptable(self) -> bool:
        """Of a guardrail: shown to be within its margin; without a margin, that it is not significantly worse."""
        if self.spotless:
            return True
        if self.non_inferiority is None:
            return self.reading in {"better", "unclear"}
        return isinstance(self.non_inferiority, NonInferiority) and self.non_inferiority.shown


class SegmentComparison(msgspec.Struct, frozen=True):
    """One comparison within a segment. Exploratory: it was not what the experiment was made for.

    Args:
        dimension: Which.
        value: Of the dimension.
        metric: Which.
        control: How the control did there.
        treatment: How the treatment did there.
        judged: The scale.
        effect: On that scale.
        adjusted_p: For all segments and treatments of the metric.
        reading: What follows from it.
    """

    dimension: str
    value: str
    metric: str
    control: Arm
    treatment: Arm
    judged: Scale
    effect: Effect | NotEstimable
    adjusted_p: float | None
    reading: Reading


class Ranking(msgspec.Struct, frozen=True):
    """How likely each variant is the best of all by one metric.

    Args:
        metric: Which.
        chances: Variant and probability, in the order of the experiment; empty where it cannot be estimated.
        reason: Why not.
    """

    metric: str
    chances: tuple[tuple[str, float], ...] = ()
    reason: str = ""


class HealthProblem(msgspec.Struct, frozen=True):
    """Something about the data that is not as it should be.

    Args:
        code: `no_data`, `sample_ratio`, `multiple_exposures`, `incomplete`, `awaited`, `stale`, `unreported`,
            `unequal_reports`, `orphans`, `early_outcomes`, `conflicting_ids`, `refused_events` or `unknown_variants`.
        words: What it is.
        blocks: Whether nothing is decided as long as it is there.
        waits: Whether it may pass by itself, so that waiting is the answer and not looking.
        metric: The only one that it is about; empty when it is about all.
    """

    code: str
    words: str
    blocks: bool = False
    waits: bool = False
    metric: str = ""


class Health(msgspec.Struct, frozen=True):
    """Whether the data can be trusted.

    Args:
        problems: What is wrong; those that block come first.
        units: By variant, those seen in several left out.
        arrived: By variant, how many units came, those included that a change of weights moved on later.
        expected: By variant, what its weights over time would have given.
        sample_ratio_p: Of "units arrive as they should", at this look alone.
        sequential_sample_ratio_p: The same, valid however often one looks; below 0.001 it is an alarm.
        multiple_share: Share of units seen in several variants.
    """

    problems: tuple[HealthProblem, ...]
    units: tuple[tuple[str, int], ...]
    arrived: tuple[tuple[str, int], ...]
    expected: tuple[tuple[str, float], ...]
    sample_ratio_p: float | None
    sequential_sample_ratio_p: float | None
    multiple_share: float

    @property
    def total(self) -> int:
        """Units of all variants."""
        return sum(count for _, count in self.units)

    @property
    def blocking(self) -> tuple[HealthProblem, ...]:
        """Problems that forbid a decision."""
        return tuple(problem for problem in self.problems if problem.blocks)


class Decision(msgspec.Struct, frozen=True):
    """What follows, and why.

    Args:
        action: `ship` the variant to everybody, `keep` the control, let a person `review`, `stop` the experiment
            because it harms, or `continue`.
        variant: Which treatment it is about; empty where it is about all.
        reason: Why, in words.
        missing: What is still missing before more can be said, in words; empty when nothing is.
        missing_units: About how many units of all variants.
        missing_seconds: About how long that takes as units arrive now.
        blocked_by: Codes of the health problems that forbid a decision.
    """

    action: Action
    variant: str
    reason: str
    missing: str = ""
    missing_units: int | None = None
    missing_seconds: float | None = None
    blocked_by: tuple[str, ...] = ()


class AnalysisReport(msgspec.Struct, frozen=True):
    """What the evidence of an experiment says.

    Args:
        experiment: Its name.
        at: When it was computed.
        method: How the numbers were looked at.
        alpha: Probability of seeing what is not there.
        correction: Of many comparisons of the same role.
        control: What treatments are compared against.
        treatments: The others, in order; shadows last.
        decision: What follows.
        health: Whether the data can be trusted.
        comparisons: Every metric of every treatment.
        rankings: Who is likely the best, where there are several treatments.
        segments: Exploratory breakdowns.
        notes: What one should know to read the numbers rightly.
    """

    experiment: str
    at: datetime
    method: Mode
    alpha: float
    correction: Correction
    control: str
    treatments: tuple[str, ...]
    decision: Decision
    health: Health
    comparisons: tuple[Comparison, ...]
    rankings: tuple[Ranking, ...]
    segments: tuple[SegmentComparison, ...]
    notes: tuple[str, ...]

    def comparison(self, metric: str, treatment: str) -> Comparison:
        """Return one comparison.

        Raises:
            KeyError: There is none.
        """
        for each in self.comparisons:
            if (each.metric, each.treatment.variant) == (metric, treatment):
                return each
        raise KeyError((metric, treatment))

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one flat row for each comparison, those within segments last."""
        from crossfade.experiments.reports.tables import rows

        return rows(self)

    def to_pandas(self) -> Any:
        """Return `to_dicts` as a pandas frame.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError(feature="`to_pandas`", package="pandas", extra="pandas") from error
        return pd.DataFrame(self.to_dicts())

    def to_markdown(self) -> str:
        """Return the report as a page of Markdown."""
        from crossfade.experiments.reports.markdown import page

        return page(self)

    def to_svg(self) -> str:
        """Return the forest plot of all comparisons, relative where that can be."""
        from crossfade.experiments.reports.pictures import forest_of

        return forest_of(self)

    def to_timeline_svg(self, metric: str, treatment: str) -> str:
        """Return one effect over time, look by look, on the scale that is judged.

        Raises:
            KeyError: There is no such comparison.
        """
        from crossfade.experiments.reports.pictures import timeline_of

        return timeline_of(self.comparison(metric, treatment))

    def _repr_html_(self) -> str:
        from crossfade.experiments.reports.html import fragment

        return fragment(self)
