"""`SafetyStore`: what people do about safety: policies, overrides, emergencies, and looking at what happened.

Every change is one transaction: the row, the revision that processes follow, and the audit entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, delete, insert, select, update

from crossfade.core.clock import Clock, utc_now
from crossfade.core.identity import new_id
from crossfade.core.tensors import Signature
from crossfade.errors import (
    InvalidOverrideError,
    InvalidSafetyPolicyError,
    NoEmergencyError,
    OverrideNotFoundError,
    SafetyPolicyNotFoundError,
)
from crossfade.registry.acceptance import attribution, explained
from crossfade.registry.registry import LOCAL, Registry
from crossfade.registry.requests import ProcessStatus
from crossfade.registry.versions import Page
from crossfade.safety.checks import Bench, compile_check
from crossfade.safety.fallback import constant_row
from crossfade.safety.latch import Latch
from crossfade.safety.looking import list_overrides, status_of
from crossfade.safety.records import SAFETY, emergency_of, override_of, policy_of, read_rules
from crossfade.safety.reports import Violation
from crossfade.safety.requests import EmergencyReport, SafetyStatus
from crossfade.safety.rules import EVERYTHING, PRINCIPAL, Emergency, Override, SafetyPolicy
from crossfade.safety.specs import Constant, Mode, OtherVersion, SafetyPolicySpec, checked
from crossfade.safety.violations import list_violations
from crossfade.storage.changes import commit_change
from crossfade.storage.database import Database
from crossfade.storage.tables import safety_emergencies, safety_overrides, safety_policies
from crossfade.storage.times import to_text

LONGEST_OVERRIDE_SECONDS = 30 * 86_400.0
_REMOVED = "its policy was removed"
FOLLOW_SECONDS = 5.0
"""How long a person waits to be told that every process follows."""

Wait = Callable[[int, float], Sequence[ProcessStatus]]
"""(revision, seconds) -> live processes that do not answer from it after that time."""


class SafetyStore:
    """The rules of a platform.

    Args:
        registry: Where models are.
        database: Where rules are.
        home: Where emergencies of this machine are.
        live: Lists the live processes.
        wait: Waits until they follow a revision.
        clock: What time it is.

    Example:
        >>> store.begin_emergency("the feed is wrong", model="load").revision  # doctest: +SKIP
        17
    """

    def __init__(
        self,
        registry: Registry,
        database: Database,
        home: Path,
        live: Callable[[], Sequence[ProcessStatus]],
        wait: Wait,
        clock: Clock = utc_now,
    ) -> None:
        self._registry = registry
        self._database = database
        self._latch = Latch(home, clock)
        self._live = live
        self._wait = wait
        self._clock = clock

    # --- policies ---

    def put_policy(
        self, spec: SafetyPolicySpec, *, reason: str = "", principal: str = LOCAL, dry_run: bool = False
    ) -> SafetyPolicy:
        """Give a model a policy, in the place of the one that it has. The same again changes nothing.

        Raises:
            ModelNotFoundError: There is no such model.
            VersionNotFoundError: A version that it falls back to is not there.
            InvalidSafetyPolicyError: It cannot be used, or does not fit the champion.
        """
        spec, said = checked(spec), attribution(principal, reason)
        self._check_fit(spec)
        body = msgspec.json.encode(spec).decode()
        with self._database.write() as connection:
            known = connection.execute(_policy_row(spec.model)).one_or_none()
            if known is not None and known.spec == body:
                return policy_of(known)
            details = {"spec": msgspec.json.decode(body), **said}
            number = self._change(connection, spec.model, spec.model, "safety.policy", principal, details)
            connection.execute(delete(safety_policies).where(safety_policies.c.model == spec.model))
            row = {"model": spec.model, "number": number, "spec": body, "reason": reason}
            row |= {"created_at": to_text(self._clock()), "created_by": principal}
            connection.execute(insert(safety_policies).values(row))
            made = policy_of(connection.execute(_policy_row(spec.model)).one())
            if dry_run:
                connection.rollback()
        return made

    def policy(self, model: str) -> SafetyPolicy:
        """Return the policy of a model.

        Raises:
            SafetyPolicyNotFoundError: It has none.
        """
        with self._database.read() as connection:
            row = connection.execute(_policy_row(model)).one_or_none()
        if row is None:
            raise SafetyPolicyNotFoundError(model=model[:80])
        return policy_of(row)

    def policies(self) -> tuple[SafetyPolicy, ...]:
        """Return every policy, by the name of its model."""
        with self._database.read() as connection:
            return read_rules(connection).policies

    def remove_policy(
        self, model: str, *, reason: str = "", principal: str = LOCAL, dry_run: bool = False
    ) -> SafetyPolicy:
        """Let a model answer without checks; returns the policy that it had. Overrides of its checks end, too.

        Raises:
            SafetyPolicyNotFoundError: It has none.
        """
        said, found = attribution(principal, reason), self.policy(model)
        with self._database.write() as connection:
            self._change(connection, model, model, "safety.policy.remove", principal, said)
            connection.execute(delete(safety_policies).where(safety_policies.c.model == model))
            ending = {"ended_at": to_text(self._clock()), "ended_by": principal, "ended_because": _REMOVED}
            over = update(safety_overrides).where(
                safety_overrides.c.model == model, safety_overrides.c.ended_at.is_(None)
            )
            connection.execute(over.where(safety_overrides.c.expires_at > ending["ended_at"]).values(ending))
            if dry_run:
                connection.rollback()
        return found

    def _check_fit(self, spec: SafetyPolicySpec) -> None:
        """Refuse what the champion cannot be asked, or could not have answered."""
        champion = self._registry.model(spec.model).aliases.get("champion")
        for step in spec.fallback:
            if isinstance(step, OtherVersion):
                self._registry.resolve(f"{spec.model}:{step.version}")
        if champion is None:
            return
        signature = self.signature(f"{spec.model}:{champion}")
        for check in spec.checks:
            problem = compile_check(check, Bench(signature)).problem
            if problem:
                raise InvalidSafetyPolicyError(problem=f"check `{check.name}` on `{spec.model}:{champion}`: {problem}")
        for step in spec.fallback:
            if isinstance(step, Constant):
                _check_constant(step, signature)

    def signature(self, ref: str) -> Signature:
        """Return the signature of a version.

        Raises:
            NotFoundError: There is none.
        """
        return self._registry.manifest(ref).signature

    # --- overrides ---

    def override(
        self,
        model: str,
        *,
        seconds: float,
        reason: str,
        check: str = "",
        version: str = "",
        principal: str = LOCAL,
        dry_run: bool = False,
    ) -> Override:
        """Turn checks off for a while; every answer that they would have looked at says so.

        Args:
            model: Whose.
            seconds: For how long, 30 days at most.
            reason: Why.
            check: Which one; empty: all of them.
            version: Only for this semver; empty: for all.
            principal: Who asks.
            dry_run: Only check.

        Raises:
            SafetyPolicyNotFoundError: The model has no policy.
            InvalidOverrideError: The policy has no such check, or that is no time.
            ReasonRequiredError: There is no reason.
        """
        said = explained(principal, reason, "turning a check off")
        names = {item.name for item in self.policy(model).spec.checks}
        if check and check not in names:
            problem = f"its policy has no check `{check[:80]}`, only {', '.join(sorted(names)[:20])}"
            raise InvalidOverrideError(model=model, problem=problem)
        if not (math.isfinite(seconds) and 1 <= seconds <= LONGEST_OVERRIDE_SECONDS):
            raise InvalidOverrideError(model=model, problem="it takes from 1 second to 30 days")
        if version:
            version = self._registry.resolve(f"{model}:{version}").version
        now = self._clock()
        made = Override(new_id(), model, check, version, reason, now + timedelta(seconds=seconds), now, principal)
        row = {"id": made.id, "model": model, "check_name": check, "version": version, "reason": reason}
        row |= {"expires_at": to_text(made.expires_at), "created_at": to_text(now), "created_by": principal}
        details = {"check": check, "version": version, "expires_at": row["expires_at"], **said}
        with self._database.write() as connection:
            self._change(connection, model, made.id, "safety.override", principal, details)
            connection.execute(insert(safety_overrides).values(row))
            if dry_run:
                connection.rollback()
        return made

    def end_override(self, id: str, *, reason: str, principal: str = LOCAL, dry_run: bool = False) -> Override:  # noqa: A002
        """Turn checks on again before their time.

        Raises:
            OverrideNotFoundError: There is no such override.
            InvalidOverrideError: It is over already.
            ReasonRequiredError: There is no reason.
        """
        said = explained(principal, reason, "turning a check on")
        table = safety_overrides
        with self._database.write() as connection:
            row = connection.execute(select(table).where(table.c.id == id)).one_or_none()
            if row is None:
                raise OverrideNotFoundError(id=id[:80])
            now = self._clock()
            if not override_of(row).holds(now):
                raise InvalidOverrideError(model=row.model, problem=f"the override `{id}` is over")
            self._change(connection, row.model, id, "safety.override.end", principal, said)
            ending = {"ended_at": to_text(now), "ended_by": principal, "ended_because": reason}
            connection.execute(update(table).where(table.c.id == id).values(ending))
            ended = override_of(connection.execute(select(table).where(table.c.id == id)).one())
            if dry_run:
                connection.rollback()
        return ended

    def overrides(
        self, *, model: str = "", holding: bool = False, cursor: str = "", limit: int = 100
    ) -> Page[Override]:
        """List overrides, newest first; those that are over stay.

        Raises:
            InvalidPageError: The cursor or the limit cannot be used.
        """
        holding_at = self._clock() if holding else None
        return list_overrides(self._database, model=model, holding_at=holding_at, cursor=cursor, limit=limit)

    # --- emergencies ---

    def begin_emergency(
        self,
        reason: str,
        *,
        mode: Mode = "block",
        model: str = EVERYTHING,
        principal: str = LOCAL,
        dry_run: bool = False,
        wait: bool = True,
    ) -> EmergencyReport:
        """Stop a model, or everything, in every process, until a person ends it.

        Args:
            reason: Why.
            mode: `block` refuses; `fall_back` gives what the fallback of the policy gives.
            model: Which one; empty: everything.
            principal: Who asks.
            dry_run: Only check.
            wait: Until every live process follows, at most five seconds.

        Raises:
            ModelNotFoundError: There is no such model.
            ReasonRequiredError: There is no reason.
        """
        said = explained(principal, reason, "an emergency")
        if model:
            self._registry.model(model)
        table, begun = safety_emergencies, Emergency(model, mode, reason, self._clock(), principal)
        with self._database.write() as connection:
            row = connection.execute(select(table).where(table.c.model == model)).one_or_none()
            # what acts by itself does not soften what a person, or something stricter, has begun
            if row is not None and (row.mode == mode or (principal == PRINCIPAL and row.mode == "block")):
                return EmergencyReport(emergency_of(row), 0)
            details = {"mode": mode, **said}
            revision = self._change(connection, model, begun.scope, "safety.emergency", principal, details)
            connection.execute(delete(table).where(table.c.model == model))
            values = {"model": model, "mode": mode, "reason": reason, "since": to_text(begun.since)}
            connection.execute(insert(table).values(**values, started_by=principal))
            if dry_run:
                connection.rollback()
        return self._followed(begun, 0 if dry_run else revision, wait=wait)

    def end_emergency(
        self, reason: str, *, model: str = EVERYTHING, principal: str = LOCAL, dry_run: bool = False
    ) -> EmergencyReport:
        """Let a model, or everything, answer again.

        Raises:
            NoEmergencyError: It is in none.
            ReasonRequiredError: There is no reason.
        """
        said = explained(principal, reason, "the end of an emergency")
        table = safety_emergencies
        with self._database.write() as connection:
            row = connection.execute(select(table).where(table.c.model == model)).one_or_none()
            if row is None:
                raise NoEmergencyError(scope=model[:80] or "everything")
            ended = emergency_of(row)
            revision = self._change(connection, model, ended.scope, "safety.emergency.end", principal, said)
            connection.execute(delete(table).where(table.c.model == model))
            if dry_run:
                connection.rollback()
        return self._followed(ended, 0 if dry_run else revision, wait=True)

    def _followed(self, emergency: Emergency, revision: int, *, wait: bool) -> EmergencyReport:
        if not revision or not wait:
            return EmergencyReport(emergency, revision)
        late = self._wait(revision, FOLLOW_SECONDS)
        names = tuple(f"{process.host}/{process.pid}" for process in late)
        return EmergencyReport(emergency, revision, len(self._live()) - len(late), names)

    # --- looking ---

    def status(self) -> SafetyStatus:
        """Return what is in force."""
        return status_of(self._database, self._latch.read(), self._clock())

    def violations(
        self, *, model: str = "", check: str = "", level: str = "", cursor: str = "", limit: int = 100
    ) -> Page[Violation]:
        """List violations, newest first.

        Raises:
            InvalidPageError: The cursor or the limit cannot be used.
        """
        return list_violations(self._database, model=model, check=check, level=level, cursor=cursor, limit=limit)

    def _change(
        self,
        connection: Connection,
        model: str,
        subject: str,
        action: str,
        principal: str,
        details: Mapping[str, object],
    ) -> int:
        return commit_change(
            connection,
            kind=SAFETY,
            model=model,
            subject=subject,
            principal=principal,
            action=action,
            details=details,
            now=self._clock(),
        )


def _policy_row(model: str) -> Select[Any]:
    return select(safety_policies).where(safety_policies.c.model == model)


def _check_constant(step: Constant, signature: Signature) -> None:
    names = {spec.name for spec in signature.outputs}
    unknown = set(step.outputs) - names
    if unknown:
        raise InvalidSafetyPolicyError(problem=f"fallback: there is no output `{min(unknown)[:80]}`")
    try:
        constant_row(step.outputs, signature)
    except ValueError as error:
        raise InvalidSafetyPolicyError(problem=f"fallback: {error}") from None
