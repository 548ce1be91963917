"""`Lease`: one process at a time does what must not be done twice, and one that was away too long does nothing at all.

A lease has an epoch, which grows with every new holder. Each write of a holder checks its epoch in its own transaction:
writers are serialised, so a holder that slept through the end of its lease cannot change anything any more, whatever
its clock says. Clocks decide only how soon another process takes over; and one whose clock was far ahead, so that its
lease seems to last for hours, loses it as soon as it has not been kept for its length, as others have watched it.

Source: fencing tokens (Kleppmann, How to do distributed locking, 2016,
https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, insert, select, update

from crossfade.core.clock import Clock, utc_now
from crossfade.core.identity import new_id
from crossfade.storage.database import Database
from crossfade.storage.tables import leases
from crossfade.storage.times import to_text


class LostLeaseError(Exception):
    """Another process holds the lease now."""


class Lease:
    """One process's wish to hold a lease, and whether it does.

    Args:
        database: Where leases are.
        name: What it is about.
        seconds: How long it is held after `hold`.
        clock: What time it is.

    Example:
        >>> if lease.hold():  # doctest: +SKIP
        ...     with database.write() as connection:
        ...         lease.check(connection)
    """

    def __init__(self, database: Database, name: str, seconds: float, clock: Clock = utc_now) -> None:
        self._database = database
        self._name = name
        self._seconds = timedelta(seconds=seconds)
        self._clock = clock
        self._holder = new_id()
        self._watched: tuple[tuple[object, ...], datetime] | None = None
        self._held_at = datetime.min.replace(tzinfo=UTC)
        self.epoch = 0

    def hold(self) -> bool:
        """Take the lease, or keep it; tells whether this process holds it now.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        with self._database.write() as connection:
            now = self._clock()
            row = connection.execute(select(leases).where(leases.c.name == self._name)).one_or_none()
            mine = row is not None and row.holder == self._holder and row.epoch == self.epoch
            if row is not None and not mine and row.expires_at > to_text(now) and not self._is_left(tuple(row), now):
                return False
            epoch = 1 if row is None else row.epoch + (not mine)
            values = {"holder": self._holder, "epoch": epoch, "expires_at": to_text(now + self._seconds)}
            if row is None:
                connection.execute(insert(leases).values(name=self._name, **values))
            else:
                connection.execute(update(leases).where(leases.c.name == self._name).values(**values))
        self.epoch, self._held_at = epoch, now
        return True

    def _is_left(self, row: tuple[object, ...], now: datetime) -> bool:
        """Tell whether nobody has kept the lease for its length, by what this process has seen and its own clock."""
        if self._watched is None or self._watched[0] != row:
            self._watched = row, now
        return now - self._watched[1] >= self._seconds

    def keep(self) -> bool:
        """Hold the lease again when a third of it has gone by; for whoever does several things that may take long.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        return self._clock() - self._held_at < self._seconds / 3 or self.hold()

    def check(self, connection: Connection) -> None:
        """Go on only while this process holds the lease; within the transaction of what depends on it.

        Raises:
            LostLeaseError: It does not.
        """
        row = connection.execute(select(leases).where(leases.c.name == self._name)).one_or_none()
        if row is None or row.holder != self._holder or row.epoch != self.epoch:
            raise LostLeaseError(self._name)

    def release(self) -> None:
        """Let another process have it at once; nothing when this one does not hold it."""
        mine = (leases.c.name == self._name) & (leases.c.holder == self._holder) & (leases.c.epoch == self.epoch)
        with self._database.write() as connection:
            connection.execute(update(leases).where(mine).values(expires_at=to_text(self._clock())))
