"""When an experiment is looked at, and how a contrast becomes an effect at each look."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from itertools import accumulate

from crossfade.experiments.question import Question
from crossfade.ledger.evidence import Arrival
from crossfade.methods.stats.confidence_sequence import confidence_sequence
from crossfade.methods.stats.group_sequential import group_sequential
from crossfade.methods.stats.values import Alternative, Contrast, Effect, NotEstimable
from crossfade.methods.stats.welch import welch


@dataclass(frozen=True)
class Schedule:
    """The looks so far.

    Looks are at the ends of days, because evidence is kept by days. `always_valid` looks at every day, the present one
    included. Planned looks are at the first day that is over and has enough units, so that a look, once taken, stays.

    Args:
        question: What is asked.
        days: Last day of each look, ascending.
        information: Share of the planned units at each look (`group_sequential`), also at looks before these days.
        refusal: Why there is no look yet.
    """

    question: Question
    days: tuple[str, ...]
    information: tuple[float, ...] = ()
    refusal: NotEstimable | None = None

    def infer(
        self,
        contrast: Contrast | NotEstimable,
        alpha: float,
        alternative: Alternative = "two-sided",
        *,
        look: int | None = None,
    ) -> Effect | NotEstimable:
        """Return what a contrast says at one look, by default the last.

        Args:
            contrast: Of all units until then.
            alpha: Error probability over all looks.
            alternative: What is looked for.
            look: Place of the look.
        """
        spec = self.question.analysis
        if self.refusal is not None:
            return self.refusal
        if spec.method == "always_valid":
            return confidence_sequence(contrast, alpha, alternative, tuning=spec.tuning, smallest=spec.smallest_units)
        if spec.method == "fixed":
            return welch(contrast, alpha, alternative)
        later = 0 if look is None else len(self.days) - 1 - look
        until = self.information[: len(self.information) - later]
        return group_sequential(contrast, until, alpha, spec.spending, alternative)

    @property
    def cautious(self) -> bool:
        """Whether looks begin early, when few units may all have done the same."""
        return self.question.analysis.method != "fixed"

    @property
    def present(self) -> Schedule:
        """The last look alone."""
        return replace(self, days=self.days[-1:])


def schedule(question: Question, arrivals: tuple[Arrival, ...], now: datetime) -> Schedule:
    """Find the looks that were due until now."""
    days = tuple(sorted({arrival.day for arrival in arrivals}))
    method = question.analysis.method
    if method == "always_valid":
        return Schedule(question, days)
    units = [sum(arrival.units for arrival in arrivals if arrival.day == day) for day in days]
    totals = dict(zip(days, accumulate(units), strict=True))
    if not question.ended(now):  # a day that goes on would be looked at again and again
        totals = {day: total for day, total in totals.items() if end_of(day) <= now}
    return _planned(question, totals, now) if method == "group_sequential" else _fixed(question, totals, now)


def _planned(question: Question, totals: dict[str, int], now: datetime) -> Schedule:
    spec, planned = question.analysis, question.analysis.planned_units or 1
    days, information, taken = [], [0.0], 0
    for day, total in totals.items():
        due = min(total * spec.looks // planned, spec.looks)
        at_the_end = question.ended(now) and day == max(totals)
        # looks may not be closer together than this; a day without new units is none
        if (due > taken or at_the_end) and taken < spec.looks and total / planned > information[-1] * 1.0001:
            days.append(day)
            information.append(total / planned)
            taken = due
    if days:
        return Schedule(question, tuple(days), tuple(information[1:]))
    there, first = max(totals.values(), default=0), -(-planned // spec.looks)
    reason = (
        f"the first of {spec.looks} looks is at {first:,} units; at the end of the last full day there were {there:,}"
    )
    return Schedule(question, (), (), NotEstimable(reason))


def _fixed(question: Question, totals: dict[str, int], now: datetime) -> Schedule:
    spec, horizon = question.analysis, question.horizon
    if spec.planned_units is not None:
        for day, total in totals.items():
            if total >= spec.planned_units:
                return Schedule(question, (day,))
    if totals and horizon is not None and now >= horizon:
        within = [day for day in totals if end_of(day) <= horizon]
        return Schedule(question, (within[-1] if within else max(totals),))
    if totals and question.ended(now):
        return Schedule(question, (max(totals),))
    there = max(totals.values(), default=0)
    ends = [] if spec.planned_units is None else [f"{spec.planned_units:,} units; there are {there:,}"]
    ends += [] if horizon is None else [f"{horizon:%Y-%m-%d %H:%M} UTC"]
    return Schedule(question, (), (), NotEstimable(f"the one look is at the planned end: {' or '.join(ends)}"))


def end_of(day: str) -> datetime:
    """Return the first moment after a day, `2026-11-27` (UTC)."""
    return datetime.combine(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC), time(), UTC) + timedelta(days=1)
