"""`crossfade experiments`: plan, start, watch, judge and end experiments."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crossfade.cli.assigning import assign
from crossfade.cli.experiment_sheets import bandit_sheet, experiment_sheet, history_sheet, layer_sheet, one_experiment
from crossfade.cli.models import cursor_option, limit_option
from crossfade.cli.off_policy import evaluate_policy
from crossfade.cli.output import facts
from crossfade.cli.planning import power
from crossfade.cli.session import Session, command

if TYPE_CHECKING:
    from crossfade.experiments.record import Experiment

OTHER_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".xlsx", ".arrow", ".feather")
"""What a file is called that is no Parquet file."""
STATUSES = ("draft", "running", "paused", "stopped", "decided")
reason_option = click.option("--reason", default="", help="Why; it is kept in the audit log.")
_EXAMPLE = """
\b
{
  "name": "late_flights", "model": "flight_delay",
  "variants": [
    {"name": "old", "weight": 0.5, "version": "1.0.0"},
    {"name": "new", "weight": 0.5, "version": "1.1.0"}
  ],
  "metrics": [
    {"name": "log_loss", "outcome": "late", "loss": "log", "direction": "down", "missing": "skip"},
    {"name": "error", "kind": "ratio", "denominator": "exposures", "role": "guardrail", "direction": "down"}
  ]
}
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def experiments() -> None:
    """Compare versions on live traffic, and be right: plan, start, watch, judge and end experiments."""


experiments.add_command(assign)
experiments.add_command(evaluate_policy)
experiments.add_command(power)


