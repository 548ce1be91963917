"""Experiments as the database holds them: rows to records, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select, update

from crossfade.core.identity import ModelRef, Semver
from crossfade.errors import ExperimentConflictError, ExperimentNotFoundError, InvalidSemverError
from crossfade.experiments.learned import Learned
from crossfade.experiments.record import Experiment, Status, experiment_of, route_of
from crossfade.experiments.spec import ExperimentSpec
from crossfade.ledger.admission import is_slug
from crossfade.storage.tables import ROUTED, aliases, experiments, layers, rollouts, versions
from crossfade.traffic.allocation.allocation import Layer
from crossfade.traffic.allocation.allocations import Allocations, not_found
from crossfade.traffic.routing import ExperimentRoute


def find_row(connection: Connection, name: str) -> Row[Any] | None:
    """Return the row of an experiment, or None when there is none."""
    return connection.execute(select(experiments).where(experiments.c.name == name)).one_or_none()


def row_of(connection: Connection, name: str) -> Row[Any]:
    """Return the row of an experiment.

    Raises:
        ExperimentNotFoundError: There is none.
    """
    row = find_row(connection, name) if is_slug(name) else None
    if row is None:
        raise _unknown(connection, name)
    return row


def _unknown(connection: Connection, name: str) -> ExperimentNotFoundError:
    newest = select(experiments.c.name).order_by(experiments.c.number.desc()).limit(1000)
    return not_found(name, list(connection.scalars(newest)))


def describe(connection: Connection, row: Row[Any], at: datetime) -> Experiment:
    """Return an experiment as it is at a moment."""
    (found,) = describe_all(connection, [row], at)
    return found


def describe_all(connection: Connection, rows: Iterable[Row[Any]], at: datetime) -> list[Experiment]:
    """Return experiments as they are at a moment, each with whose units it does not get, and what is not shipped."""
    return _with_latches(connection, _with_those_before(connection, [experiment_of(row, at) for row in rows], at))


def _with_those_before(connection: Connection, found: list[Experiment], at: datetime) -> list[Experiment]:
    concerned = {each.model for each in found if each.model and each.status is Status.RUNNING}
    if not concerned:
        return found
    order = experiments.c.started_at, experiments.c.number  # as requests go through them
    runs = experiments.c.status == Status.RUNNING.value  # one that is paused lets its units go on to the next
    query = select(experiments).where(runs, experiments.c.model.in_(sorted(concerned)))
    deciding = [experiment_of(row, at) for row in connection.execute(query.order_by(*order))]
    return [msgspec.structs.replace(each, behind=_before(each, deciding)) for each in found]


def _before(experiment: Experiment, deciding: Sequence[Experiment]) -> tuple[str, ...]:
    """Return those on the same model that are asked first; those of the same layer take nothing away."""
    same = [each for each in deciding if each.model == experiment.model]
    earlier = takewhile(lambda each: each.name != experiment.name, same) if experiment.status is Status.RUNNING else ()
    return tuple(each.name for each in earlier if not each.spec.layer or each.spec.layer != experiment.spec.layer)


def _with_latches(connection: Connection, found: list[Experiment]) -> list[Experiment]:
    concerned = {each.model for each in found if each.model and each.status is not Status.DECIDED}
    latched = _latched(connection, sorted(concerned)) if concerned else {}
    if not latched:  # as nearly always
        return found
    return [
        each if each.status is Status.DECIDED else msgspec.structs.replace(each, latched=_latched_of(each, latched))
        for each in found
    ]


def _latched(connection: Connection, models: Sequence[str]) -> dict[tuple[str, str], str]:
    """Return (model, semver or alias) -> the rollout that rolled that version back, as long as it is latched."""
    same = (versions.c.model == rollouts.c.subject) & (versions.c.manifest_digest == rollouts.c.digest)
    query = select(versions.c.model, versions.c.semver, rollouts.c.name).join(rollouts, same)
    back = (rollouts.c.kind == "model") & rollouts.c.latched & rollouts.c.subject.in_(models)
    found = {(row.model, row.semver): row.name for row in connection.execute(query.where(back))}
    pointed = connection.execute(select(aliases).where(aliases.c.model.in_(models))) if found else ()
    by_alias = {(row.model, row.alias): found.get((row.model, row.semver)) for row in pointed}
    return found | {key: rollout for key, rollout in by_alias.items() if rollout is not None}


def _latched_of(experiment: Experiment, latched: Mapping[tuple[str, str], str]) -> dict[str, str]:
    named = {variant.name: variant.version for variant in experiment.spec.variants} | experiment.versions
    refs = {name: ref_of(experiment.model, version) for name, version in named.items()}
    found = {name: latched.get((ref.name, ref.version or ref.alias or "")) for name, ref in refs.items()}
    return {name: rollout for name, rollout in found.items() if rollout is not None}


def ref_of(model: str, version: str) -> ModelRef:
    """Return what a variant means by its version: a semver, or an alias."""
    try:
        return ModelRef(model, version=str(Semver.parse(version)))
    except InvalidSemverError:
        return ModelRef(model, alias=version)


def set_values(connection: Connection, name: str, values: Mapping[str, object]) -> None:
    """Change the row of an experiment."""
    connection.execute(update(experiments).where(experiments.c.name == name).values(**values))


def layers_of(connection: Connection) -> tuple[Layer, ...]:
    """Return the layers, in the order in which they were made."""
    bodies = connection.scalars(select(layers.c.body).order_by(layers.c.number))
    return tuple(msgspec.json.decode(body, type=Layer) for body in bodies)


def running(connection: Connection) -> Allocations:
    """Return everything that units are assigned by now."""
    query = select(experiments).where(experiments.c.status.in_(ROUTED)).order_by(experiments.c.number)
    routes = [started_route(row) for row in connection.execute(query)]
    return Allocations(layers_of(connection), tuple(route.allocation for route in routes))


def learned_of(connection: Connection, spec: ExperimentSpec) -> Learned | None:
    """Return what the bandit knows that another one shall be warm from."""
    if spec.bandit is None or not spec.bandit.warm_from:
        return None
    text = row_of(connection, spec.bandit.warm_from).learned
    if text is None:
        raise ExperimentConflictError(name=spec.bandit.warm_from, problem="has learned nothing to begin with")
    return msgspec.json.decode(text, type=Learned)


def spec_of(row: Row[Any]) -> ExperimentSpec:
    """Return what was asked for."""
    return msgspec.json.decode(row.spec, type=ExperimentSpec)


def started_route(row: Row[Any]) -> ExperimentRoute:
    """Return what serving knows about an experiment that has started."""
    route = route_of(row)
    assert route is not None  # noqa: S101 - whatever has started has one
    return route


def encoded(route: ExperimentRoute) -> str:
    """Return a route as a row holds it."""
    return msgspec.json.encode(route).decode()
