"""`Impact`: what a version of a config would change: its text, the units that read it, the answers of models."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import func, select

from crossfade.configs.difference import differences
from crossfade.configs.replaying import OpenPredictor, ReplayedModel, replay_documents, replayed
from crossfade.configs.reports import Affected, ImpactReport
from crossfade.configs.spec import AffectedSpec, ConfigSpec
from crossfade.configs.store import ConfigStore
from crossfade.core.clock import Clock, utc_now
from crossfade.storage.database import Database
from crossfade.storage.tables import exposures

MAX_CHANGES = 200
"""That a report names; it counts all."""
MAX_EXPOSURES = 200_000
"""That are looked at one by one, newest first, when a segment has to be asked."""
ROWS = 1_000
MAX_ROWS = 100_000


class Impact:
    """Finds out what versions would change.

    Args:
        store: Where versions are.
        database: Where exposures are.
        captures: The folder of captured predictions.
        open_predictor: Loads a model for a while.
        clock: What time it is.
    """

    def __init__(
        self,
        store: ConfigStore,
        database: Database,
        captures: Path,
        open_predictor: OpenPredictor,
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self._database = database
        self._captures = captures
        self._open_predictor = open_predictor
        self._clock = clock

    def assess(
        self,
        name: str,
        number: int,
        *,
        against: int | None = None,
        rows: Sequence[dict[str, Any]] = (),
        limit: int = ROWS,
    ) -> ImpactReport:
        """Return what a version would change. Nothing is changed by asking.

        Args:
            name, number: The version.
            against: Which one to compare with; by default the active one, or an empty document when there is none.
            rows: Inputs for the replays, instead of captured predictions.
            limit: Rows that are replayed, at most.

        Raises:
            ConfigNotFoundError, ConfigVersionNotFoundError: There is none.
            CrossfadeError: A model cannot be loaded.
        """
        with self._database.read() as connection:
            found = self._store.version(connection, name, number)
            spec = self._store.spec(connection, name, found.spec)
            against = self._store.row(connection, name).active if against is None else against
            old = {} if against is None else self._store.version(connection, name, against).document
        before, after = old or {}, found.document or {}
        changes = differences(before, after)
        affected = None if spec.affects is None else self._affected(spec.affects)
        replays = self._replays(spec, before, after, rows, min(limit, MAX_ROWS)) if against is not None else ()
        return ImpactReport(name, number, against, len(changes), changes[:MAX_CHANGES], affected, replays)

    def _replays(
        self,
        spec: ConfigSpec,
        before: dict[str, Any],
        after: dict[str, Any],
        rows: Sequence[dict[str, Any]],
        limit: int,
    ) -> tuple[ReplayedModel, ...]:
        return tuple(
            replayed(
                each,
                self._open_predictor,
                lambda predictor, each=each: replay_documents(  # type: ignore[misc]
                    each, before, after, predictor, self._captures, rows=rows, limit=limit
                ),
            )
            for each in spec.replays
        )

    def _affected(self, spec: AffectedSpec) -> Affected:
        since = int((self._clock() - timedelta(days=spec.days)).timestamp() * 1e6)
        where = exposures.c.at_us >= since
        if spec.model:
            where &= exposures.c.model == spec.model
        if spec.segment is None:
            counts = select(func.count(func.distinct(exposures.c.unit)), func.count()).where(where)
            with self._database.read() as connection:
                units, rows = connection.execute(counts).one()
            return Affected(units, rows, spec.days)
        test, found, seen, count = spec.segment.compile(), set(), 0, 0
        columns = exposures.c.unit, exposures.c.dimensions, exposures.c.context
        query = select(*columns).where(where).order_by(exposures.c.id.desc())
        with self._database.read() as connection:
            for row in connection.execute(query.limit(MAX_EXPOSURES)):
                seen += 1
                if test(msgspec.json.decode(row.dimensions) | msgspec.json.decode(row.context)):
                    found.add(row.unit)
                    count += 1
        return Affected(len(found), count, spec.days, complete=seen < MAX_EXPOSURES)
