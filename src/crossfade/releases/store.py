"""`RolloutStore`: what people do with rollouts. Each verb is one transaction, and waits only for those who follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, insert, select

from crossfade.core.clock import Clock, utc_now
from crossfade.core.hashing import canonical_json
from crossfade.errors import InvalidPlanError, RolloutConflictError
from crossfade.experiments.record import Status
from crossfade.ledger.admission import is_slug
from crossfade.ledger.rebuilding import declare
from crossfade.registry.acceptance import attribution, explained
from crossfade.registry.pages import check_limit, number_cursor, page_of
from crossfade.registry.registry import LOCAL
from crossfade.registry.versions import Page
from crossfade.releases.changing import Change, StaleError, apply, encoded, find_row, route_of, row_of
from crossfade.releases.checks.metric import measures
from crossfade.releases.checks.spec import CheckSpec, ExperimentCheck
from crossfade.releases.latch import lift, require_unlatched
from crossfade.releases.moves import approving, completing, ending, entering, pausing, resuming
from crossfade.releases.naming import new_name
from crossfade.releases.plan import PRESETS, RolloutPlan
from crossfade.releases.requests import RolloutRequest
from crossfade.releases.rollout import (
    APPROVAL,
    Rollout,
    RolloutEvidence,
    RolloutState,
    RolloutStatus,
    RolloutTransition,
    first_route,
    next_route,
    rollout_of,
)
from crossfade.releases.subjects.port import Refusal, Release, Settling, Subject
from crossfade.storage.changes import commit_change
from crossfade.storage.database import Database
from crossfade.storage.tables import ACTIVE, experiments, rollout_transitions, rollouts
from crossfade.storage.times import from_text, to_text
from crossfade.traffic.readiness import Readiness
from crossfade.traffic.snapshot import ROLLOUT
from crossfade.traffic.switch import OVERRIDING

Tell = Callable[[Connection, Rollout], None]
"""Writes down, in the transaction of a change, what others shall be told of it."""
_KIND = "rollouts"
_ATTEMPTS = 5

Objection = Callable[[CheckSpec], str]
"""Says why a check can never be answered here; nothing where it can."""


def no_objection(_check: CheckSpec) -> str:
    """Stand in where nothing is known of what can be reached."""
    return ""


def tell_nobody(_connection: Connection, _rollout: Rollout) -> None:
    """Stand in for whoever wants to know."""


class RolloutStore:
    """The rollouts of a platform.

    Args:
        database: Where they are.
        subjects: Kind -> what the engine has to know of it.
        readiness: Waits until no process answers by what was before.
        clock: What time it is.
        tell: Has others told of every change.
        objection: Says why a check can never be answered.

    Example:
        >>> store.create(RolloutRequest("churn", "1.1.0", "fast")).status  # doctest: +SKIP
        <RolloutStatus.PREPARING: 'preparing'>
    """

    def __init__(
        self,
        database: Database,
        subjects: Mapping[str, Subject],
        readiness: Readiness | None = None,
        clock: Clock = utc_now,
        tell: Tell = tell_nobody,
        objection: Objection = no_objection,
    ) -> None:
        self._database = database
        self._subjects = subjects
        self._readiness = readiness
        self._clock = clock
        self._tell = tell
        self._objection = objection

    # --- looking ---

    def find(self, name: str) -> Rollout:
        """Return a rollout; the name of a model or document stands for its newest one.

        Raises:
            RolloutNotFoundError: There is none.
            RolloutConflictError: The name may mean several.
        """
        with self._database.read() as connection:
            return rollout_of(find_row(connection, name))

    def stable(self, subject: str, kind: str = "model") -> str:
        """Return the version that everybody gets outside of rollouts; empty for none.

        Raises:
            NotFoundError: There is no such subject.
        """
        with self._database.read() as connection:
            return self._subject(kind).stable(connection, subject)

    def list(self, *, subject: str = "", status: str = "", cursor: str = "", limit: int = 100) -> Page[Rollout]:
        """List rollouts, newest first.

        Raises:
            InvalidPageError: The cursor or the limit is wrong.
        """
        where: ColumnElement[bool] = rollouts.c.number < number_cursor(_KIND, cursor)
        if subject:
            where &= rollouts.c.subject == (subject if is_slug(subject) else "")
        if status:
            where &= rollouts.c.status == status
        query = select(rollouts).where(where).order_by(rollouts.c.number.desc()).limit(check_limit(limit) + 1)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        page = page_of(_KIND, rows, limit, lambda row: row.number)
        return Page(tuple(map(rollout_of, page.items)), page.next_cursor)

    def attended(self) -> tuple[Rollout, ...]:
        """Return those that the controller has to look after: under way, or held down."""
        looked_after = rollouts.c.status.in_(ACTIVE) | rollouts.c.routing.is_not(None)
        with self._database.read() as connection:
            rows = connection.execute(select(rollouts).where(looked_after).order_by(rollouts.c.number)).all()
        return tuple(map(rollout_of, rows))

    def history(self, name: str) -> tuple[RolloutTransition, ...]:
        """Return everything that happened to a rollout, oldest first.

        Raises:
            RolloutNotFoundError: There is none.
        """
        with self._database.read() as connection:
            found = find_row(connection, name).name
            mine = rollout_transitions.c.rollout == found
            query = select(rollout_transitions).where(mine).order_by(rollout_transitions.c.seq)
            return tuple(_transition(row) for row in connection.execute(query))

    # --- verbs ---

    def create(self, wanted: RolloutRequest, *, principal: str = LOCAL, dry_run: bool = False) -> Rollout:
        """Begin to roll a version out.

        Raises:
            InvalidPlanError: The plan cannot be, or one of its checks could never be answered here.
            NotFoundError: There is no such subject or version.
            RolloutConflictError: There is another one under way, the version has all traffic already, or something
                else decides who gets the subject's traffic.
            LatchedError: The version was rolled back before, and nobody has said that it may come again.
            ReasonRequiredError: Somebody says so, and not why.
        """
        if wanted.override_latch:
            said = explained(principal, wanted.reason, OVERRIDING)
        else:
            said = attribution(principal, wanted.reason)
        subject = self._subject(wanted.kind)
        plan = subject.plan(wanted.plan)
        self._require_complete(subject, wanted)
        with self._database.write() as connection:
            stable = subject.stable(connection, wanted.subject)
            release = self._refuse(connection, subject, wanted, stable)
            self._require_answers(connection, plan)
            now = self._clock()
            fast = self._is_return(connection, subject, wanted.subject, release, now, plan)
            rollout = self._new(connection, wanted, plan, stable, release, fast=fast, now=now, principal=principal)
            details = {
                "plan": msgspec.json.decode(canonical_json(plan)),
                "candidate": rollout.candidate,
                "override_latch": wanted.override_latch,
                **said,
            }
            revision = commit_change(
                connection,
                kind=ROLLOUT,
                model=rollout.subject if rollout.kind == "model" else "",
                subject=rollout.name,
                principal=principal,
                action="rollout.create",
                details=details,
                now=now,
            )
            self._insert(connection, rollout, revision, subject)
            created = rollout_of(row_of(connection, rollout.name))
            self._tell(connection, created)
            if dry_run:
                connection.rollback()
        return created

    def pause(self, name: str, *, reason: str = "", principal: str = LOCAL, dry_run: bool = False) -> Rollout:
        """Let it keep what it has, and go no further. Failing checks still bring it back.

        Raises:
            RolloutConflictError: It is not under way.
        """
        words = reason or f"paused by {principal}"
        return self._by_person(name, lambda rollout: pausing(rollout, words), reason, principal, dry_run=dry_run)

    def resume(self, name: str, *, reason: str = "", principal: str = LOCAL, dry_run: bool = False) -> Rollout:
        """Go on where it was paused; whatever its checks had found in this step is looked at anew.

        Raises:
            RolloutConflictError: It is not paused.
        """

        def resume(rollout: Rollout) -> Change:
            if rollout.status is not RolloutStatus.PAUSED:
                raise RolloutConflictError(name=rollout.name, problem=f"is {rollout.status.value}, not paused")
            return resuming(rollout, reason or f"resumed by {principal}", self._clock())

        return self._by_person(name, resume, reason, principal, dry_run=dry_run)

    def promote(
        self,
        name: str,
        *,
        to_end: bool = False,
        expected_step: int | None = None,
        reason: str = "",
        principal: str = LOCAL,
        dry_run: bool = False,
    ) -> Rollout:
        """Go on by a person's word: past the approval that it waits for, to the next step, or to its end.

        Args:
            name: The rollout.
            to_end: To the last step, past approvals, instead of to the next one. From the last step it ends either way.
            expected_step: When given, the step that it must be in.
            reason: Why, for the audit log.
            principal: Who says so.
            dry_run: Only check.

        Raises:
            RolloutConflictError: It is not under way, the new version is not loaded yet, it is in another step than
                `expected_step`, or it would end although processes have not followed its last step, or somebody moved
                the subject, or the new version is gone.
        """

        def promote(rollout: Rollout) -> Change:
            words = reason or f"promoted by {principal}"
            if not rollout.active or rollout.state.step < 0:
                problem = f"is {rollout.status.value}" if not rollout.active else "is still being prepared"
                raise RolloutConflictError(name=rollout.name, problem=f"{problem}, so it cannot be promoted")
            if expected_step not in {None, rollout.state.step}:
                problem = f"is in step {rollout.state.step}, not in step {expected_step} (counted from 0) as expected"
                raise RolloutConflictError(name=rollout.name, problem=problem)
            last = len(rollout.plan.steps) - 1
            if rollout.status is RolloutStatus.PAUSED and rollout.state.waiting_for == APPROVAL and not to_end:
                return approving(rollout, words, self._clock())
            now = self._clock()
            if rollout.state.step < last:
                return entering(rollout, last if to_end else rollout.state.step + 1, words, now, resumed_at=now)
            if rollout.state.live_at is None:
                problem = "is in its last step, which the processes have not followed yet, so it cannot be promoted"
                raise RolloutConflictError(name=rollout.name, problem=problem)
            return completing(rollout, words, now)

        return self._by_person(name, promote, reason, principal, dry_run=dry_run)

    def abort(self, name: str, *, reason: str = "", principal: str = LOCAL, dry_run: bool = False) -> Rollout:
        """Stop it and give the old version everything, at once. The new version may come again.

        Raises:
            RolloutConflictError: It is not under way.
        """
        return self._by_person(
            name,
            lambda rollout: ending(
                rollout, "abort", RolloutStatus.ABORTED, reason or f"aborted by {principal}", self._clock(), latch=False
            ),
            reason,
            principal,
            dry_run=dry_run,
        )

    def rollback(self, name: str, *, reason: str = "", principal: str = LOCAL, dry_run: bool = False) -> Rollout:
        """Give the old version everything, at once, even after the rollout is complete. The new version is latched.

        Raises:
            RolloutConflictError: It was rolled back or aborted already, or something else has the traffic since.
        """

        def back(rollout: Rollout) -> Change:
            if rollout.status is RolloutStatus.COMPLETED and not rollout.stable:
                raise RolloutConflictError(name=rollout.name, problem="replaced nothing to return to")
            return ending(
                rollout, "rollback", RolloutStatus.ROLLED_BACK, reason or f"rolled back by {principal}", self._clock()
            )

        return self._by_person(name, back, reason, principal, dry_run=dry_run)

    def retry(
        self,
        name: str,
        *,
        reason: str = "",
        override_latch: bool = False,
        principal: str = LOCAL,
        dry_run: bool = False,
    ) -> Rollout:
        """Begin again, from the first step, what was aborted or rolled back.

        What returned without steps to a version that had the traffic a moment ago does so again while that is allowed,
        and follows the plan `careful` afterwards.

        Raises:
            RolloutConflictError: It is under way, or complete.
            LatchedError: The version is latched, and nobody has said that it may come again.
        """
        found = self.find(name)
        if found.status not in {RolloutStatus.ABORTED, RolloutStatus.ROLLED_BACK}:
            raise RolloutConflictError(name=found.name, problem=f"is {found.status.value}: nothing to retry")
        plan: str | RolloutPlan = "careful" if found.fast else found.plan
        wanted = RolloutRequest(found.subject, found.candidate, plan, found.kind, reason, override_latch)
        return self.create(wanted, principal=principal, dry_run=dry_run)

    # --- for the controller ---

    def act(self, connection: Connection, rollout: Rollout, change: Change, *, principal: str, epoch: int) -> Rollout:
        """Change a rollout inside the transaction of whoever holds the lease; traffic moves with it.

        Raises:
            StaleError: It has changed since it was seen.
            RolloutConflictError: That cannot be.
        """
        now, subject = self._clock(), self._subject(rollout.kind)
        row = row_of(connection, rollout.name)
        values = dict(change.values)
        said = {"principal": principal, "reason": change.reason}
        if change.target in {RolloutStatus.ROLLED_BACK, RolloutStatus.ABORTED}:
            values["routing"] = None
            if rollout.status is RolloutStatus.COMPLETED:
                self._require_unchanged(connection, rollout, subject)
                subject.settle(connection, rollout, Settling(rollout.stable, True, principal, change.reason, now))
            else:
                failed = change.target is RolloutStatus.ROLLED_BACK
                subject.withdraw(connection, rollout, failed=failed, **said)
        elif change.target is RolloutStatus.COMPLETED:
            self._require_replaceable(connection, rollout, subject)
            subject.settle(connection, rollout, Settling(rollout.candidate, False, principal, change.reason, now))
        elif change.weight is not None:
            step = rollout.plan.steps[change.state.step]
            route = next_route(route_of(row), change.weight, shadow=step.shadow, processes=change.state.processes)
            values["routing"] = encoded(route)
            subject.route(connection, rollout, route, **said)
        filled = msgspec.structs.replace(change, values=values)
        after = apply(connection, rollout, filled, principal=principal, epoch=epoch, now=now)
        self._tell(connection, after)
        return after

    def let_go(self, connection: Connection, rollout: Rollout, *, principal: str, epoch: int) -> None:
        """Keep the old version loaded no longer."""
        now = self._clock()
        commit_change(
            connection,
            kind=ROLLOUT,
            model=rollout.subject if rollout.kind == "model" else "",
            subject=rollout.name,
            principal=principal,
            action="rollout.release",
            details={"stable": rollout.stable, "epoch": epoch},
            now=now,
        )
        mine = (rollouts.c.name == rollout.name) & (rollouts.c.seen == rollout.seen)
        if connection.execute(rollouts.update().where(mine).values(routing=None, seen=rollout.seen + 1)).rowcount != 1:
            raise StaleError(rollout.name)

    # --- parts ---

    def _subject(self, kind: str) -> Subject:
        if kind not in self._subjects:
            raise InvalidPlanError(problem=f"`{kind[:80]}` cannot be rolled out; {', '.join(self._subjects)} can")
        return self._subjects[kind]

    def _require_complete(self, subject: Subject, wanted: RolloutRequest) -> None:
        """Refuse a version that names what is not there. While it is rolled out, the controller goes on looking."""
        with self._database.read() as connection:
            subject.stable(connection, wanted.subject)
            release = subject.release(connection, wanted.subject, wanted.version)
        missing = subject.missing(wanted.subject, release) if isinstance(release, Release) else None
        if missing is not None:
            raise _unusable(wanted, missing)

    def _refuse(self, connection: Connection, subject: Subject, wanted: RolloutRequest, stable: str) -> Release:
        """Refuse what cannot be rolled out; returns the new version."""
        name = wanted.subject
        under_way = (rollouts.c.kind == subject.kind) & (rollouts.c.subject == name) & rollouts.c.status.in_(ACTIVE)
        other = connection.scalar(select(rollouts.c.name).where(under_way))
        if other is not None:
            raise RolloutConflictError(name=name, problem=f"has rollout `{other}` under way")
        versions = f"crossfade {subject.kind}s versions {name}"
        if wanted.expected not in {None, stable}:
            problem = f"gives everybody {stable or 'nothing'}, not {wanted.expected[:80]} as expected"
            raise RolloutConflictError(name=name, problem=problem, see=versions)
        if not stable:
            problem = "has no version that answers now: there is nothing to compare with, so point `champion` to one"
            raise RolloutConflictError(name=name, problem=problem, see=versions)
        found = subject.release(connection, name, wanted.version)
        if isinstance(found, Refusal):
            raise _unusable(wanted, found)
        if stable == found.version:
            raise RolloutConflictError(name=name, problem=f"gives everybody {stable} already", see=versions)
        refusal = subject.refuse(connection, name, wanted.experiment)
        if refusal:
            problem = f"cannot be rolled out: {refusal.problem}"
            raise RolloutConflictError(name=name, problem=problem, see=refusal.see)
        if wanted.override_latch:
            lift(connection, subject.kind, name, found)
        else:
            require_unlatched(connection, subject.kind, name, found)
        return found

    def _require_answers(self, connection: Connection, plan: RolloutPlan) -> None:
        """Refuse a plan with a check that waits for what never comes."""
        for check in plan.checks:
            problem = self._objection(check)
            if isinstance(check, ExperimentCheck) and (why := _undecidable(connection, check.experiment)):
                problem = f"waits for the experiment `{check.experiment[:80]}`, {why}"
            if problem:
                raise InvalidPlanError(problem=f"the check `{check.name}` {problem}")

    def _is_return(
        self,
        connection: Connection,
        subject: Subject,
        name: str,
        release: Release,
        now: datetime,
        plan: RolloutPlan,
    ) -> bool:
        """Tell whether the version had all traffic a moment ago, by the newest rollout that is complete.

        Returning from a return is none: what was left then was left for a reason.
        """
        mine = (rollouts.c.kind == subject.kind) & (rollouts.c.subject == name)
        done = select(rollouts).where(mine, rollouts.c.status == RolloutStatus.COMPLETED.value)
        newest = connection.execute(done.order_by(rollouts.c.number.desc()).limit(1)).one_or_none()
        if newest is None or newest.fast or newest.stable != release.version or newest.finished_at is None:
            return False
        return (now - from_text(newest.finished_at)).total_seconds() <= plan.fast_rollback_seconds

    def _new(
        self,
        connection: Connection,
        wanted: RolloutRequest,
        plan: RolloutPlan,
        stable: str,
        release: Release,
        *,
        fast: bool,
        now: datetime,
        principal: str,
    ) -> Rollout:
        return Rollout(
            name=new_name(connection, wanted.subject, self._subjects.values()),
            kind=wanted.kind,
            subject=wanted.subject,
            status=RolloutStatus.PREPARING,
            plan=msgspec.structs.replace(PRESETS["immediate"], kind=plan.kind) if fast else plan,
            state=RolloutState(words="the new version is being prepared", entered_at=now, cause=wanted.reason),
            stable=stable,
            candidate=release.version,
            digest=release.digest,
            weight=0.0,
            fast=fast,
            latched=False,
            reason=wanted.reason,
            evidence=RolloutEvidence(),
            seen=0,
            created_at=now,
            created_by=principal,
        )

    def _insert(self, connection: Connection, rollout: Rollout, revision: int, subject: Subject) -> None:
        declared = measures(rollout.name, rollout.plan)
        declare(connection, declared)
        route = first_route(rollout, declared)
        state = msgspec.structs.replace(rollout.state, revision=revision)
        connection.execute(
            insert(rollouts).values(
                name=rollout.name,
                number=revision,
                kind=rollout.kind,
                subject=rollout.subject,
                status=rollout.status.value,
                plan=canonical_json(rollout.plan).decode(),
                state=encoded(state),
                evidence=encoded(rollout.evidence),
                routing=encoded(route),
                stable=rollout.stable,
                candidate=rollout.candidate,
                digest=rollout.digest,
                weight=0.0,
                fast=rollout.fast,
                latched=False,
                seen=0,
                reason=rollout.reason,
                created_at=to_text(rollout.created_at),
                created_by=rollout.created_by,
            )
        )
        subject.route(connection, rollout, route, principal=rollout.created_by, reason=rollout.reason)

    def _require_replaceable(self, connection: Connection, rollout: Rollout, subject: Subject) -> None:
        """Refuse to end what somebody has decided otherwise about since, or with a version that is gone."""
        present = subject.stable(connection, rollout.subject)
        if present not in {rollout.stable, rollout.candidate}:
            problem = f"cannot end: somebody moved {rollout.subject} to {present or 'nothing'} meanwhile"
            raise RolloutConflictError(name=rollout.name, problem=problem)
        release = subject.release(connection, rollout.subject, rollout.candidate)
        if isinstance(release, Refusal) or release.digest != rollout.digest:
            problem = f"cannot end: version {rollout.candidate} is gone or rejected"
            raise RolloutConflictError(name=rollout.name, problem=problem)

    def _require_unchanged(self, connection: Connection, rollout: Rollout, subject: Subject) -> None:
        """Refuse to return to the old version when something else has happened since, or it is gone."""
        present = subject.stable(connection, rollout.subject)
        if present != rollout.candidate:
            problem = f"is over, and {rollout.subject} points to {present or 'nothing'} since"
            raise RolloutConflictError(name=rollout.name, problem=problem)
        if isinstance(subject.release(connection, rollout.subject, rollout.stable), Refusal):
            problem = f"replaced {rollout.stable}, which is gone or rejected"
            raise RolloutConflictError(name=rollout.name, problem=problem)

    def _by_person(
        self, name: str, change: Callable[[Rollout], Change], reason: str, principal: str, *, dry_run: bool
    ) -> Rollout:
        """Do what a person wants, whatever the controller does meanwhile."""
        attribution(principal, reason)
        with self._database.write() as connection:  # writers come one after another: what is seen here is how it is
            rollout = rollout_of(find_row(connection, name))
            if not rollout.active and rollout.status is not RolloutStatus.COMPLETED:
                raise RolloutConflictError(name=rollout.name, problem=f"is {rollout.status.value}, so it is over")
            result = self.act(connection, rollout, change(rollout), principal=principal, epoch=0)
            if dry_run:
                connection.rollback()
        if self._readiness is not None and not dry_run:
            self._readiness.await_followers()
        return result


def _unusable(wanted: RolloutRequest, why: Refusal) -> RolloutConflictError:
    problem = f"has no usable version `{wanted.version[:80]}`: {why.problem}"
    return RolloutConflictError(name=wanted.subject, problem=problem, see=why.see)


def _transition(row: Row[Any]) -> RolloutTransition:
    return RolloutTransition(
        row.seq,
        row.kind,
        row.source,
        row.target,
        row.step,
        row.weight,
        row.reason,
        row.epoch,
        from_text(row.at),
        row.by,
    )


def _undecidable(connection: Connection, name: str) -> str:
    """Say why an experiment will not decide; nothing where it may, or has."""
    query = select(experiments.c.status).where(experiments.c.name == (name if is_slug(name) else ""))
    status = connection.scalar(query)
    if status is None:
        return "and there is none"
    return "which was stopped without a decision" if status == Status.STOPPED else ""
