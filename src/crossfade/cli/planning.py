"""`crossfade experiments power`: planning an experiment, on this machine and without a server."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Literal

import click

from crossfade.cli.output import Sheet, facts
from crossfade.cli.session import Session, command

if TYPE_CHECKING:
    from crossfade.methods.stats.planning import Mode, PowerReport
    from crossfade.methods.stats.power import Population
    from crossfade.methods.stats.values import Alternative

KINDS = ("proportion", "mean", "ratio")
MODES = ("always_valid", "group_sequential", "fixed")
ALTERNATIVES = ("two-sided", "greater", "less")


def _amount(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, bool] | None:  # noqa: ARG001
    """Read `0.01` or `5%`: the number, and whether it is a share of something."""
    if text is None:
        return None
    try:
        number = float(text.strip().removesuffix("%"))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is neither a number nor a percentage") from error
    return (number / 100, True) if text.strip().endswith("%") else (number, False)


def _weights(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[float, ...]:  # noqa: ARG001
    """Read `50,50`."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a list of numbers such as `50,25,25`") from error


@command(name="power", remote=False)
@click.option("--baseline", type=float, required=True, help="Mean of the control, or its rate from 0 to 1.")
@click.option("--kind", type=click.Choice(KINDS), default="proportion", show_default=True, help="Of the metric.")
@click.option(
    "--sd",
    type=float,
    help="Standard deviation of one unit; needed unless it is a proportion. Of a ratio: of (numerator - ratio x "
    "denominator) / mean denominator.",
)
@click.option(
    "--effect",
    callback=_amount,
    metavar="NUMBER|PERCENT",
    help="Smallest effect worth seeing: `0.01`, or `5%` of the baseline; below zero for a fall.",
)
@click.option("--units", type=int, help="Units of all variants together, instead of looking for them.")
@click.option("--power", "target", type=float, help="Probability of seeing the effect.  [default: 0.8]")
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Probability of seeing what is not there.")
@click.option("--alternative", type=click.Choice(ALTERNATIVES), default="two-sided", show_default=True)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="always_valid",
    show_default=True,
    help="Look whenever you like, at a few planned times, or once at the end.",
)
@click.option("--looks", type=int, help="Looks until the end.  [default: 20; group_sequential: 5]")
@click.option(
    "--weights",
    callback=_weights,
    metavar="A,B,...",
    default="50,50",
    show_default=True,
    help="Of the variants, control first.",
)
@click.option(
    "--metrics", type=int, default=1, show_default=True, help="Primary metrics: their comparisons share alpha."
)
@click.option(
    "--covariate", type=float, default=0.0, help="Correlation of the metric with what is known before (CUPED), -1 to 1."
)
@click.option("--per-day", type=float, help="Units that come in a day, to say how long it takes.")
def power(
    session: Session,
    *,
    baseline: float,
    kind: Literal["proportion", "mean", "ratio"],
    sd: float | None,
    effect: tuple[float, bool] | None,
    units: int | None,
    target: float | None,
    alpha: float,
    alternative: Alternative,
    mode: Mode,
    looks: int | None,
    weights: tuple[float, ...],
    metrics: int,
    covariate: float,
    per_day: float | None,
) -> None:
    """Say how many units an experiment needs, or what it can see with those there are.

    Give `--effect` for the units, `--units` for the smallest effect, both for the power. For example `crossfade
    experiments power --baseline 0.1 --effect 5% --per-day 20000`.
    """
    from crossfade.methods.stats.planning import PowerPlan, plan
    from crossfade.methods.stats.values import NotEstimable

    if effect is None and units is None:
        raise click.UsageError("give `--effect`, `--units`, or both")
    both = effect is not None and units is not None
    if both and target is not None:
        raise click.UsageError("`--effect` and `--units` leave nothing for `--power` but to be found")
    share, relative = effect or (None, False)
    wanted = PowerPlan(
        population=_population(kind, baseline, sd, covariate),
        effect=share * abs(baseline) if relative and share is not None else share,
        units=units,
        power=None if both else 0.8 if target is None else target,
        weights=weights,
        alpha=alpha,
        metrics=metrics,
        alternative=alternative,
        mode=mode,
        looks=looks if looks is not None else 5 if mode == "group_sequential" else 20,
        per_day=per_day,
    )
    report = plan(wanted)
    if isinstance(report, NotEstimable):
        session.show(report, Sheet((), [("not estimable", report.reason)], ["not_estimable"]))
        sys.exit(1)
    session.show(report, power_sheet(report))
    if report.mode != "fixed":
        session.hint("compare with one look at the end: `--mode fixed`")
    else:
        session.hint("see what looking every day costs: `--mode always_valid`")


def power_sheet(report: PowerReport) -> Sheet:
    """A plan of an experiment."""
    names = ["control", *(f"treatment {number}" for number in range(1, len(report.units_by_variant)))]
    names = names if len(names) > 2 else ["control", "treatment"]
    relative = "" if report.relative_effect is None else f" ({report.relative_effect:+.3%} of the baseline)"
    shared = f", shared by {report.comparisons} comparisons" if report.comparisons > 1 else ""
    looks = "one look at the end" if report.looks == 1 else f"{report.looks} looks, {report.mode}"
    pairs = [
        ("units", f"{report.units:,}"),
        *((f"  {name}", f"{count:,}") for name, count in zip(names, report.units_by_variant, strict=True)),
        ("days", "" if report.days is None else f"{math.ceil(report.days):,}"),
        ("effect", f"{report.effect:.6g}{relative}"),
        ("power", f"{report.power:.1%}"),
        ("alpha", f"{report.alpha:g}, {report.alternative}{shared}"),
        ("mode", looks),
    ]
    found = {"units": str(report.units), "effect": f"{report.effect:.6g}", "power": f"{report.power:.4f}"}
    return facts(pairs, name=found[report.solved])


def _population(
    kind: Literal["proportion", "mean", "ratio"], baseline: float, sd: float | None, covariate: float
) -> Population:
    from crossfade.methods.stats.power import Population

    if not -1 < covariate < 1:
        raise click.UsageError("a correlation (`--covariate`) is between -1 and 1")
    unexplained = 1 - covariate**2
    if kind == "proportion":
        if sd is not None:
            raise click.UsageError("the rate of a proportion says how much it varies: leave out `--sd`")
        return Population(baseline, kind="proportion", unexplained=unexplained)
    if sd is None:
        raise click.UsageError(f"a {kind} needs `--sd`, the standard deviation of one unit")
    return Population(baseline, sd**2, unexplained=unexplained)
