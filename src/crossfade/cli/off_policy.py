"""`crossfade experiments evaluate-policy`: what another policy would have earned, from a log in a file; no server."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crossfade.cli.columns import Columns, numbers, read_columns, texts
from crossfade.cli.output import Sheet
from crossfade.cli.session import Session, command

if TYPE_CHECKING:
    from crossfade.methods.bandits.contextual import ContextualSpec
    from crossfade.methods.bandits.policy import Policy, PolicySpec
    from crossfade.methods.off_policy.log import Log
    from crossfade.methods.off_policy.report import PolicyReport
    from crossfade.methods.off_policy.target import Target
    from crossfade.methods.stats.distributions import Array


def _weights(ctx: click.Context, parameter: click.Parameter, text: str | None) -> dict[str, float] | None:  # noqa: ARG001
    if text is None:
        return None
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, weight = part.rpartition("=")
        try:
            value = float(weight)
        except ValueError:
            value = -1.0
        if not equals or not name.strip() or name.strip() in found or not value >= 0:
            raise click.BadParameter(f"`{part}` is not ACTION=WEIGHT, such as `control=0.2`, each action once")
        found[name.strip()] = value
    return found


def _names(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:  # noqa: ARG001
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


@command(name="evaluate-policy", remote=False)
@click.argument("log", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--weights", callback=_weights, metavar="A=0.2,B=0.8", help="The policy: a probability for each action.")
@click.option(
    "--policy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The policy: JSON, as it was stored, or its specification, which then learns from the first half of the log "
    "and is evaluated on the second.",
)
@click.option("--probability", metavar="COLUMN", help="The policy: a column with its probability of what was done.")
@click.option("--action", default="action", show_default=True, metavar="COLUMN", help="What was done.")
@click.option("--reward", default="reward", show_default=True, metavar="COLUMN", help="What it earned.")
@click.option(
    "--propensity",
    default="propensity",
    show_default=True,
    metavar="COLUMN",
    help="Probability with which it was done.",
)
@click.option(
    "--cells", callback=_names, default="", metavar="COLUMN,...", help="What tells contexts apart, for a reward model."
)
@click.option(
    "--features", callback=_names, default="", metavar="COLUMN,...", help="Numbers that a reward model is linear in."
)
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Intervals miss with this probability.")
@click.option("--clip", type=float, help="Where clipped IPS cuts importance off.  [default: root of the rows]")
@click.option("--least", type=float, default=100.0, show_default=True, help="Effective rows that are needed.")
def evaluate_policy(
    session: Session,
    log: Path,
    *,
    weights: dict[str, float] | None,
    policy: Path | None,
    probability: str | None,
    action: str,
    reward: str,
    propensity: str,
    cells: tuple[str, ...],
    features: tuple[str, ...],
    alpha: float,
    clip: float | None,
    least: float,
) -> None:
    """Say what a policy would have earned, from LOG (CSV, JSON lines or Parquet) of decisions that another one took.

    For example `crossfade experiments evaluate-policy log.csv --weights control=0.2,treatment=0.8`.
    """
    from crossfade.methods.off_policy.evaluation import evaluate

    if (weights is None) + (policy is None) + (probability is None) != 2:
        raise click.UsageError("give one policy: `--weights`, `--policy`, or `--probability`")
    if cells and features:
        raise click.UsageError("a reward model takes `--cells` or `--features`, not both")
    asked = _Asked(weights, None if policy is None else _read_policy(policy), probability)
    basics = (action, reward, propensity)
    columns = read_columns(log, list(dict.fromkeys((*basics, *cells, *features, *asked.columns))))
    decisions = _log(columns, basics, cells, features)
    decisions, target = asked.on(decisions, columns)
    report = evaluate(decisions, target, alpha=alpha, clip=clip, least=least)
    _show(session, report)
    if asked.split:
        session.output.note("learned from the first half of the log, evaluated on the second; all rows as equally old")
    if report.refusal is not None:
        sys.exit(1)
    if decisions.cells is None and decisions.features is None:
        session.hint("intervals get narrower with what explains rewards: `--cells COLUMN` or `--features COLUMN`")
    else:
        session.hint("the numbers for a program: `--format json`")


@dataclass(frozen=True)
class _Asked:
    """The policy in one of its three forms."""

    weights: dict[str, float] | None
    policy: Policy | PolicySpec | None
    probability: str | None

    @property
    def split(self) -> bool:
        """Whether it has to learn first."""
        from crossfade.methods.bandits.spec import Spec

        return isinstance(self.policy, Spec)

    @property
    def columns(self) -> tuple[str, ...]:
        """What it needs of the log."""
        spec = self._contextual()
        if spec is not None:
            return tuple(feature.name for feature in spec.features)
        return () if self.probability is None else (self.probability,)

    def on(self, log: Log, columns: Columns) -> tuple[Log, Target]:
        """Return what it would do, and in which rows."""
        from crossfade.methods.bandits.offline import Trial, learned_from_half
        from crossfade.methods.bandits.spec import Spec
        from crossfade.methods.off_policy.target import Target

        if self.policy is None:
            if self.probability is not None:
                return log, Target.logged(log, numbers(columns, self.probability))
            return log, Target.fixed(log, self.weights or {})
        spec, contexts = self._contextual(), None
        if spec is not None:
            contexts = _matrix(columns, self.columns)
            if log.cells is None and log.features is None:
                log = replace(log, features=spec.filled(contexts))
        if isinstance(self.policy, Spec):
            trial = learned_from_half(self.policy, log, contexts)
        else:
            trial = Trial(self.policy, log, contexts)
        return trial.log, trial.target()

    def _contextual(self) -> ContextualSpec | None:
        from crossfade.methods.bandits.contextual import ContextualSpec

        spec = getattr(self.policy, "spec", self.policy)
        return spec if isinstance(spec, ContextualSpec) else None


def _read_policy(path: Path) -> Policy | PolicySpec:
    from crossfade.methods.bandits.policy import decode

    return decode(path.read_bytes())


def _log(columns: Columns, basics: tuple[str, str, str], cells: tuple[str, ...], features: tuple[str, ...]) -> Log:
    from crossfade.methods.off_policy.log import Log

    action, reward, propensity = basics
    return Log.of(
        texts(columns, action),
        numbers(columns, reward),
        numbers(columns, propensity),
        cells=list(zip(*(texts(columns, name) for name in cells), strict=True)) if cells else None,
        features=_matrix(columns, features) if features else None,
    )


def _matrix(columns: Columns, names: tuple[str, ...]) -> Array:
    import numpy as np

    return np.column_stack([numbers(columns, name) for name in names])


def _show(session: Session, report: PolicyReport) -> None:
    from crossfade.methods.off_policy.report import PolicyValue

    headings = ("method", "mean reward", "interval", "gain", "interval")
    rows = report.table()
    refused = report.refusal
    if refused is not None:
        rows.append(("not estimable", refused.reason, "", "", ""))
    found = [each for each in (report.values.get("dr"), report.values.get("snips")) if isinstance(each, PolicyValue)]
    session.show(report, Sheet(headings, rows, [f"{found[0].value:.6g}" if found else "not_estimable"]))
    session.output.note(report.basis())
    for warning in report.warnings:
        session.output.note(f"careful: {warning}")
