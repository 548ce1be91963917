"""`Snapshot`: what every serving process needs to know, immutable, with a revision.

A request pins one snapshot; nothing on the request path asks the database. Routes are built from the registry backend,
one model at a time, so that a change costs as much as the models it names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from itertools import islice

import msgspec
from sqlalchemy import select

from crossfade.core.hashing import canonical_json, sha256
from crossfade.core.identity import CHAMPION
from crossfade.errors import ModelNotFoundError
from crossfade.registry.histories import way_back
from crossfade.registry.port import RegistryBackend
from crossfade.registry.versions import REJECTED, RegisteredModel, Version
from crossfade.safety.records import SAFETY, read_rules
from crossfade.safety.rules import Rules
from crossfade.safety.specs import OtherVersion, SafetyPolicySpec
from crossfade.storage.database import Database
from crossfade.storage.migrate import migrate
from crossfade.storage.tables import (
    ACTIVE,
    DECIDED,
    OVER,
    ROUTED,
    UNFINISHED,
    cache_generations,
    candidates,
    changes,
    deployments,
    experiments,
    jobs,
    layers,
    rollouts,
    safety_policies,
)
from crossfade.traffic.allocation.allocation import Layer
from crossfade.traffic.allocation.decisions import Decision
from crossfade.traffic.deployed import Deployed, wishes_of
from crossfade.traffic.routing import ExperimentRoute, Router, Traffic, decided_flag

_HISTORY = 100
"""Alias moves looked at to find former versions."""
_FORMER = 5
"""Former versions of an alias that may answer in its stead."""
_PAGE = 500
_OVER = 1_000
"""Experiments that have ended whose names are known to processes, and decided flags that go on being answered."""
EXPERIMENT, LAYER, ROLLOUT = "experiment", "layer", "rollout"
"""Kinds of changes after which traffic is read anew."""


class Role(IntEnum):
    """Why a version shall be loaded; the smaller, the more urgent."""

    ACTIVE = 0
    """An alias points to it."""
    VARIANT = 1
    """An experiment or a rollout sends requests to it, or a safety policy falls back to it."""
    DEPLOYED = 2
    """A deployment says how it runs."""
    CANDIDATE = 3
    """An alias is about to point to it."""
    JOB = 4
    """A batch job is not finished that it answers."""
    WARM = 5
    """It was champion, and a rollback shall be fast."""


class Aspired(msgspec.Struct, frozen=True):
    """A version that every process shall have ready.

    Args:
        version: Its semver.
        manifest_digest: Its identity; a semver that was deleted and registered again has another one.
        size_bytes: Of its files: the estimate of the memory it takes.
        role: Why.
        requested_at: When a switch asked for it as a candidate: a new request deserves a new attempt.
        number: Its order of registration.
        deployments: How it shall run in serving processes of some environments; elsewhere as it would without.
    """

    version: str
    manifest_digest: str
    size_bytes: int
    role: Role
    requested_at: str = ""
    number: int = 0
    deployments: tuple[Deployed, ...] = ()

    def within(self, environment: str) -> Aspired | None:
        """Return what the processes of an environment shall have of it, with its oldest deployment there; or None."""
        there = tuple(each for each in self.deployments if each.environment == environment)[:1]
        if self.role is Role.DEPLOYED and not there:
            return None
        return self if there == self.deployments else msgspec.structs.replace(self, deployments=there)

    @property
    def terms(self) -> Deployed | None:
        """How it shall run, when a deployment says so; of a wish within an environment."""
        return self.deployments[0] if self.deployments else None


class Route(msgspec.Struct, frozen=True):
    """Who answers for one model.

    Args:
        name: The model.
        champion: The semver behind the bare name, or None.
        aliases: Alias -> semver.
        aspired: What shall be loaded, most urgent first; empty when `unloaded`.
        former: Alias -> where it pointed before, best first: these may answer while the alias's own version cannot.
        unloaded: Whether somebody asked not to serve the model.
        generations: Semver -> revision of its newest invalidation; the empty semver stands for every version.
    """

    name: str
    champion: str | None = None
    aliases: Mapping[str, str] = {}
    aspired: tuple[Aspired, ...] = ()
    former: Mapping[str, tuple[str, ...]] = {}
    unloaded: bool = False
    generations: Mapping[str, int] = {}

    def generation(self, version: str) -> int:
        """Return the revision since which answers of a version may be given again; 0 when it was never invalidated."""
        return max(self.generations.get(version, 0), self.generations.get("", 0))


_UNDER_WAY = (rollouts.c.kind == "model") & rollouts.c.routing.is_not(None)
"""Rollouts whose versions are loaded: also for a while after their end."""
_NO_TRAFFIC = Traffic()
_NO_ROUTER = Router(_NO_TRAFFIC)
_NO_RULES = Rules()


@dataclass(frozen=True)
class Snapshot:
    """The routes of all models at one revision.

    Args:
        revision: See above.
        models: Name -> route.
        traffic: The experiments that run.
        router: The same, compiled for the present.
        safety: Policies, overrides and emergencies.

    It holds at least every change up to `revision`; a model that changed while it was read may be newer, and is read
    again at the next revision. The pointers of one model always come from one read.

    Example:
        >>> Snapshot(7, {"churn": Route("churn", champion="1.0.0")}).route("churn").champion
        '1.0.0'
    """

    revision: int = -1
    models: Mapping[str, Route] = field(default_factory=dict)
    traffic: Traffic = _NO_TRAFFIC
    router: Router = field(default=_NO_ROUTER, compare=False, repr=False)
    safety: Rules = _NO_RULES

    @cached_property
    def digest(self) -> str:
        """The same for the same routes, whatever the revision."""
        return sha256(canonical_json([self.models, self.traffic, self.safety]))

    def route(self, name: str) -> Route:
        """Return the route of a model.

        Raises:
            ModelNotFoundError: There is no such model.
        """
        route = self.models.get(name)
        if route is None:
            raise ModelNotFoundError(name=name)
        return route


class SnapshotSource:
    """Reads snapshots: whole at first, then only what changed."""

    def __init__(self, backend: RegistryBackend, database: Database, *, keep_previous: int) -> None:
        self._backend = backend
        self._database = database
        self._keep_previous = keep_previous
        self._migrated = False

    def revision(self) -> int:
        """Return the newest revision. The first time, the database gets the schema of this release.

        A process that started while the database was away could not do that then.
        """
        if not self._migrated:
            migrate(self._database)
            self._migrated = True
        return self._database.revision()

    def read(self, revision: int) -> Snapshot:
        """Build everything."""
        with self._database.view():
            notes = self._notes()
            found = (self._route(model, notes.get(model.name, _Notes())) for model in self._all_models())
            models = {route.name: route for route in found}
            return Snapshot(revision, models, self._traffic(), safety=self._rules())

    def follow(self, known: Snapshot, revision: int) -> Snapshot:
        """Build `known` anew for the models that changed after it."""
        with self._database.view():
            changed = self._changed(known.revision, revision)
            names = sorted({name for _, name in changed if name})
            moved = any(kind in {EXPERIMENT, LAYER, ROLLOUT} for kind, _ in changed)
            traffic = self._traffic() if moved else known.traffic
            safety = self._rules() if any(kind == SAFETY for kind, _ in changed) else known.safety
            models = self._models(known, names) if names else known.models
        return Snapshot(revision, models, traffic, safety=safety)

    def _models(self, known: Snapshot, names: list[str]) -> dict[str, Route]:
        notes = self._notes(names)
        routes = dict(known.models)
        for name in names:
            model = self._backend.find_model(name)
            if model is None:
                routes.pop(name, None)
            else:
                routes[name] = self._route(model, notes.get(name, _Notes()))
        return routes

    def _rules(self) -> Rules:
        with self._database.read() as connection:
            return read_rules(connection)

    def _traffic(self) -> Traffic:
        # whoever starts later takes no unit away from those that run
        order = experiments.c.started_at, experiments.c.number
        running = select(experiments.c.routing).where(experiments.c.status.in_(ROUTED)).order_by(*order)
        ended = select(experiments.c.name).where(experiments.c.status.in_(OVER))
        flags = select(experiments.c.routing, experiments.c.decision)
        flags = flags.where(experiments.c.status == DECIDED, experiments.c.model == "")
        newest = experiments.c.number.desc()
        with self._database.read() as connection:
            routes = connection.scalars(running).all()
            over = connection.scalars(ended.order_by(newest).limit(_OVER)).all()
            decided = connection.execute(flags.order_by(newest).limit(_OVER)).all()
            bodies = connection.scalars(select(layers.c.body).order_by(layers.c.number)).all()
            under_way = select(rollouts.c.routing).where(_UNDER_WAY, rollouts.c.status.in_(ACTIVE))
            released = connection.scalars(under_way.order_by(rollouts.c.number)).all()
        return Traffic(
            tuple(msgspec.json.decode(body, type=Layer) for body in bodies),
            tuple(msgspec.json.decode(route, type=ExperimentRoute) for route in routes if route is not None),
            tuple(msgspec.json.decode(route, type=ExperimentRoute) for route in released if route is not None),
            tuple(over),
            tuple(_decided_flag(row.routing, row.decision) for row in decided),
        )

    def _all_models(self) -> Iterable[RegisteredModel]:
        cursor = ""
        while True:
            page = self._backend.list_models(cursor=cursor, limit=_PAGE)
            yield from page.items
            cursor = page.next_cursor
            if not cursor:
                return

    def _changed(self, after: int, until: int) -> list[tuple[str, str]]:
        """Return (kind, model) of everything that changed."""
        query = select(changes.c.kind, changes.c.model)
        query = query.where(changes.c.revision > after, changes.c.revision <= until).distinct()
        with self._database.read() as connection:
            return [(row.kind, row.model) for row in connection.execute(query)]

    def _notes(self, names: list[str] | None = None) -> dict[str, _Notes]:
        requests = select(candidates).order_by(candidates.c.requested_at)
        invalidations = select(cache_generations)
        unfinished = select(jobs.c.model, jobs.c.semver).where(jobs.c.state.in_(UNFINISHED)).distinct()
        running = select(experiments.c.model, experiments.c.routing).where(experiments.c.status.in_(ROUTED))
        released = select(rollouts.c.subject, rollouts.c.routing).where(_UNDER_WAY)
        policies = select(safety_policies.c.model, safety_policies.c.spec)
        deployed = select(deployments.c.model, deployments.c.generation, deployments.c.spec, deployments.c.previous)
        if names is not None:
            deployed = deployed.where(deployments.c.model.in_(names))
            requests = requests.where(candidates.c.model.in_(names))
            invalidations = invalidations.where(cache_generations.c.model.in_(names))
            unfinished = unfinished.where(jobs.c.model.in_(names))
            running = running.where(experiments.c.model.in_(names))
            released = released.where(rollouts.c.subject.in_(names))
            policies = policies.where(safety_policies.c.model.in_(names))
        notes: defaultdict[str, _Notes] = defaultdict(_Notes)
        with self._database.read() as connection:
            for row in connection.execute(requests):
                notes[row.model].requested[row.semver] = row.requested_at
            for row in connection.execute(invalidations):
                notes[row.model].generations[row.semver] = row.generation
            for row in connection.execute(unfinished.order_by(jobs.c.model, jobs.c.semver)):
                notes[row.model].jobs.append(row.semver)
            for row in connection.execute(running.order_by(experiments.c.number)):
                notes[row.model].variants.extend(msgspec.json.decode(row.routing, type=_Versions).versions.values())
            for row in connection.execute(released.order_by(rollouts.c.number)):
                notes[row.subject].variants.extend(msgspec.json.decode(row.routing, type=_Versions).versions.values())
            for row in connection.execute(policies):
                chain = msgspec.json.decode(row.spec, type=SafetyPolicySpec).fallback
                notes[row.model].variants.extend(step.version for step in chain if isinstance(step, OtherVersion))
            for row in connection.execute(deployed.order_by(deployments.c.number)):
                notes[row.model].deployed.extend(wishes_of(row.generation, row.spec, row.previous))
        return notes

    def _route(self, model: RegisteredModel, notes: _Notes) -> Route:
        requested = notes.requested
        reading = _Reading(self._backend, model.name)
        champion = model.aliases.get(CHAMPION)
        pointed = {alias: reading.pointed(alias, current) for alias, current in model.aliases.items()}
        deployed: defaultdict[str, list[Deployed]] = defaultdict(list)
        for version, terms in notes.deployed:
            deployed[model.aliases.get(version, version)].append(terms)
            for semver in requested if version in model.aliases else ():  # it may be about to be what the alias means
                deployed[semver].append(terms)
        named = {*model.aliases.values(), *requested, *deployed, *notes.jobs, *notes.variants}
        reading.fetch(sorted(named.union(*(names[:_FORMER] for names in pointed.values()))))
        former = {alias: reading.former(names) for alias, names in pointed.items()}
        wanted = dict.fromkeys(former.get(CHAMPION, ())[: self._keep_previous], Role.WARM)
        wanted |= dict.fromkeys(notes.jobs, Role.JOB)
        wanted |= dict.fromkeys(deployed, Role.DEPLOYED)
        wanted |= dict.fromkeys(requested, Role.CANDIDATE)
        wanted |= dict.fromkeys(notes.variants, Role.VARIANT)
        wanted |= dict.fromkeys(model.aliases.values(), Role.ACTIVE)
        urgent = sorted(wanted, key=lambda semver: (wanted[semver], semver != champion))
        found = {} if model.unloaded else {semver: reading.usable(semver) for semver in urgent}
        return Route(
            name=model.name,
            champion=champion,
            aliases=dict(model.aliases),
            aspired=tuple(
                Aspired(
                    semver,
                    version.manifest_digest,
                    version.size_bytes,
                    wanted[semver],
                    requested.get(semver, ""),
                    version.number,
                    tuple(deployed.get(semver, ())),
                )
                for semver, version in found.items()
                if version is not None
            ),
            former=former,
            unloaded=model.unloaded,
            generations=notes.generations,
        )


@dataclass(frozen=True)
class _Notes:
    """What the database says about one model besides its record.

    Wishes (semver -> when), invalidations, the semvers that jobs, experiments, rollouts and safety policies need, and
    what deployments name.
    """

    requested: dict[str, str] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)
    variants: list[str] = field(default_factory=list)
    deployed: list[tuple[str, Deployed]] = field(default_factory=list)


class _Shipped(msgspec.Struct):
    """The part of a verdict that flags are made of."""

    variant: str = ""


def _decided_flag(routing: str, verdict: str) -> Decision:
    shipped = msgspec.json.decode(verdict, type=_Shipped).variant
    return decided_flag(msgspec.json.decode(routing, type=ExperimentRoute), shipped)


class _Versions(msgspec.Struct):
    """The part of an `ExperimentRoute` that routes of models are made of."""

    versions: dict[str, str] = {}


class _Reading:
    """The versions of one model, each read once."""

    def __init__(self, backend: RegistryBackend, name: str) -> None:
        self._backend = backend
        self._name = name
        self._known: dict[str, Version | None] = {}

    def fetch(self, semvers: Iterable[str]) -> None:
        """Read versions that will be asked for, together."""
        missing = [semver for semver in semvers if semver not in self._known]
        found = self._backend.find_versions(self._name, missing) if missing else dict[str, Version]()
        for semver in missing:
            version = found.get(semver)
            self._known[semver] = None if version is None or version.stage == REJECTED else version

    def usable(self, semver: str) -> Version | None:
        """Return the version unless it is gone or rejected."""
        self.fetch((semver,))
        return self._known[semver]

    def pointed(self, alias: str, current: str) -> list[str]:
        """Return where the alias pointed before: first where rolling back leads, then what was withdrawn."""
        newest_first = self._backend.alias_history(self._name, alias, limit=_HISTORY).items
        pointed = dict.fromkeys(reversed(way_back(reversed(newest_first))))
        pointed |= dict.fromkeys(semver for move in newest_first for semver in (move.target, move.source) if semver)
        pointed.pop(current, None)
        return list(pointed)

    def former(self, pointed: Iterable[str]) -> tuple[str, ...]:
        """Return the first of them that can still answer."""
        usable = (semver for semver in pointed if self.usable(semver) is not None)
        return tuple(islice(usable, _FORMER))
