"""`MetricSpec`: what is measured of the units of an experiment, and how it is judged.

The unit of analysis is the unit of assignment: whatever a metric is about, each unit adds one row to its moments.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["mean", "proportion", "ratio", "count", "quantile"]
Direction = Literal["up", "down"]
Role = Literal["primary", "secondary", "guardrail"]
Loss = Literal["", "log", "squared", "absolute", "zero_one"]

LATENCY, ERROR, FALLBACK, SCORE, EXPOSURES = "latency_seconds", "error", "fallback", "score", "exposures"
BUILT_IN = frozenset({LATENCY, ERROR, FALLBACK, SCORE, EXPOSURES})
"""Measured by serving with every exposure; everything else is the name of an outcome. `exposures` is always 1."""
SHADOW_SCORE = "shadow_score"
"""As a covariate: what the control would have answered to the unit's first request."""


class MetricSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One metric of an experiment.

    Kinds, per unit: `mean` the sum of its values, `count` how many values, `proportion` whether any value is above
    zero, `ratio` the sum of its values over the sum of the denominator's (summed over units before dividing),
    `quantile` of all single values, units being clusters.

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
        level: Of a quantile, between 0 and 1.
        lower: Values below are pulled up to it (winsorising).
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
