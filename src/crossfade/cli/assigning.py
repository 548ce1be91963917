"""`crossfade experiments assign`: who would get which variant by a specification in a file, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from crossfade.cli.output import Sheet
from crossfade.cli.session import Session, command
from crossfade.errors import InvalidExperimentError, InvalidLayerError

if TYPE_CHECKING:
    from crossfade.traffic.allocation.allocations import Allocations
    from crossfade.traffic.allocation.decisions import Decision
    from crossfade.traffic.allocation.specs import AllocationSpec

T = TypeVar("T")
_SEE = "crossfade experiments assign --help"


@command(name="assign", remote=False)
@click.argument("spec", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--unit", "units", multiple=True, metavar="UNIT", help="Who asks; repeatable.")
@click.option("--context", default="{}", metavar="JSON", help="What else is known about the request: an object.")
@click.option("--experiment", default="", metavar="NAME", help="Only this one.")
@click.option("--request-id", default=None, metavar="ID", help="What experiments draw by that are not sticky.")
@click.option(
    "--at", type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d"]), default=None, help="When; default: now."
)
def assign(
    session: Session,
    spec: Path,
    *,
    units: tuple[str, ...],
    context: str,
    experiment: str,
    request_id: str | None,
    at: datetime | None,
) -> None:
    """Say which variant units get by SPEC (JSON, TOML or YAML), and why; nothing is stored and no server is asked.

    SPEC holds one experiment as `crossfade experiments create` takes it, or `experiments` and the `layers` that they
    share. A bandit is as it begins.
    """
    import msgspec

    from crossfade.cli.documents import read_context
    from crossfade.core.clock import utc_now
    from crossfade.traffic.allocation.assignment import Assigner

    allocations = _allocations(spec)
    moment = utc_now() if at is None else at.replace(tzinfo=at.tzinfo or UTC)
    assigner = Assigner(allocations, moment)
    attributes = read_context(context, _SEE)
    names = [experiment] if experiment else list(assigner.experiments)
    decided = [
        (unit, assigner.decide(name, unit, attributes, request_id)) for unit in (units or (None,)) for name in names
    ]
    answer = [{"unit": unit, **msgspec.to_builtins(decision)} for unit, decision in decided]
    session.show(answer, Sheet(("unit", "experiment", "variant", "reason", "propensity", "why"), [*map(_row, decided)]))
    if not units:
        session.hint(f"say who asks: `crossfade experiments assign {spec} --unit SOMEBODY`")


def _row(decided: tuple[str | None, Decision]) -> tuple[str, ...]:
    unit, decision = decided
    propensity = f"{decision.propensity:.4g}"
    return (unit or "", decision.experiment, decision.variant, decision.reason.value, propensity, decision.words)


def _allocations(path: Path) -> Allocations:
    from crossfade.cli.documents import read_document
    from crossfade.traffic.allocation.allocations import Allocations, AllocationsSpec

    document = read_document(path, _SEE)
    several = isinstance(document, dict) and isinstance(document.get("experiments"), list)
    layers = _converted(path, document | {"experiments": []}, AllocationsSpec).layers if several else ()
    experiments = tuple(_allocation(path, each) for each in (document["experiments"] if several else [document]))
    known = {layer.name for layer in layers}
    for name in (experiment.layer for experiment in experiments if experiment.layer not in {"", *known}):
        problem = f"it is not in `{path.name}`, which has to hold the `experiments` and the `layers` that they share"
        raise InvalidLayerError(name=name[:80], problem=problem)
    return Allocations.of(AllocationsSpec(experiments, layers))


def _allocation(path: Path, document: Any) -> AllocationSpec:
    from crossfade.experiments.spec import ExperimentSpec
    from crossfade.traffic.allocation.specs import AllocationSpec

    if isinstance(document, dict) and "hash" in document:  # which experiments of a server do not choose
        return _converted(path, document, AllocationSpec)
    return _converted(path, document, ExperimentSpec).checked().allocation()


def _converted(path: Path, document: Any, kind: type[T]) -> T:
    import msgspec

    from crossfade.core.decoding import problem_of

    try:
        return msgspec.convert(document, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        problem = f"it is no specification ({problem_of(error, kind)})"
        raise InvalidExperimentError(name=path.name, problem=problem) from error
