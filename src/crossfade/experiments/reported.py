"""Whether metrics were reported of the units at all, and of the units of all variants alike.

An outcome that is misspelled, or that one variant's program does not send, looks like an effect, or like a guardrail
without a spot. Nothing in the numbers of a comparison tells the difference; these checks do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from crossfade.experiments.question import Question
from crossfade.experiments.report import HealthProblem
from crossfade.experiments.reports.words import p_is
from crossfade.ledger.evidence import EVERYBODY, Cell, Evidence
from crossfade.ledger.metrics import BUILT_IN, MetricSpec
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.sample_ratio import fixed

UNLIKELY = 1e-6
"""Rarer than that is taken for a fault; it is asked at every look, so it is rarer than other alarms."""


@dataclass(frozen=True)
class _Known:
    """What is known of one metric of one variant: units with a row, and its own columns of them."""

    moments: Moments

    @property
    def units(self) -> int:
        return int(self.moments.n)

    @property
    def any(self) -> bool:
        """Whether anything but zeros is known."""
        return bool(self.moments.mean.any()) or bool(np.diagonal(self.moments.m2).any())

    @property
    def share(self) -> float:
        """At least so large a share of the units has a value that is not zero; exactly, for values of 0 and 1.

        Source:
            Cauchy, Schwarz: mean(x)^2 <= mean(x^2) P(x != 0).
        """
        mean, variance = float(self.moments.mean[0]), float(self.moments.m2[0, 0]) / max(self.units, 1)
        second = variance + mean**2
        return mean**2 / second if second > 0 else 0.0


def problems_of_reports(
    evidence: Evidence, question: Question, units: Mapping[str, int], *, steady: bool
) -> Iterator[HealthProblem]:
    """Yield what is wrong with how the metrics that decide were reported.

    Args:
        evidence: Of the experiment.
        question: What is asked of it.
        units: Variant -> how many came.
        steady: Whether the weights have always been the same. If not, variants differ in how long their units have had
            time to be reported of.
    """
    if min(units.values(), default=0) < question.decision.minimum_units:
        return
    for metric in question.metrics:
        if metric.role == "secondary" or metric.source in BUILT_IN:
            continue
        known = _known(evidence.cells, metric, question.variants)
        there = [name for name in question.variants if name in known and known[name].any]
        if not there:
            words = (
                f"nothing but zeros is known of `{metric.name}`: either it is never reported, or there is none of it"
            )
            yield HealthProblem("unreported", words, blocks=True, waits=True, metric=metric.name)
        elif metric.missing == "skip":
            yield from _of_shares(metric, known, units, steady=steady)
        else:
            yield from _of_silence(metric, known, units, there)


def _of_shares(
    metric: MetricSpec, known: Mapping[str, _Known], units: Mapping[str, int], *, steady: bool
) -> Iterator[HealthProblem]:
    """Where units without a value are skipped, those that are left can be compared if as many are left everywhere."""
    counts = [known[name].units if name in known else 0 for name in units]
    if not steady or (p_value := fixed(counts, list(units.values()))) >= UNLIKELY:
        return
    shares = ", ".join(
        f"`{name}` {count / came:.1%}" for (name, came), count in zip(units.items(), counts, strict=True)
    )
    words = f"`{metric.name}` is known of different shares of the units ({p_is(p_value)}): {shares}"
    yield HealthProblem("unequal_reports", words, blocks=True, metric=metric.name)


def _of_silence(
    metric: MetricSpec, known: Mapping[str, _Known], units: Mapping[str, int], there: list[str]
) -> Iterator[HealthProblem]:
    """A variant without a single value, where others have so many that this is no chance."""
    share = max(known[name].share for name in there)
    for name in units:
        if name not in there and (1 - share) ** units[name] < UNLIKELY:
            words = f"`{name}` has no `{metric.name}` in {units[name]:,} units, and `{there[0]}` has: is it reported?"
            yield HealthProblem("unreported", words, blocks=True, waits=True, metric=metric.name)


def _known(cells: tuple[Cell, ...], metric: MetricSpec, variants: tuple[str, ...]) -> dict[str, _Known]:
    own = _columns(metric)
    found: dict[str, list[Moments]] = {}
    for cell in cells:
        if cell.metric == metric.name and cell.dimension == EVERYBODY and cell.variant in variants:
            part = cell.moments
            found.setdefault(cell.variant, []).append(Moments(part.n, part.mean[own], part.m2[np.ix_(own, own)]))
    return {name: _Known(Moments.stack(parts).total()) for name, parts in found.items()}


def _columns(metric: MetricSpec) -> list[int]:
    """Return the columns that are not zero only where something was reported."""
    if metric.kind == "quantile":
        return [1]  # how many values there are
    return [0, 1] if metric.kind == "ratio" and metric.denominator not in BUILT_IN else [0]
