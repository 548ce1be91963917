"""`Question`: what is asked of the evidence of one experiment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated

import msgspec

from crossfade.errors import InvalidAnalysisError
from crossfade.experiments.analysis_spec import AnalysisSpec, DecisionSpec
from crossfade.ledger.metrics import MetricSpec

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Question(msgspec.Struct, frozen=True):
    """What is asked of the evidence: who is compared with whom, by what, and how it is judged.

    Args:
        experiment: Its name.
        variants: That units got, in order.
        metrics: Of the experiment.
        control: What treatments are compared against; the first variant by default.
        dimensions: Declared ones, for breakdowns.
        shadows: Variants that answered the control's requests without anybody seeing it, in the order of their columns
            in the evidence. What depends on answers alone is compared on the same units; they need not be `variants`.
        analysis: How numbers are judged.
        decision: What follows from them.
        started_at: When units could take part for the first time.
        ends_at: When it ends, or ended.
        cut_short: Whether a person ended it before its schedule did.
        paused_seconds: How long nobody took part meanwhile.
        adaptive: Whether weights follow the outcomes, as those of a bandit do.
        sticky: Whether a unit keeps its variant; if not, every request is a unit.
    """

    experiment: str
    variants: tuple[str, ...]
    metrics: tuple[MetricSpec, ...]
    control: str = ""
    dimensions: tuple[str, ...] = ()
    shadows: tuple[str, ...] = ()
    analysis: AnalysisSpec = AnalysisSpec()
    decision: DecisionSpec = DecisionSpec()
    started_at: Moment | None = None
    ends_at: Moment | None = None
    cut_short: bool = False
    paused_seconds: float = 0.0
    adaptive: bool = False
    sticky: bool = True

    @property
    def against(self) -> str:
        """The control."""
        return self.control or self.variants[0]

    @property
    def treatments(self) -> tuple[str, ...]:
        """Everybody that is compared with the control: other variants, then shadows that are none."""
        names = dict.fromkeys((*self.variants, *self.shadows))
        return tuple(name for name in names if name != self.against)

    def ended(self, now: datetime) -> bool:
        """Whether no more units come."""
        return self.ends_at is not None and now >= self.ends_at

    @property
    def horizon(self) -> datetime | None:
        """When the planned time is over; None where none is planned."""
        if self.started_at is None or self.analysis.planned_seconds is None:
            return None
        try:
            return self.started_at + timedelta(seconds=self.analysis.planned_seconds)
        except OverflowError:  # further away than there are dates
            return None

    def checked(self) -> Question:
        """Return the question with checked specifications.

        Raises:
            InvalidAnalysisError: The first thing that is wrong.
        """
        for problem in _problems(self):
            raise InvalidAnalysisError(problem=problem)
        return msgspec.structs.replace(self, analysis=self.analysis.checked(), decision=self.decision.checked())


def _problems(question: Question) -> Iterator[str]:
    if not question.variants:
        yield "there are no variants"
    if question.control and question.control not in question.variants:
        yield f"the control `{question.control}` is none of the variants"
    if question.variants and question.against in question.shadows:
        yield f"the control `{question.against}` cannot be its own shadow"
    metrics = [metric.name for metric in question.metrics]
    groups = (
        ("metric", metrics),
        ("variant", [*question.variants]),
        ("shadow", [*question.shadows]),
        ("dimension", [*question.dimensions]),
    )
    for what, names in groups:
        for name, times in Counter(names).items():
            if times > 1:
                yield f"the {what} `{name}` is there {times} times"
    for name in question.analysis.scales:
        if name not in metrics:
            yield f"there is a scale for `{name}`, which is no metric of the experiment"
    yield from _problems_of_metrics(question)


def _problems_of_metrics(question: Question) -> Iterator[str]:
    for metric in question.metrics:
        if metric.kind == "quantile" and not (metric.level is not None and 0 < metric.level < 1):
            yield f"the quantile `{metric.name}` has no level between 0 and 1"
        for margin in (metric.margin, metric.margin_absolute):
            if margin is not None and not 0 <= margin < float("inf"):
                yield f"the margin of `{metric.name}` is {margin}, which is not zero or more"
