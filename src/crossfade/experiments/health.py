"""Whether the data of an experiment can be trusted, before anything is read from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from crossfade.experiments.question import Question
from crossfade.experiments.report import Health, HealthProblem
from crossfade.experiments.reported import problems_of_reports
from crossfade.experiments.reports.words import p_is
from crossfade.experiments.samples import periods, splits
from crossfade.ledger.counts import CONFLICTING_ID
from crossfade.ledger.evidence import Arrival, Evidence
from crossfade.methods.stats.sample_ratio import ALARM, SampleRatio, fixed

STALE = timedelta(days=1)
"""Data older than this are worth a word."""
NOTEWORTHY = 0.05
"""Share of outcomes that could not be used above which it is said."""
FEW = 10
"""Outcomes of decisions that nobody knows below which no experiment is told: any of them may be the one."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def health(evidence: Evidence, question: Question, now: datetime) -> Health:
    """Examine arrivals, and what the roll-ups say about events that they could not use.

    Args:
        evidence: Of the experiment.
        question: What is asked of it.
        now: The present time.
    """
    known = [arrival for arrival in evidence.arrivals if arrival.variant in question.variants]
    units, arrived = dict.fromkeys(question.variants, 0), dict.fromkeys(question.variants, 0)
    for arrival in known:
        units[arrival.variant] += arrival.units
        arrived[arrival.variant] += arrival.came
    came = _periods(evidence.arrivals, question)
    total = sum(units.values())
    ratio = _fixed(came), _sequential(came)
    if len(question.variants) < 2:
        ratio = None, None
    seen = total + evidence.multiple
    multiple_share = evidence.multiple / seen if seen else 0.0
    found = [
        *_of_units(evidence, question, total),
        *_of_ratio(ratio[1], arrived),
        *_of_multiple(evidence, multiple_share, question.decision.multiple_share, steady=len(came) < 2),
        *_of_events(evidence),
        *problems_of_reports(evidence, question, units, steady=len(came) < 2 and not question.adaptive),
        *_of_age(evidence, question, now),
    ]
    return Health(
        problems=tuple(sorted(found, key=lambda problem: not problem.blocks)),
        units=tuple(units.items()),
        arrived=tuple(arrived.items()),
        expected=tuple(_expected(came, question.variants).items()),
        sample_ratio_p=ratio[0],
        sequential_sample_ratio_p=ratio[1],
        multiple_share=multiple_share,
    )


@dataclass(frozen=True)
class _Period:
    """What the variants should get, and what they got, day by day."""

    weights: tuple[float, ...]
    days: tuple[tuple[int, ...], ...]

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(map(sum, zip(*self.days, strict=True)))


def _periods(arrivals: Sequence[Arrival], question: Question) -> list[_Period]:
    """Return the revisions; of a bandit, whose weights change by the minute, similar ones together.

    All units that came count. Those that a later revision moved are not analyzed, and they are missing in the variants
    that shrank alone: without them, every change of weights would look like a mismatch.
    """
    variants = question.variants
    shares = splits(arrivals, variants)
    together = periods(arrivals, variants, adaptive=True) if question.adaptive else {each: each for each in shares}
    days: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0] * len(variants)))
    wanted: dict[int, list[float]] = defaultdict(lambda: [0.0] * len(variants))
    for arrival in arrivals:
        if arrival.revision in shares and arrival.variant in variants:
            period = together[arrival.revision]
            days[period][arrival.day][variants.index(arrival.variant)] += arrival.came
            for place, share in enumerate(shares[arrival.revision]):
                wanted[period][place] += share * max(arrival.came, 1)
    return [
        _Period(tuple(wanted[period]), tuple(tuple(days[period][day]) for day in sorted(days[period])))
        for period in sorted(days)
    ]


def _fixed(came: list[_Period]) -> float | None:
    """Return the p-value at this look: the smallest of the periods', times their number."""
    p_values = [fixed(period.counts, period.weights) for period in came if sum(period.counts)]
    return min(1.0, min(p_values) * len(p_values)) if p_values else None


