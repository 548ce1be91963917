"""What still needs a version: everything that would stop working, or change silently, if it were deleted."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from sqlalchemy import Connection, and_, or_, select

from crossfade.core.identity import ModelRef
from crossfade.registry.versions import Version
from crossfade.storage.tables import (
    ROUTED,
    UNFINISHED,
    candidates,
    config_versions,
    deployments,
    experiments,
    jobs,
    rollouts,
    safety_policies,
    version_parents,
)


def references_to(connection: Connection, version: Version) -> Iterator[str]:
    """Tell what needs a version, each in words."""
    yield from (f"alias `{alias}`" for alias in version.aliases)
    children = select(version_parents).where(version_parents.c.parent == version.ref).limit(4)
    yield from (f"its child `{row.model}:{row.semver}`" for row in connection.execute(children))
    waiting = and_(candidates.c.model == version.model, candidates.c.semver == version.version)
    if connection.scalar(select(candidates.c.semver).where(waiting)) is not None:
        yield "an alias move under way"
    predicting = and_(jobs.c.model == version.model, jobs.c.semver == version.version, jobs.c.state.in_(UNFINISHED))
    yield from (f"job `{row.id}`" for row in connection.execute(select(jobs.c.id).where(predicting).limit(4)))
    yield from _traffic(connection, version)
    yield from _rules(connection, version)


def _traffic(connection: Connection, version: Version) -> Iterator[str]:
    running = and_(experiments.c.model == version.model, experiments.c.status.in_(ROUTED))
    for row in connection.execute(select(experiments.c.name, experiments.c.routing).where(running)):
        if version.version in msgspec.json.decode(row.routing, type=_Routing).versions.values():
            yield f"experiment `{row.name}`"
    released = and_(rollouts.c.kind == "model", rollouts.c.subject == version.model, rollouts.c.routing.is_not(None))
    released = and_(released, or_(rollouts.c.stable == version.version, rollouts.c.candidate == version.version))
    yield from (f"rollout `{name}`" for name in connection.scalars(select(rollouts.c.name).where(released)))
    for row in connection.execute(select(deployments).where(deployments.c.model == version.model)):
        specs = [msgspec.json.decode(text, type=_Named) for text in (row.spec, row.previous) if text is not None]
        if version.version in [spec.version for spec in specs]:
            yield f"deployment `{row.name}`"


def _rules(connection: Connection, version: Version) -> Iterator[str]:
    spec = connection.scalar(select(safety_policies.c.spec).where(safety_policies.c.model == version.model))
    if spec is not None and _Named(version.version) in msgspec.json.decode(spec, type=_Policy).fallback:
        yield f"the safety policy of `{version.model}`"
    table, wanted = config_versions.c, ModelRef(version.model, version=version.version)
    read = select(table.name, table.number, table.validation).where(table.status.in_(_READ))
    for row in connection.execute(read.where(table.validation.is_not(None))):
        named = msgspec.json.decode(row.validation, type=_Findings).references
        if any(each.kind == "version" and ModelRef.parse(each.target) == wanted for each in named):
            yield f"version {row.number} of config `{row.name}`"


_READ = ("deploying", "active")
"""Statuses of a version of a config that programs read."""


class _Named(msgspec.Struct):
    """The part of what is stored of a deployment, or of a step of a fallback, that names a version."""

    version: str = ""


class _Routing(msgspec.Struct):
    """The part of what is stored of a running experiment that says which versions it needs."""

    versions: dict[str, str] = {}


class _Policy(msgspec.Struct):
    """The part of a safety policy that names versions."""

    fallback: tuple[_Named, ...] = ()


class _Reference(msgspec.Struct):
    """What a document names."""

    kind: str
    target: str


class _Findings(msgspec.Struct):
    """The part of what checks found that says what a document names."""

    references: tuple[_Reference, ...] = ()
