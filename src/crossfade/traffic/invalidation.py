"""Invalidation of kept answers, by version or by model, in every process.

It is one transaction with a revision of its own. The revision is the new generation, and a generation is part of every
key of the response cache: from the snapshot on that has it, a process cannot find what was computed before.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete

from crossfade.core.clock import Clock, utc_now
from crossfade.registry.registry import LOCAL, Registry
from crossfade.storage.changes import commit_change
from crossfade.storage.database import Database
from crossfade.storage.tables import cache_generations
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.readiness import FOLLOW_SECONDS
from crossfade.traffic.reports import Invalidation


class AnswerInvalidation:
    """Makes every process compute answers anew.

    Example:
        >>> invalidation.invalidate("churn", reason="the feature table was wrong").generation  # doctest: +SKIP
        41
    """

    def __init__(self, registry: Registry, database: Database, fleet: Fleet, clock: Clock = utc_now) -> None:
        self._registry = registry
        self._database = database
        self._fleet = fleet
        self._clock = clock

    def invalidate(self, ref: str, *, reason: str = "", principal: str = LOCAL, dry_run: bool = False) -> Invalidation:
        """Let no process give an answer any more that was computed before now.

        Args:
            ref: A bare name means every version of the model; any other spelling means the one version.
            reason: Why, for the audit log.
            principal: Who asks.
            dry_run: Only check that there is such a model or version.

        Raises:
            ModelNotFoundError, VersionNotFoundError, AliasNotFoundError: There is nothing of this name.
            DatabaseUnavailableError: The database does not answer.
        """
        model, version = self._target(ref)
        if dry_run:
            return Invalidation(model, version, 0, len(self._fleet.live()))
        generation = self._commit(model, version, {"reason": reason}, principal)
        late = self._fleet.wait_revision(generation, FOLLOW_SECONDS)
        return Invalidation(
            model,
            version,
            generation,
            processes=len(self._fleet.live()) - len(late),
            late=tuple(f"{process.host}/{process.pid}" for process in late),
        )

    def _target(self, ref: str) -> tuple[str, str | None]:
        if not {":", "@", "/"} & set(ref):
            return self._registry.model(ref).name, None
        version = self._registry.resolve(ref)
        return version.model, version.version

    def _commit(self, model: str, version: str | None, details: Mapping[str, object], principal: str) -> int:
        table, semver = cache_generations, version or ""
        with self._database.write() as connection:
            generation = commit_change(
                connection,
                kind="cache",
                model=model,
                subject=Invalidation(model, version, 0).ref,
                principal=principal,
                action="cache.invalidate",
                details=details,
                now=self._clock(),
            )
            connection.execute(delete(table).where(table.c.model == model, table.c.semver == semver))
            connection.execute(table.insert().values(model=model, semver=semver, generation=generation))
        return generation
