"""`crossfade deployments`: let versions run with replicas, and see how they do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crossfade.cli.deployment_sheets import (
    deployment_sheet,
    health_sheet,
    one_deployment,
    replica_sheet,
    undeployed_sheet,
)
from crossfade.cli.models import cursor_option, limit_option
from crossfade.cli.session import Session, command

if TYPE_CHECKING:
    from crossfade.releases.deployment import Deployment, DeploymentSpec

STATUSES = ("deploying", "running", "rolled_back", "failed")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def deployments() -> None:
    """Let versions run with replicas of their own, and see how they do. Traffic is moved elsewhere."""


@command(deployments, changes=True)
@click.argument("ref", required=False)
@click.option("--file", "spec", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A specification.")
@click.option("--name", default="", help="Of the deployment; default: the model and the environment.")
@click.option("--environment", default="production", show_default=True, help="Whose serving processes run it.")
@click.option("--replicas", type=int, default=1, show_default=True, help="Fewest copies in each process.")
@click.option("--max-replicas", type=int, default=0, help="Most copies; default: as many as the fewest.")
@click.option("--cpu", type=int, default=0, help="Processors of each copy; default: all.")
@click.option("--memory", default="0", help="Memory of each copy, such as 512Mi; default: as the settings say.")
@click.option("--gpu", type=int, default=0, help="GPUs of each copy.")
@click.option("--probe-interval", type=float, default=10.0, show_default=True, help="Seconds between probes.")
@click.option(
    "--probe-timeout", type=float, default=5.0, show_default=True, help="Seconds that a probe of an idle copy may take."
)
@click.option("--failure-threshold", type=int, default=3, show_default=True, help="Probes that may fail in a row.")
@click.option("--target", type=float, default=0.7, show_default=True, help="How busy copies shall be, 0.05 to 1.")
@click.option("--no-rollback", is_flag=True, help="Do not go back to what ran before when this does not come up.")
@click.option("--reason", default="", help="Why; it is kept in the audit log.")
def deploy(session: Session, ref: str | None, spec: Path | None, reason: str, **options: object) -> None:
    """Let a version run, such as `churn:1.2.0`, or whatever an alias points to: `churn@champion`."""
    from crossfade.client import verbs

    if (ref is None) == (spec is None):
        raise click.UsageError("name a version, such as `churn:1.2.0`, or a specification with `--file`")
    if spec is not None:
        from crossfade.cli.documents import read_spec
        from crossfade.releases.deployment import DeploymentSpec

        wanted = read_spec(spec, DeploymentSpec, "crossfade deployments deploy --help")
    else:
        wanted = _spec(ref or "", **options)  # type: ignore[arg-type]  # click has checked their types
    with session.client() as client:
        session.change(client, verbs.deploy(wanted, reason=reason), one_deployment, _next)


@command(deployments, "list")
@click.option("--model", default="", help="Only those of this model.")
@click.option("--environment", default="", help="Only those in this environment.")
@click.option("--status", type=click.Choice(STATUSES), default=None, help="Only those with this status.")
@cursor_option
@limit_option
def list_(session: Session, model: str, environment: str, status: str | None, cursor: str, limit: int) -> None:
    """List deployments, newest first."""
    with session.client() as client:
        page = client.deployments(model=model, environment=environment, status=status or "", cursor=cursor, limit=limit)
    session.show(page, deployment_sheet(page.items).narrowed(model, environment, status))
    if page.next_cursor:
        session.hint(f"more with `crossfade deployments list --cursor {page.next_cursor}`")
    elif page.items:
        session.hint(f"see how one is with `crossfade deployments status {page.items[0].name}`")
    else:
        session.hint("let a version run with `crossfade deployments deploy MODEL:VERSION`")


@command(deployments)
@click.argument("name")
def status(session: Session, name: str) -> None:
    """Show what shall run, and how the replicas are in every serving process."""
    with session.client() as client:
        found = client.deployment(name)
    session.show(found, one_deployment(found.deployment))
    if session.output.style not in {"json", "quiet"}:
        session.show(found, replica_sheet(found.processes))
    session.hint(f"see how it does with `crossfade deployments health {name}`")


@command(deployments)
@click.argument("name")
def health(session: Session, name: str) -> None:
    """Show requests, latency, errors and resources over the last minute, five minutes and hour."""
    with session.client() as client:
        found = client.deployment_health(name)
    session.show(found, health_sheet(found))
    session.hint(f"see its replicas with `crossfade deployments status {name}`")


@command(deployments, changes=True)
@click.argument("name")
@click.option("--reason", default="", help="Why; it is kept in the audit log.")
def undeploy(session: Session, name: str, reason: str) -> None:
    """Forget a deployment; its version goes on without replicas if an alias points to it, else it goes."""
    from crossfade.client import verbs

    with session.client() as client:
        call = verbs.undeploy(name, reason=reason)
        left = "see what is left with `crossfade deployments list`"
        session.change(client, call, lambda found: undeployed_sheet(found, reason), lambda _: left)


def _spec(
    ref: str,
    *,
    name: str,
    environment: str,
    replicas: int,
    max_replicas: int,
    cpu: int,
    memory: str,
    gpu: int,
    probe_interval: float,
    probe_timeout: float,
    failure_threshold: int,
    target: float,
    no_rollback: bool,
) -> DeploymentSpec:
    from crossfade.core.identity import CHAMPION, ModelRef
    from crossfade.releases.deployment import DeploymentSpec
    from crossfade.traffic.deployed import Probe, ReplicaRange, Resources

    parsed = ModelRef.parse(ref)
    return DeploymentSpec(
        name or f"{parsed.name}_{environment}",
        parsed.name,
        parsed.version or parsed.alias or CHAMPION,
        environment=environment,
        replicas=ReplicaRange(replicas, max_replicas),
        resources=Resources(cpu, _bytes(memory), gpu),
        probe=Probe(probe_interval, probe_timeout, failure_threshold),
        target_utilisation=target,
        rollback_on_error=not no_rollback,
    ).checked()


def _bytes(text: str) -> int:
    """Return how many bytes `512Mi`, `4G` or `1000` are."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise click.UsageError(f"`{text}` is no amount of memory such as `512Mi` or `4Gi`")
    number, unit, binary = found[1], found[2].upper(), found[3]
    return int(float(number) * (1024 if binary else 1000) ** ("KMGT".index(unit) + 1 if unit else 0))


def _next(found: Deployment) -> str:
    return f"see whether it comes up with `crossfade deployments status {found.name}`"