def _sequential(came: list[_Period]) -> float | None:
    """Return the always-valid p-value over the ends of all days and through all changes of the weights."""
    state: SampleRatio | None = None
    for period in came:
        state = SampleRatio.start(period.weights) if state is None else state.reweight(period.weights)
        counts = (0,) * len(period.weights)
        for day in period.days:
            counts = tuple(before + new for before, new in zip(counts, day, strict=True))
            state = state.observe(counts)
    return None if state is None else state.p_value


def _expected(came: list[_Period], variants: tuple[str, ...]) -> dict[str, float]:
    expected = dict.fromkeys(variants, 0.0)
    for period in came:
        total, weights = sum(period.counts), sum(period.weights)
        for variant, weight in zip(variants, period.weights, strict=True):
            expected[variant] += total * weight / weights
    return expected


def _of_units(evidence: Evidence, question: Question, total: int) -> Iterator[HealthProblem]:
    if not total:
        yield HealthProblem("no_data", "no units yet", blocks=True, waits=True)
    strangers = sorted({arrival.variant for arrival in evidence.arrivals} - set(question.variants))
    if strangers:
        named = ", ".join(f"`{name}`" for name in strangers[:3]) + (" and others" if len(strangers) > 3 else "")
        yield HealthProblem(
            "unknown_variants", f"units are in {named}, which the experiment does not name; they are left out"
        )


def _of_ratio(p_value: float | None, units: dict[str, int]) -> Iterator[HealthProblem]:
    if p_value is not None and p_value < ALARM:
        counts = ", ".join(f"`{variant}` {count:,}" for variant, count in units.items())
        words = f"units do not arrive in the proportions of the weights ({p_is(p_value)}): {counts}"
        yield HealthProblem("sample_ratio", words, blocks=True)


def _of_multiple(evidence: Evidence, share: float, most: float, *, steady: bool) -> Iterator[HealthProblem]:
    if evidence.multiple:
        words = f"{evidence.multiple:,} units ({share:.2%}) were seen in several variants and are left out"
        if not steady:
            words += "; weights have changed, which moves units that come back out of variants that shrink"
        yield HealthProblem("multiple_exposures", words, blocks=share > most)


def _of_events(evidence: Evidence) -> Iterator[HealthProblem]:
    for reason in evidence.incomplete:
        yield HealthProblem("incomplete", f"events are missing: {reason}", blocks=True)
    for reason in evidence.awaited:
        yield HealthProblem("awaited", f"events may be on their way: {reason}", blocks=True, waits=True)
    unplaced = evidence.unplaced if evidence.unplaced >= FEW else 0
    orphans = evidence.orphans - evidence.unplaced + unplaced
    everything = evidence.outcomes + orphans + evidence.early
    if orphans > NOTEWORTHY * everything:
        words = f"{orphans:,} outcomes belong to no exposure that is known ({orphans / everything:.0%})"
        if unplaced:
            words += f"; {unplaced:,} of them name a decision, which may be one of another experiment"
        yield HealthProblem("orphans", words)
    if evidence.early > NOTEWORTHY * everything:
        words = f"{evidence.early:,} outcomes came before the first exposure of their unit and do not count"
        yield HealthProblem("early_outcomes", words)
    yield from _of_refusals(dict(evidence.refused))


def _of_refusals(refused: dict[str, int]) -> Iterator[HealthProblem]:
    if conflicting := refused.pop(CONFLICTING_ID, 0):
        words = f"{conflicting:,} outcomes had the id of another one that says something else, and were not counted"
        yield HealthProblem("conflicting_ids", words)
    if total := sum(refused.values()):
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in refused.items())
        words = f"{total:,} events could not be used, or not for every metric ({reasons})"
        yield HealthProblem("refused_events", words)


def _of_age(evidence: Evidence, question: Question, now: datetime) -> Iterator[HealthProblem]:
    if evidence.last_us is None:
        return
    until = min(now, question.ends_at) if question.ends_at is not None else now
    age = until - (_EPOCH + timedelta(microseconds=evidence.last_us))
    if age > STALE:
        hours = age.total_seconds() / 3600
        yield HealthProblem("stale", f"the newest event is {hours:,.0f} hours old", blocks=True, waits=True)
