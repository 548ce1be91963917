"""What a rule can be about: each kind is measured in this process (`measuring`), and written as PromQL (`export`)."""

from __future__ import annotations

from typing import Literal

import msgspec

Sli = Literal["errors", "latency"]
"""What a service level is about: requests that failed, or answers that were slow."""


class BurnRate(msgspec.Struct, frozen=True, tag="burn_rate"):
    """The error budget of a model burns so much faster than it may, over a long window and over a short one.

    The long window tells trouble from noise; the short one ends the alert soon after the trouble.

    Args:
        sli: What the budget is about.
        long_seconds: The long window.
        short_seconds: The short one.
        factor: 1 uses the budget up exactly at the end of its period (30 days).

    Source: Beyer et al., The Site Reliability Workbook, 2018, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts".
    """

    sli: Sli
    long_seconds: int
    short_seconds: int
    factor: float


class QuantileAbove(msgspec.Struct, frozen=True, tag="quantile"):
    """This fraction of the answers of a model takes longer than it should."""

    fraction: float
    seconds: int
    above: float


class FailuresAbove(msgspec.Struct, frozen=True, tag="failures"):
    """A share of the requests to a model fails."""

    seconds: int
    above: float


class GaugeAbove(msgspec.Struct, frozen=True, tag="level"):
    """A gauge of this server is above a value.

    Args:
        metric: As it stands on `/metrics`.
        above: The value.
        by: Labels that are looked at apart; over all others the largest counts.
        where: Labels that a series must have.
    """

    metric: str
    above: float
    by: tuple[str, ...] = ()
    where: dict[str, str] = {}


class CounterGrows(msgspec.Struct, frozen=True, tag="increase"):
    """A counter of this server grows by more than a value within a window."""

    metric: str
    seconds: int
    above: float = 0.0
    by: tuple[str, ...] = ()
    where: dict[str, str] = {}


class ShareBelow(msgspec.Struct, frozen=True, tag="share"):
    """Of what a counter of this server counts within a window, too little has another label than this one.

    Args:
        metric: The counter.
        seconds: The window.
        label: Whose value tells the parts apart.
        other: The value that the share is without.
        below: The share.
        at_least: Fewer counts say nothing.
        by: Labels that are looked at apart.
    """

    metric: str
    seconds: int
    label: str
    other: str
    below: float
    at_least: int
    by: tuple[str, ...] = ()


class FactHolds(msgspec.Struct, frozen=True, tag="fact"):
    """Something that a part of Crossfade knows, under this name, and that no number of this server shows.

    Args:
        source: The name.
        shown: What Prometheus looks at instead, where a metric shows it as well; else it looks at the gauge
            `crossfade_alerts_firing` of the rule itself.
    """

    source: str
    shown: GaugeAbove | CounterGrows | None = None


Condition = BurnRate | QuantileAbove | FailuresAbove | GaugeAbove | CounterGrows | ShareBelow | FactHolds
