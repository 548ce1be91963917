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
        due: When the next planned look is taken, where its units are there already and only their day goes on.
    """

    question: Question
    days: tuple[str, ...]
    information: tuple[float, ...] = ()
    refusal: NotEstimable | None = None
    due: datetime | None = None

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
    taken = _planned if method == "group_sequential" else _fixed
    if question.ended(now):
        found, due = taken(question, totals, now), None
    else:  # a day that goes on would be looked at again and again
        found = taken(question, {day: total for day, total in totals.items() if end_of(day) <= now}, now)
        due = next((end_of(day) for day in taken(question, totals, now).days if end_of(day) > now), None)
    return replace(found, due=due, refusal=None if found.days else _refusal(question, totals, due))


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
    return Schedule(question, tuple(days), tuple(information[1:]))


def _fixed(question: Question, totals: dict[str, int], now: datetime) -> Schedule:
    if not totals:
        return Schedule(question, ())
    planned, horizon = question.analysis.planned_units, question.horizon
    # what comes later changes nothing, also where not even the first day was over in the planned time
    within = [day for day in totals if horizon is None or end_of(day) <= horizon] or [min(totals)]
    for day in within:
        if planned is not None and totals[day] >= planned:
            return Schedule(question, (day,))
    if horizon is not None and now >= horizon:
        return Schedule(question, (within[-1],))
    return Schedule(question, (max(totals),) if question.ended(now) else ())


def _refusal(question: Question, totals: dict[str, int], due: datetime | None) -> NotEstimable:
    """Say what the first planned look waits for."""
    spec, there = question.analysis, max(totals.values(), default=0)
    sequential = spec.method == "group_sequential"
    which = f"the first of {spec.looks} looks" if sequential else "the one look"
    if due is not None:
        reason = f"{which} waits only for the end of the day, {due:%Y-%m-%d %H:%M} UTC: its {there:,} units are there"
        return NotEstimable(reason)
    ends = []
    if spec.planned_units is not None:
        planned = -(-spec.planned_units // spec.looks) if sequential else spec.planned_units
        ends = [f"the end of the first day (UTC) with {planned:,} units in all, and there are {there:,}"]
    if question.horizon is not None and not sequential:
        ends.append(f"{question.horizon:%Y-%m-%d %H:%M} UTC")
    return NotEstimable(f"{which} is at {', or '.join(ends)}")


def end_of(day: str) -> datetime:
    """Return the first moment after a day, `2026-11-27` (UTC)."""
    return datetime.combine(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC), time(), UTC) + timedelta(days=1)
