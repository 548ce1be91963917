"""`KnownExperiments`: finds outcomes of what does not exist, while whoever reports them can still know."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from sqlalchemy import select, union

from crossfade.errors import UnavailableError
from crossfade.storage.database import Database
from crossfade.storage.tables import experiments, rollouts

PATIENCE_SECONDS = 0.5
"""How long a database may take; outcomes are acknowledged without it, so that its outage stops nobody."""
_REST_SECONDS = 5.0
_MOST = 100_000


class KnownExperiments:
    """Remembers which experiments and rollouts there are. Names that it knows cost nothing; others are asked for.

    To the ledger a rollout is an experiment of two variants.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: set[str] = set()
        self._rests_until = 0.0

    async def missing(self, names: Iterable[str]) -> frozenset[str]:
        """Return the names that neither an experiment nor a rollout has; none while the database does not answer."""
        unknown = frozenset(names) - self._known
        if not unknown or time.monotonic() < self._rests_until:
            return frozenset()
        try:
            found = await asyncio.wait_for(asyncio.to_thread(self._find, unknown), PATIENCE_SECONDS)
        except (UnavailableError, TimeoutError):
            self._rests_until = time.monotonic() + _REST_SECONDS
            return frozenset()
        if len(self._known) < _MOST:
            self._known |= found
        return unknown - found

    def _find(self, names: frozenset[str]) -> frozenset[str]:
        with self._database.read() as connection:
            wanted = sorted(names)
            queries = (select(table.c.name).where(table.c.name.in_(wanted)) for table in (experiments, rollouts))
            return frozenset(connection.scalars(union(*queries)))
