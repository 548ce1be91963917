"""`ExperimentStore`: what people do with experiments: write one down, start, pause, reweight, stop it, and its layers.

Every change is one transaction: the experiment, its layer, the revision that processes follow, and the audit entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from crossfade.core.clock import Clock, utc_now
from crossfade.core.hashing import canonical_json
from crossfade.core.identity import CHAMPION, check_name
from crossfade.errors import (
    ExperimentConflictError,
    InvalidAllocationError,
    LoadFailedError,
    RejectedVersionError,
)
from crossfade.experiments.amending import check_amendment, check_transition, check_weights, relearned
from crossfade.experiments.history import LEARN, changes_of
from crossfade.experiments.learned import Learned, drawing, first_learned
from crossfade.experiments.record import ENDED, Experiment, ExperimentChange, Status, Verdict, experiment_of, route_of
from crossfade.experiments.rows import (
    describe,
    describe_all,
    encoded,
    find_row,
    layers_of,
    learned_of,
    ref_of,
    row_of,
    running,
    set_values,
    spec_of,
    started_route,
)
from crossfade.experiments.spec import ExperimentSpec
from crossfade.ledger.rebuilding import declare
from crossfade.methods.bandits.policy import ContextualPolicy
from crossfade.registry.acceptance import attribution, explained
from crossfade.registry.pages import check_limit, number_cursor, page_of
from crossfade.registry.registry import LOCAL, Registry
from crossfade.registry.versions import REJECTED, Page, Version
from crossfade.storage.changes import commit_change
from crossfade.storage.database import Database
from crossfade.storage.tables import ACTIVE, ROUTED, experiments, layers, rollouts
from crossfade.storage.times import to_text
from crossfade.traffic.allocation.allocation import Layer
from crossfade.traffic.allocation.allocations import Allocations
from crossfade.traffic.allocation.specs import UNIT, LayerSpec
from crossfade.traffic.readiness import Readiness
from crossfade.traffic.routing import ExperimentRoute
from crossfade.traffic.snapshot import EXPERIMENT, LAYER

_KIND = "experiments"
BANDIT = "bandit"
"""The principal of weights that follow what was learned."""


class ExperimentStore:
    """The experiments of a platform.

    Args:
        registry: Where versions are.
        database: Where experiments are.
        readiness: Makes processes load versions before traffic is sent to them.
        clock: What time it is.

    Example:
        >>> store.create(spec)  # doctest: +SKIP
        >>> store.start("late_flights").status  # doctest: +SKIP
        <Status.RUNNING: 'running'>
    """

    def __init__(self, registry: Registry, database: Database, readiness: Readiness, clock: Clock = utc_now) -> None:
        self._registry = registry
        self._database = database
        self._readiness = readiness
        self._clock = clock

    # --- looking ---

    def find(self, name: str) -> Experiment:
        """Return an experiment.

        Raises:
            ExperimentNotFoundError: There is none of this name.
        """
        with self._database.read() as connection:
            return describe(connection, row_of(connection, name), self._clock())

    def list(self, *, model: str = "", status: str = "", cursor: str = "", limit: int = 100) -> Page[Experiment]:
        """List experiments, newest first.

        Raises:
            InvalidPageError: The cursor or the limit is wrong.
        """
        where: ColumnElement[bool] = experiments.c.number < number_cursor(_KIND, cursor)
        if model:
            where &= experiments.c.model == check_name(model)
        if status:
            where &= experiments.c.status == status
        query = select(experiments).where(where).order_by(experiments.c.number.desc()).limit(check_limit(limit) + 1)
        with self._database.read() as connection:
            rows: Sequence[Row[Any]] = connection.execute(query).all()
            page = page_of(_KIND, rows, limit, lambda row: row.number)
            return Page(tuple(describe_all(connection, page.items, self._clock())), page.next_cursor)

    def history(
        self, name: str, *, learned: bool = False, cursor: str = "", limit: int = 100
    ) -> Page[ExperimentChange]:
        """List what was done to an experiment, newest first; see `experiments.history`.

        Raises:
            ExperimentNotFoundError: There is none of this name.
            InvalidPageError: The cursor or the limit is wrong.
        """
        with self._database.read() as connection:
            return changes_of(connection, row_of(connection, name), learned=learned, cursor=cursor, limit=limit)

    def layers(self) -> tuple[Layer, ...]:
        """List the layers, in the order in which they were made."""
        with self._database.read() as connection:
            return layers_of(connection)

    def champion(self, model: str) -> str:
        """Return the semver of the champion of a model now; empty when there is none."""
        return self._registry.model(model).aliases.get(CHAMPION, "")

    # --- before it runs ---

    def create(self, spec: ExperimentSpec, *, principal: str = LOCAL, dry_run: bool = False) -> tuple[Experiment, bool]:
        """Write an experiment down.

        Returns:
            The experiment, and whether it is new: the same specification again changes nothing.

        Raises:
            InvalidInputError: It cannot be.
            ExperimentConflictError: The name is taken by another specification.
            ModelNotFoundError, VersionNotFoundError, AliasNotFoundError: It names what there is not.
        """
        spec = spec.checked()
        principal = attribution(principal, "")["principal"]
        self._versions(spec.model, {variant.name: variant.version for variant in spec.variants})
        text = canonical_json(spec).decode()
        with self._database.write() as connection:
            known = find_row(connection, spec.name)
            if known is not None:
                if known.spec != text:
                    raise ExperimentConflictError(name=spec.name, problem="is there already, and is another one")
                return describe(connection, known, self._clock()), False
            if connection.scalar(select(rollouts.c.name).where(rollouts.c.name == spec.name)) is not None:
                raise ExperimentConflictError(name=spec.name, problem="is a rollout's name, and outcomes name both")
            if spec.layer:
                running(connection).layer(spec.layer)
            now = self._clock()
            revision = 0
            if not dry_run:
                action, details = "experiment.create", {"spec": msgspec.json.decode(text)}
                revision = self._change(connection, EXPERIMENT, spec.model, spec.name, action, principal, details)
            connection.execute(
                insert(experiments).values(
                    name=spec.name,
                    number=revision,
                    model=spec.model,
                    status=Status.DRAFT.value,
                    spec=text,
                    created_at=to_text(now),
                    created_by=principal,
                )
            )
            created = describe(connection, row_of(connection, spec.name), self._clock())
            if dry_run:
                connection.rollback()
        return created, True

    def create_layer(self, spec: LayerSpec, *, principal: str = LOCAL, dry_run: bool = False) -> Layer:
        """Make a layer for experiments that share their units; the same again changes nothing.

        Raises:
            InvalidAllocationError: It cannot be, or there is another one of this name.
            UnknownHashError: Its hash is not known here.
        """
        principal = attribution(principal, "")["principal"]
        with self._database.write() as connection:
            known = running(connection)
            same = next((layer for layer in known.layers if layer.spec == spec.checked()), None)
            if same is not None:
                return same
            layer = known.add_layer(spec).layers[-1]
            if not dry_run:
                details = {"spec": msgspec.to_builtins(layer.spec)}
                number = self._change(connection, LAYER, "", spec.name, "layer.create", principal, details)
                body = canonical_json(layer).decode()
                connection.execute(insert(layers).values(name=spec.name, number=number, body=body))
        return layer

    # --- its life ---

    def start(self, name: str, *, reason: str = "", principal: str = LOCAL, dry_run: bool = False) -> Experiment:
        """Let units take part: the first time, or after a pause. Versions are loaded everywhere before.

        Raises:
            ExperimentConflictError: It is over, or a version cannot be loaded.
            RejectedVersionError, VersionNotFoundError, AliasNotFoundError: A variant has no version to answer with.
            LayerFullError: Its layer has not so many units left.
            InvalidAllocationError: It cannot be beside what runs.
        """
        said = attribution(principal, reason)
        found = self.find(name)
        if found.status is Status.RUNNING:
            return found
        check_transition(found, Status.RUNNING)
        # after a pause the same versions go on, whatever aliases point to now
        asked = found.versions or {variant.name: variant.version for variant in found.spec.variants}
        versions = self._versions(found.model, asked)
        if found.model and self._registry.model(found.model).unloaded:  # no process would ever make them ready
            problem = f"cannot start: somebody asked not to serve `{found.model}`"
            raise ExperimentConflictError(name=name, problem=problem)
        with ExitStack() as ready:
            for version in {} if dry_run else {version.ref: version for version in versions.values()}.values():
                self._make_ready(ready, name, version, principal)
            return self._transition(
                name,
                Status.RUNNING,
                said,
                lambda connection, row: self._begin(connection, row, found, versions),
                dry_run=dry_run,
            )

    def pause(self, name: str, *, reason: str = "", principal: str = LOCAL, dry_run: bool = False) -> Experiment:
        """Give everybody the champion for now. Units keep their slots.

        Raises:
            ExperimentConflictError: It does not run.
        """
        said = attribution(principal, reason)

        def pause(_connection: Connection, row: Row[Any]) -> dict[str, object]:
            return {"routing": encoded(msgspec.structs.replace(started_route(row), paused=True))}

        return self._followed(self._transition(name, Status.PAUSED, said, pause, dry_run=dry_run))

    def stop(self, name: str, *, reason: str, principal: str = LOCAL, dry_run: bool = False) -> Experiment:
        """End it without a decision. Everybody gets the champion, and its layer gets its units back.

        Raises:
            ExperimentConflictError: It is over already.
            ReasonRequiredError: There is no reason.
        """
        said = explained(principal, reason, "stopping an experiment")
        return self._followed(self._end(name, Status.STOPPED, None, said, dry_run=dry_run))

    def conclude(self, name: str, verdict: Verdict, *, principal: str = LOCAL, dry_run: bool = False) -> Experiment:
        """End it with a decision; whoever calls this has moved the traffic already. The same again changes nothing.

        Raises:
            ExperimentConflictError: It is over already, by another decision or without one, or has never run.
        """
        said = attribution(principal, verdict.reason)
        ended = self._end(name, Status.DECIDED, verdict, said, dry_run=dry_run)
        if ended.verdict != verdict:
            raise ExperimentConflictError(name=name, problem="was decided by somebody else meanwhile")
        return ended

    def reweight(
        self,
        name: str,
        weights: Mapping[str, float] | None = None,
        *,
        coverage: float | None = None,
        reason: str = "",
        principal: str = LOCAL,
        dry_run: bool = False,
    ) -> Experiment:
        """Change weights, coverage, or both. No unit leaves a variant whose part does not shrink.

        Args:
            name: The experiment.
            weights: Variant -> weight, of all variants; they sum to 1.
            coverage: Fraction of its units that takes part.
            reason: Why, for the audit log.
            principal: Who asks.
            dry_run: Only check.

        Raises:
            ExperimentConflictError: It does not run.
            InvalidAllocationError: The weights cannot be.
        """
        said = attribution(principal, reason)
        if weights is None and coverage is None:
            raise InvalidAllocationError(name=name[:80], problem="say new weights, a new coverage, or both")
        with self._database.write() as connection:
            row = row_of(connection, name)
            if row.status not in ROUTED:
                raise ExperimentConflictError(name=name, problem=f"is {row.status}, so it has no weights to change")
            spec = spec_of(row)
            if weights and spec.bandit is not None:
                raise ExperimentConflictError(name=name, problem="is a bandit: its weights follow what it learns")
            route, now = started_route(row), self._clock()
            check_weights(spec, weights or {})
            changed = running(connection).revise(name, weights, coverage=coverage, at=now).experiment(name)
            details = {"weights": dict(weights or {}), "coverage": coverage, "revision": changed.revision, **said}
            self._change(connection, EXPERIMENT, row.model, name, "experiment.reweight", principal, details)
            set_values(connection, name, {"routing": encoded(msgspec.structs.replace(route, allocation=changed))})
            result = describe(connection, row_of(connection, name), self._clock())
            if dry_run:
                connection.rollback()
        return result

    def amend(
        self, spec: ExperimentSpec, *, reason: str = "", principal: str = LOCAL, dry_run: bool = False
    ) -> Experiment:
        """Change an experiment that has not ended; what its numbers depend on stays once it has started.

        Args:
            spec: All of it, as it shall be. The weights of a bandit follow what it has learned, whatever this says.
            reason: Why, for the audit log.
            principal: Who asks.
            dry_run: Only check.

        Raises:
            InvalidInputError: It cannot be, or would be another experiment.
            ExperimentConflictError: It is over, or a new version cannot be loaded.
            LayerFullError: Its layer has not so many units left.
        """
        spec, said = spec.checked(), attribution(principal, reason)
        found = self.find(spec.name)
        if found.status in ENDED:
            raise ExperimentConflictError(name=spec.name, problem=f"is {found.status.value}, and cannot change")
        asked = {variant.name: found.versions.get(variant.name, variant.version) for variant in spec.variants}
        versions = self._versions(spec.model, asked)
        fresh = [version for name, version in versions.items() if name not in found.versions]
        started = found.started_at is not None
        with ExitStack() as ready:
            for version in fresh if started and not dry_run else []:
                self._make_ready(ready, spec.name, version, principal)
            with self._database.write() as connection:
                row = row_of(connection, spec.name)
                if row.status != found.status:
                    raise ExperimentConflictError(name=spec.name, problem="has changed meanwhile; look again")
                values = self._amended(connection, row, spec, versions) if started else {}
                values |= {"spec": canonical_json(spec).decode(), "model": spec.model, "problem": ""}  # of what it was
                details = {"spec": msgspec.json.decode(canonical_json(spec)), **said}
                self._change(connection, EXPERIMENT, row.model, row.name, "experiment.amend", principal, details)
                set_values(connection, spec.name, values)
                result = describe(connection, row_of(connection, spec.name), self._clock())
                if dry_run:
                    connection.rollback()
        return result

    # --- what happens by itself ---

    def note(self, experiment: Experiment, problem: str) -> None:
        """Keep why what should happen by itself does not, for people; processes follow nothing of it."""
        if problem != experiment.problem:
            with self._database.write() as connection:
                set_values(connection, experiment.name, {"problem": problem})

    def teach(
        self,
        connection: Connection,
        row: Row[Any],
        learned: str,
        *,
        weights: Mapping[str, float] | None = None,
        policy: ContextualPolicy | None = None,
        decisions: int,
        at: datetime,
    ) -> None:
        """Store what a bandit has learned, and what follows from it, in the transaction of whoever learns.

        Args:
            connection: From `Database.write`.
            row: The experiment.
            learned: What it knows now, as JSON.
            weights: Its new weights; None leaves them.
            policy: What draws variants from now on; None leaves it to slots.
            decisions: How many it has learned from.
            at: The present moment.
        """
        values: dict[str, object] = {"learned": learned}
        route = started_route(row)
        if weights is not None:
            changed = running(connection).revise(row.name, weights, at=at).experiment(row.name)
            values["routing"] = encoded(msgspec.structs.replace(route, allocation=changed))
        elif policy is not None and policy != route.policy:
            allocation = msgspec.structs.replace(route.allocation, revision=route.allocation.revision + 1)
            values["routing"] = encoded(msgspec.structs.replace(route, allocation=allocation, policy=policy))
        if "routing" in values:
            details = {"weights": dict(weights or {}), "decisions": decisions}
            self._change(connection, EXPERIMENT, row.model, row.name, LEARN, BANDIT, details)
        set_values(connection, row.name, values)

    # --- parts ---

    def _followed(self, experiment: Experiment) -> Experiment:
        """Return it once no live process answers by what was before: whoever pauses relies on that."""
        self._readiness.await_followers()
        return experiment

    def _versions(self, model: str, asked: Mapping[str, str]) -> dict[str, Version]:
        """Return the version behind each variant, now, from what each asks for."""
        found = {}
        for variant, wanted in asked.items() if model else ():
            found[variant] = version = self._registry.resolve(ref_of(model, wanted))
            if version.stage == REJECTED:
                raise RejectedVersionError(ref=version.ref, name=model, alias=variant)
        return found

    def _make_ready(self, ready: ExitStack, name: str, version: Version, principal: str) -> None:
        try:
            ready.enter_context(self._readiness.of(version, principal))
        except LoadFailedError as error:
            problem = f"cannot start: `{version.ref}` is not ready everywhere: {error.facts['problem']}"
            raise ExperimentConflictError(name=name, problem=problem) from error

    def _begin(
        self, connection: Connection, row: Row[Any], found: Experiment, versions: Mapping[str, Version]
    ) -> dict[str, object]:
        _refuse_beside_rollout(connection, row)
        route = route_of(row)
        if route is not None:
            return {"routing": encoded(msgspec.structs.replace(route, paused=False))}
        spec = spec_of(row)
        if spec != found.spec:  # its versions were loaded, not those of what it is now
            raise ExperimentConflictError(name=row.name, problem="has changed meanwhile; look again")
        now = self._clock()
        if spec.end_at is not None and spec.end_at <= now:
            raise ExperimentConflictError(name=row.name, problem=f"cannot start: it was to end at {spec.end_at}")
        learned = first_learned(spec, now, learned_of(connection, spec))
        if learned is not None and spec.bandit is not None and spec.bandit.warm_from:
            learned, spec = relearned(learned, spec)
        before = running(connection)
        placed = before.place(spec.allocation().at(now))
        self._save_layers(connection, before, placed)
        declare(connection, spec.measures())
        unit = UNIT if not spec.layer else placed.layer(spec.layer).spec.unit
        route = ExperimentRoute(
            placed.experiment(spec.name),
            model=spec.model,
            versions={variant: version.version for variant, version in versions.items()},
            champion=self.champion(spec.model) if spec.model else "",
            shadows=spec.shadows,
            dimensions=spec.dimensions,
            unit=unit,
            scored=spec.measures().scored,
            policy=drawing(learned),
        )
        text = None if learned is None else msgspec.json.encode(learned).decode()
        return {"routing": encoded(route), "started_at": to_text(now), "learned": text}

    def _amended(
        self, connection: Connection, row: Row[Any], spec: ExperimentSpec, versions: Mapping[str, Version]
    ) -> dict[str, object]:
        before, route, now = running(connection), started_route(row), self._clock()
        check_amendment(spec_of(row), spec)
        values: dict[str, object] = {}
        policy = route.policy
        if row.learned is not None:
            learned, spec = relearned(msgspec.json.decode(row.learned, type=Learned), spec)
            values["learned"] = msgspec.json.encode(learned).decode()
            policy = learned.policy if isinstance(learned.policy, ContextualPolicy) else None
        after = before.amend(spec.allocation(), at=now)
        self._save_layers(connection, before, after)
        pinned = {name: route.versions.get(name, version.version) for name, version in versions.items()}
        changed = msgspec.structs.replace(route, allocation=after.experiment(spec.name), versions=pinned, policy=policy)
        return values | {"routing": encoded(changed)}

    def _end(
        self, name: str, status: Status, verdict: Verdict | None, said: Mapping[str, str], *, dry_run: bool
    ) -> Experiment:
        def end(connection: Connection, row: Row[Any]) -> dict[str, object]:
            if status is Status.DECIDED and row.started_at is None:
                raise ExperimentConflictError(name=name, problem="has never run, so there is nothing to decide")
            if row.status in ROUTED:
                before = running(connection)
                self._save_layers(connection, before, before.remove(name))
            decision = None if verdict is None else msgspec.json.encode(verdict).decode()
            return {"decision": decision, "finished_at": row.finished_at or to_text(self._clock())}

        return self._transition(name, status, said, end, dry_run=dry_run)

    def _transition(
        self,
        name: str,
        status: Status,
        said: Mapping[str, str],
        change: Callable[[Connection, Row[Any]], dict[str, object]],
        *,
        dry_run: bool,
    ) -> Experiment:
        with self._database.write() as connection:
            row = row_of(connection, name)
            found = experiment_of(row, self._clock())
            if found.status is status:
                return describe(connection, row, self._clock())
            check_transition(found, status)
            # what kept it from going on by itself is looked at anew, or is over
            values = change(connection, row) | {"status": status.value, "reason": said["reason"], "problem": ""}
            details = {"reason": said["reason"], "from": found.status.value}
            self._change(
                connection, EXPERIMENT, row.model, name, f"experiment.{status.value}", said["principal"], details
            )
            set_values(connection, name, values)
            result = describe(connection, row_of(connection, name), self._clock())
            if dry_run:
                connection.rollback()
        return result

    def _save_layers(self, connection: Connection, before: Allocations, after: Allocations) -> None:
        for old, new in zip(before.layers, after.layers, strict=True):
            if old is not new:
                body = canonical_json(new).decode()
                connection.execute(update(layers).where(layers.c.name == new.spec.name).values(body=body))

    def _change(
        self,
        connection: Connection,
        kind: str,
        model: str,
        subject: str,
        action: str,
        principal: str,
        details: Mapping[str, object],
    ) -> int:
        return commit_change(
            connection,
            kind=kind,
            model=model,
            subject=subject,
            principal=principal,
            action=action,
            details=details,
            now=self._clock(),
        )


def _refuse_beside_rollout(connection: Connection, row: Row[Any]) -> None:
    """Only one thing at a time decides who answers a model."""
    released = (rollouts.c.kind == "model") & (rollouts.c.subject == row.model) & rollouts.c.status.in_(ACTIVE)
    found = connection.scalar(select(rollouts.c.name).where(released))
    if row.model and found is not None:
        problem = f"cannot run while `{row.model}` is rolled out; wait for `{found}`, or abort that"
        raise ExperimentConflictError(name=row.name, problem=problem)