@command(experiments, changes=True)
@click.argument("spec", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def create(session: Session, spec: Path) -> None:
    """Write down the experiment in SPEC (JSON, TOML or YAML); nobody takes part before it is started."""
    from crossfade.cli.documents import read_spec
    from crossfade.client import verbs
    from crossfade.experiments.spec import ExperimentSpec

    wanted = read_spec(spec, ExperimentSpec, "crossfade experiments create --help")
    with session.client() as client:
        session.change(client, verbs.create_experiment(wanted), one_experiment, _next)


assert create.help is not None  # noqa: S101 - its docstring
create.help += f"\n\nFor example:\n{_EXAMPLE}"


@command(experiments, changes=True)
@click.argument("spec", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@reason_option
def amend(session: Session, spec: Path, reason: str) -> None:
    """Change an experiment to what SPEC says; once it has started, what its numbers depend on stays."""
    from crossfade.cli.documents import read_spec
    from crossfade.client import verbs
    from crossfade.experiments.spec import ExperimentSpec

    wanted = read_spec(spec, ExperimentSpec, "crossfade experiments create --help")
    call = verbs.amend_experiment(wanted, reason=reason)
    with session.client() as client:
        session.change(client, call, one_experiment, _next)


@command(experiments, changes=True)
@click.argument("name")
@reason_option
def start(session: Session, name: str, reason: str) -> None:
    """Let units take part, for the first time or after a pause, once every process has the versions ready."""
    from crossfade.client import verbs

    with session.client() as client:
        session.change(client, verbs.start_experiment(name, reason=reason), one_experiment, _next)


@command(experiments, changes=True)
@click.argument("name")
@reason_option
def pause(session: Session, name: str, reason: str) -> None:
    """Give everybody the champion for now; units keep their slots."""
    from crossfade.client import verbs

    with session.client() as client:
        session.change(client, verbs.pause_experiment(name, reason=reason), one_experiment, _next)


@command(experiments, changes=True)
@click.argument("name")
@click.option("--reason", required=True, help="Why; it is kept in the audit log.")
def stop(session: Session, name: str, reason: str) -> None:
    """End an experiment without a decision; everybody gets the champion."""
    from crossfade.client import verbs

    with session.client() as client:
        session.change(client, verbs.stop_experiment(name, reason=reason), one_experiment, _next)


@command(experiments, "list")
@click.option("--model", default="", help="Only those on this model.")
@click.option("--status", type=click.Choice(STATUSES), default=None, help="Only those with this status.")
@cursor_option
@limit_option
def list_(session: Session, model: str, status: str | None, cursor: str, limit: int) -> None:
    """List experiments, newest first."""
    with session.client() as client:
        page = client.experiments(model=model, status=status or "", cursor=cursor, limit=limit)
    session.show(page, experiment_sheet(page.items).narrowed(model, status))
    if page.next_cursor:
        session.hint(f"more with `crossfade experiments list --cursor {page.next_cursor}`")
    elif page.items:
        session.hint(f"see one with `crossfade experiments show {page.items[0].name}`")
    else:
        session.hint("write one down with `crossfade experiments create SPEC_FILE`")


@command(experiments)
@click.argument("name")
def show(session: Session, name: str) -> None:
    """Show an experiment."""
    with session.client() as client:
        found = client.experiment(name)
    session.show(found, one_experiment(found))
    session.hint(_next(found))


@command(experiments)
@click.argument("name")
@click.option("--learned", is_flag=True, help="Also the weights that a bandit has set by itself.")
@cursor_option
@limit_option
def history(session: Session, name: str, *, learned: bool, cursor: str, limit: int) -> None:
    """List what was done to an experiment, newest first: who, when, why."""
    with session.client() as client:
        page = client.experiment_history(name, learned=learned, cursor=cursor, limit=limit)
    session.show(page, history_sheet(page.items))
    if page.next_cursor:
        which = f"{name} --learned" if learned else name
        session.hint(f"more with `crossfade experiments history {which} --cursor {page.next_cursor}`")
    else:
        session.hint(f"see where it is with `crossfade experiments show {name}`")


@command(experiments)
@click.argument("name")
def analyze(session: Session, name: str) -> None:
    """Say what the evidence says, whether it can be trusted, what follows, and what is still missing."""
    from crossfade.cli.analysis_view import decision_sheet, effects_sheet

    with session.client() as client:
        report = client.analyze_experiment(name)
        follows = report.decision.action in {"ship", "keep", "stop"} and client.experiment(name).verdict is None
    session.show(report, decision_sheet(report))
    if session.output.style not in {"json", "quiet"}:
        session.show(report, effects_sheet(report))
    if follows:
        session.hint(f"do it with `crossfade experiments decide {name}`")
    else:
        session.hint(f"see the experiment with `crossfade experiments show {name}`")


@command(experiments, changes=True)
@click.argument("name")
@click.option("--ship", default="", metavar="VARIANT", help="Give this variant to everybody.")
@click.option("--keep", is_flag=True, help="Keep the champion.")
@reason_option
def decide(session: Session, name: str, *, ship: str, keep: bool, reason: str) -> None:
    """End an experiment by a decision: what the analysis says, unless an option says otherwise."""
    from crossfade.client import verbs

    if ship and keep:
        raise click.UsageError("`--ship` and `--keep` exclude each other")
    call = verbs.decide_experiment(name, "ship" if ship else "keep" if keep else "", variant=ship, reason=reason)
    with session.client() as client:
        session.change(client, call, one_experiment, _next)


@command(experiments, changes=True)
@click.argument("name")
@click.argument("weights", nargs=-1, metavar="[VARIANT=WEIGHT]...")
@click.option("--coverage", type=float, default=None, help="Fraction of its units that takes part.")
@reason_option
def reweight(session: Session, name: str, weights: tuple[str, ...], coverage: float | None, reason: str) -> None:
    """Change weights (`old=0.2 new=0.8`) or coverage; no unit leaves a variant whose part does not shrink."""
    from crossfade.client import verbs

    wanted = dict(map(_weight, weights)) or None
    if len(wanted or ()) < len(weights):
        raise click.UsageError("a variant has two weights")
    if wanted is None and coverage is None:
        raise click.UsageError("say new weights, such as `old=0.2 new=0.8`, or `--coverage`")
    call = verbs.reweight_experiment(name, wanted, coverage=coverage, reason=reason)
    with session.client() as client:
        session.change(client, call, one_experiment, _next)


@command(experiments)
@click.argument("name")
@click.option(
    "--to", "target", required=True, type=click.Path(dir_okay=False, path_type=Path), help="A Parquet file to write."
)
@click.option("--reward", default="", metavar="OUTCOME", help="One row for each decision, with what it earned of this.")
def export(session: Session, name: str, target: Path, reward: str) -> None:
    """Write the exposures and outcomes of an experiment to a Parquet file, or its decisions with their rewards."""
    if target.suffix.lower() in OTHER_TABLES:
        raise click.UsageError(f"`{target}` would be a Parquet file: call it `{target.with_suffix('.parquet').name}`")
    with session.client() as client:
        client.export_experiment(name, target, reward=reward)
    session.show(str(target), facts([("file", str(target))], name=str(target)))
    if reward:
        session.hint(f"judge others by it: `crossfade experiments evaluate-policy {target} --weights A=0.5,B=0.5`")
    else:
        session.hint(f"read it with `polars.read_parquet('{target}')`")


@command(experiments)
@click.argument("name")
def bandit(session: Session, name: str) -> None:
    """Show what a bandit has learned: the weights that follow, and how likely each variant is the best."""
    with session.client() as client:
        report = client.bandit(name)
    session.show(report, bandit_sheet(report))
    session.hint(f"see the experiment with `crossfade experiments show {name}`")


@command(experiments, "layer", changes=True)
@click.argument("name")
@click.option("--unit", default="unit_id", show_default=True, help="What its experiments are sticky to.")
@click.option("--holdout", type=float, default=0.0, show_default=True, help="Fraction that never takes part.")
@click.option("--root", default="", help="Another layer whose holdout counts here, too.")
def layer(session: Session, name: str, *, unit: str, holdout: float, root: str) -> None:
    """Make a layer: each unit is in one of its experiments at most."""
    from crossfade.client import verbs
    from crossfade.traffic.allocation.specs import LayerSpec

    call = verbs.create_layer(LayerSpec(name, unit=unit, holdout=holdout, root=root))
    with session.client() as client:
        session.change(
            client, call, lambda made: layer_sheet((made,)), lambda _: "see all with `crossfade experiments layers`"
        )


@command(experiments)
def layers(session: Session) -> None:
    """List layers: how much of each is held out, belongs to which experiment, and is free."""
    with session.client() as client:
        found = client.layers()
    session.show(found, layer_sheet(found))
    session.hint("make one with `crossfade experiments layer NAME`")


def _weight(text: str) -> tuple[str, float]:
    name, _, weight = text.rpartition("=")
    try:
        value = float(weight)
    except ValueError:
        value = math.nan
    if not name or not math.isfinite(value):
        raise click.UsageError(f"`{text}` is no weight such as `new=0.8`")
    return name, value


def _next(found: Experiment) -> str:
    if not found.latched:
        return _verb(found)
    rollout = next(iter(found.latched.values()))
    return f"{found.caution}: see `crossfade rollouts show {rollout}`; {_verb(found)}"


def _verb(found: Experiment) -> str:
    if found.status == "draft":
        return f"let it run with `crossfade experiments start {found.name}`"
    if found.status == "running" and found.behind:
        first = ", ".join(f"`{name}`" for name in found.behind)
        return f"{first} gets its units first; for units of its own see `crossfade experiments layer --help`"
    if found.status == "running":
        return f"look at the evidence with `crossfade experiments analyze {found.name}`"
    verdict = found.verdict
    if verdict is not None and verdict.action == "ship" and found.spec.decision.plan:
        return f"it is shipped by a rollout: `crossfade rollouts watch {found.model}`"
    if found.status == "paused":
        return f"go on with `crossfade experiments start {found.name}`"
    return "see all with `crossfade experiments list`"
