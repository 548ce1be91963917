"""The two kinds of events: `Exposure`, a unit really got a variant, and `Outcome`, a value measured afterwards.

Times are whole microseconds since 1970 (UTC): events are written by the hundred thousand, and databases sort them.
"""

from __future__ import annotations

import msgspec


class ShadowAnswer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a variant would have answered to the same request, had it been asked for real.

    Args:
        variant: Which one.
        version: The semver behind it.
        score: Of its answer; None when it has none, or failed.
        latency_seconds: How long it took.
        error: Whether it failed.
    """

    variant: str
    version: str
    score: float | None = None
    latency_seconds: float = 0.0
    error: bool = False


class Exposure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A unit got a variant.

    Args:
        id: Of the decision; outcomes name it. Sorts by time (UUID version 7).
        at_us: When.
        experiment: Which one decided.
        revision: Of its allocation.
        variant: Who answered.
        unit: Whom.
        propensity: The probability of this variant when it was drawn.
        model: The model that was asked; empty when only a flag was evaluated.
        version: The semver that answered.
        score: Of the answer: a probability or a value; None when there is none.
        latency_seconds: How long the answer took.
        error: Whether it failed.
        fallback: Whether another version answered in the variant's stead.
        dimensions: Declared attribute -> its value at that time, for breakdowns.
        context: Declared feature -> its value, for contextual bandits.
        shadows: What other variants would have answered.
    """

    id: str
    at_us: int
    experiment: str
    revision: int
    variant: str
    unit: str
    propensity: float = 1.0
    model: str = ""
    version: str = ""
    score: float | None = None
    latency_seconds: float = 0.0
    error: bool = False
    fallback: bool = False
    dimensions: dict[str, str] = {}
    context: dict[str, float] = {}
    shadows: tuple[ShadowAnswer, ...] = ()


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A value that was measured afterwards: a flight landed late, a customer paid 12.50.

    Args:
        id: Chosen by whoever reports it; the same id again is the same outcome.
        at_us: When it happened, not when it was reported.
        name: What was measured; metrics name it.
        value: Finite.
        decision: Id of the exposure it belongs to, or empty:
        experiment: then it belongs to a unit of this experiment.
        unit: Whom.
    """

    id: str
    at_us: int
    name: str
    value: float = 1.0
    decision: str = ""
    experiment: str = ""
    unit: str = ""
