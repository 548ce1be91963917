"""`PredictionService`: from a reference and tensors to the answer of exactly one version.

A request looks at one snapshot and holds on to one slot from entry to answer. While the version behind an alias is not
ready in this process, the best former version of that alias that still is answers in its stead, and the prediction says
so; switches make this rare: it takes a process that starts with a broken champion.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import msgspec

from crossfade.core.identity import CHAMPION, ModelRef
from crossfade.core.tensors import Signature
from crossfade.errors import (
    AliasNotFoundError,
    CrossfadeError,
    DrainingError,
    MalformedRequestError,
    ModelNotFoundError,
    NotServedError,
    QuotaExceededError,
    UnavailableError,
    VersionNotFoundError,
)
from crossfade.registry.port import RegistryBackend
from crossfade.registry.registry import LOCAL
from crossfade.registry.versions import Version
from crossfade.serving.cache import ResponseCache
from crossfade.serving.counters import Counters
from crossfade.serving.enrolment import Enroller
from crossfade.serving.holding import DEFAULT_TERMS, Grant, HeldVersion, Holder, Terms, told
from crossfade.serving.measurements import Measurements
from crossfade.serving.quota import Quota
from crossfade.serving.slots import Slot, SlotTable, State
from crossfade.settings import ServingSettings
from crossfade.storage.database import Database
from crossfade.traffic.follower import SnapshotFollower
from crossfade.traffic.routing import Asker
from crossfade.traffic.snapshot import Route
from crossfade.traffic.unloading import set_unloaded

_NO_SIGNATURE = Signature((), ())
_NO_COUNTERS = Counters()
_UNLOADED = "somebody asked not to serve it"
_NOT_LOADED = "it is not loaded"
_LOOK_SECONDS = 0.01
_LOOK_UPS = 4
"""Questions to the registry at a time about versions that are not here; whoever asks for more is told what is known
here, so that a flood of unknown names costs the registry and the threads of this process next to nothing."""


class ServedVersion(msgspec.Struct, frozen=True):
    """One version in this process.

    Args:
        model: Its model.
        version: Its semver.
        flavor: Its format; empty while it is not loaded.
        signature: Its schema; empty while it is not loaded.
        ready: Whether it answers.
        problem: Why not.
        aliases: Which aliases point to it.
        counters: What it has done here; empty while it is not loaded.
    """

    model: str
    version: str
    flavor: str
    signature: Signature
    ready: bool
    problem: str = ""
    aliases: tuple[str, ...] = ()
    counters: Counters = _NO_COUNTERS


class PredictionService:
    """Answers predictions. Its coroutines run on one event loop.

    Args:
        follower: The snapshot.
        slots: The loaded versions.
        measurements: Counts requests that nobody could answer.
        backend: Asked only whether a version exists that is not here.
        database: Where the wish to load or unload a model is kept.
        settings: How long loading may take, and how many requests a model answers.
        cache: Where answers are kept, or None.
        holder: How a version is held for a request; by default exposures to experiments are not kept.

    Attributes:
        missed: (model, semver) -> requests that were meant for it, and that another version had to answer.
    """

    def __init__(
        self,
        follower: SnapshotFollower,
        slots: SlotTable,
        measurements: Measurements,
        backend: RegistryBackend,
        database: Database,
        settings: ServingSettings,
        cache: ResponseCache | None = None,
        holder: Holder | None = None,
    ) -> None:
        self._holder = holder or Holder(Enroller(slots, lambda _exposure: None))
        self._follower = follower
        self._slots = slots
        self._measurements = measurements
        self._backend = backend
        self._database = database
        self._settings = settings
        self._quotas: dict[str, Quota | None] = {}
        self._cache = cache
        self._draining = False
        self._look_ups = 0
        self.missed: Counter[tuple[str, str]] = Counter()
        self._protector = self._holder.protector

    def asks_who(self, ref: ModelRef) -> bool:
        """Tell whether it matters who asks: to an experiment that decides who answers, or to the safety policy."""
        if ref.alias == CHAMPION and ref.name in self._follower.snapshot.router.models:
            return True
        protector = self._protector
        return protector is not None and protector.warden.guards is not None and protector.needs_unit(ref.name)

    @property
    def guarded(self) -> bool:
        """Whether there is any safety rule."""
        return self._protector is not None and self._protector.warden.guards is not None

    def database_away_seconds(self) -> float:
        """Return how old what is known of the database is, while it does not answer; 0 otherwise."""
        return round(self._follower.age_seconds, 3) if self._follower.away else 0.0

    def emergencies(self, model: str = "") -> str:
        """Return the emergencies that a model is in, or all of them, as a header says it; empty for none."""
        return "" if self._protector is None else self._protector.said(model)

    async def hold(self, ref: ModelRef, terms: Terms = DEFAULT_TERMS, asker: Asker | None = None) -> HeldVersion:
        """Choose who answers a request, and hold on to it until the `with` block ends.

        Args:
            ref: A version or an alias; a bare name means the champion.
            terms: Of the request; they change nothing but how a refusal is counted and traced.
            asker: Who asks, where it matters; see `asks_who`.

        Raises:
            ModelNotFoundError, AliasNotFoundError, VersionNotFoundError: There is nothing to ask.
            NotServedError: It is not ready in this process.
            QuotaExceededError: The model has answered as many requests as it may.
            EmergencyError: It is stopped.

        Example:
            >>> with await predictions.hold(ModelRef.parse("churn")) as held:  # doctest: +SKIP
            ...     prediction = await held.predict(decode(body, held.signature))
        """
        snapshot = self._follower.snapshot
        assigned = None
        if asker is not None and ref.alias == CHAMPION:
            assigned = snapshot.router.route(ref.name, asker)
        protector = self._protector
        try:
            if protector is not None and protector.warden.guards is not None:
                protector.admit(ref.name)
            route, variant = snapshot.route(ref.name), None if assigned is None else assigned.version
            slot, fallback = self._take(route, ref, variant)
        except CrossfadeError as error:
            refusal = await self._refusal(ref, error)
            self._measurements.unserved.count_error(refusal.http_status)
            self._holder.refuse(terms.trace, refusal)
            raise refusal from None
        self._count_in(slot, terms)
        if fallback and ref.alias == CHAMPION:
            self.missed[ref.name, variant or route.aliases[CHAMPION]] += 1
        answers = None if self._cache is None else self._cache.of(slot, snapshot)
        unit = "" if asker is None else asker.unit or ""
        decision = enrolment = None
        if assigned is not None and asker is not None:
            decision, enrolment = told(assigned, slot), self._holder.enroller.enrol(assigned, asker)
        grant = Grant(
            ref.alias, fallback, snapshot.revision, answers, decision, enrolment, protector, unit, trace=terms.trace
        )
        return self._holder.hold(slot, grant)

    def _count_in(self, slot: Slot, terms: Terms) -> None:
        """Count a request against the quota of its model; one that is too many lets go of the slot."""
        if slot.name not in self._quotas:
            limit = self._settings.of_model(slot.name).max_requests_per_second
            self._quotas[slot.name] = Quota(limit) if limit else None
        quota = self._quotas[slot.name]
        seconds = 0 if quota is None else quota.take(time.monotonic())
        if quota is None or not seconds:
            return
        slot.release()
        error = QuotaExceededError(name=slot.name, limit=quota.per_second, retry_after_seconds=seconds)
        slot.counters.count_error(error.http_status)
        slot.counters.count_shed("quota", terms.priority.name.lower())
        self._holder.refuse(terms.trace, error)
        raise error

    async def find(self, ref: ModelRef) -> ServedVersion:
        """Return the version that would answer now, ready or not.

        Raises:
            ModelNotFoundError, AliasNotFoundError, VersionNotFoundError: There is nothing to ask.
            MalformedRequestError: It is a stage, which no snapshot knows.
        """
        snapshot = self._follower.snapshot
        route = snapshot.models.get(ref.name, Route(ref.name))
        try:
            slot, _ = self._take(snapshot.route(ref.name), ref)
        except CrossfadeError as error:
            refusal = await self._refusal(ref, error)
            if not isinstance(refusal, NotServedError):
                raise refusal from None
            version = _semver(route, ref)
            return _not_served(route, str(ref) if version is None else version, str(refusal.facts["problem"]))
        slot.release()
        return _served(route, slot)

    def served(self) -> list[ServedVersion]:
        """List every version that this process holds or shall hold, by name and version."""
        routes, slots = self._follower.snapshot.models, self._slots.all()
        wished = {(route.name, wish.version) for route in routes.values() for wish in route.aspired}
        return [
            _served(routes.get(name, Route(name)), slots[name, version])
            if (name, version) in slots
            else _not_served(routes[name], version, self._slots.explain(name, version))
            for name, version in sorted(wished | set(slots))
        ]

    def unready(self) -> list[str]:
        """Say which champions do not answer here, and why; nothing when requests should come here."""
        if self._draining:
            return [DrainingError().message]
        snapshot = self._follower.snapshot
        if snapshot.revision < 0:
            return ["the registry has not been read yet"]
        return [
            f"{route.name}:{route.champion}: {self._slots.explain(route.name, route.champion)}"
            for route in snapshot.models.values()
            if route.champion is not None
            and not route.unloaded
            and not self._slots.is_ready(route.name, route.champion)
        ]

    def settled(self) -> bool:
        """Tell whether every champion is ready or has failed, so that waiting longer changes nothing."""
        slots = [
            self._slots.find(route.name, route.champion)
            for route in self._follower.snapshot.models.values()
            if route.champion is not None and not route.unloaded
        ]
        return all(slot is not None and slot.state in {State.READY, State.FAILED} for slot in slots)

    async def set_loaded(self, name: str, *, loaded: bool, principal: str = LOCAL) -> None:
        """Serve a model in every process, or stop serving it; returns when this process has done so.

        Raises:
            ModelNotFoundError: There is no such model.
            NotServedError: It could not be loaded.
        """
        await asyncio.to_thread(set_unloaded, self._database, name, unloaded=not loaded, principal=principal)
        route = (await asyncio.to_thread(self._follower.refresh)).route(name)
        deadline = time.monotonic() + self._settings.ready_timeout_seconds
        while waiting := self._waiting_for(route):
            if time.monotonic() > deadline:
                raise NotServedError(ref=name, problem=f"it took too long: {waiting}")
            await asyncio.sleep(_LOOK_SECONDS)
        for version in route.aliases.values() if loaded else ():
            if not self._slots.is_ready(name, version):
                raise NotServedError(ref=f"{name}:{version}", problem=self._slots.explain(name, version))

    def begin_draining(self) -> None:
        """Stop being ready, so that no more requests are sent here; those that come are answered all the same."""
        self._draining = True

    async def close(self) -> None:
        """Release what the event loop holds. Requests must have ended before."""
        await self._holder.enroller.close()
        if self._cache is not None:
            await self._cache.close()

    def metrics(self) -> bytes:
        """Render the metrics of this server in the Prometheus text format; not on the event loop."""
        return self._measurements.render()

    def _take(self, route: Route, ref: ModelRef, variant: str | None = None) -> tuple[Slot, bool]:
        """Lease who answers, and tell whether it does so in another's stead."""
        if variant is not None:
            slot = self._slots.take(route.name, variant)
            if slot is not None:
                return slot, False
            slot, _ = self._take(route, ref)
            return slot, True
        version = _semver(route, ref) or self._numbered(route, ref)
        slot = self._slots.take(route.name, version)
        if slot is not None:
            return slot, False
        if ref.alias is not None:
            for former in route.former.get(ref.alias, ()):
                slot = self._slots.take(route.name, former)
                if slot is not None:
                    return slot, True
        problem = _UNLOADED if route.unloaded else self._slots.explain(route.name, version)
        raise NotServedError(ref=f"{route.name}:{version}", problem=problem)

    def _numbered(self, route: Route, ref: ModelRef) -> str:
        for slot in self._slots.all().values():
            if slot.name == ref.name and slot.number == ref.number and slot.state is State.READY:
                return slot.version
        if ref.number is None:
            example = ref.stage if ref.stage in route.aliases else CHAMPION
            problem = f"`{ref.stage}` is no version: ask for one, or for an alias, such as `{ref.name}@{example}`"
            raise MalformedRequestError(problem=problem, see=f"crossfade models show {ref.name}")
        raise NotServedError(ref=str(ref), problem=_NOT_LOADED)

    async def _refusal(self, ref: ModelRef, error: CrossfadeError) -> CrossfadeError:
        """Tell a version that is not here from one that is nowhere. While the registry is away, nobody can.

        A version that was registered a moment ago is asked for before the snapshot knows its model.
        """
        exact = ref.version is not None or ref.number is not None
        if not exact or not isinstance(error, NotServedError | ModelNotFoundError) or self._look_ups >= _LOOK_UPS:
            return error
        self._look_ups += 1
        try:
            found = await asyncio.to_thread(self._find_exact, ref)
        except UnavailableError:
            return error
        finally:
            self._look_ups -= 1
        if isinstance(error, NotServedError):
            return VersionNotFoundError(ref=str(ref), name=ref.name) if found is None else error
        return error if found is None else NotServedError(ref=found.ref, problem=_NOT_LOADED)

    def _find_exact(self, ref: ModelRef) -> Version | None:
        if ref.version is not None:
            return self._backend.find_version(ref.name, ref.version)
        return self._backend.find_numbered(ref.name, ref.number or 0)

    def _waiting_for(self, route: Route) -> str:
        slots = [slot for slot in self._slots.all().values() if slot.name == route.name]
        if route.unloaded:
            return ", ".join(slot.ref for slot in slots)
        settled = {slot.version for slot in slots if slot.state in {State.READY, State.FAILED}}
        return ", ".join(f"{route.name}:{version}" for version in route.aliases.values() if version not in settled)


def _semver(route: Route, ref: ModelRef) -> str | None:
    if ref.version is not None or ref.alias is None:
        return ref.version
    version = route.aliases.get(ref.alias)
    if version is None:
        raise AliasNotFoundError(name=route.name, alias=ref.alias)
    return version


def _served(route: Route, slot: Slot) -> ServedVersion:
    ready = slot.state is State.READY
    return ServedVersion(
        slot.name,
        slot.version,
        flavor=slot.manifest.flavor if ready else "",
        signature=slot.signature if ready else _NO_SIGNATURE,
        ready=ready,
        problem="" if ready else slot.problem or f"it is {slot.state}",
        aliases=_aliases(route, slot.version),
        counters=slot.counters,
    )


def _not_served(route: Route, version: str, problem: str) -> ServedVersion:
    return ServedVersion(route.name, version, "", _NO_SIGNATURE, False, problem, _aliases(route, version))


def _aliases(route: Route, version: str) -> tuple[str, ...]:
    return tuple(alias for alias, target in route.aliases.items() if target == version)
