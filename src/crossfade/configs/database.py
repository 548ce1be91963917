"""The platform database as a board: what is committed there is what is read."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from crossfade.configs.active import Published, PublishedVersion
from crossfade.configs.port import News
from crossfade.configs.record import route_of
from crossfade.ledger.admission import is_slug
from crossfade.storage.changes import revision
from crossfade.storage.database import Database
from crossfade.storage.tables import config_versions, configs


class DatabaseBoard:
    """Reads configs from the platform database.

    Args:
        database: Which.
        poll_seconds: How often it is looked at while somebody waits.
    """

    def __init__(self, database: Database, poll_seconds: float) -> None:
        self._database = database
        self._poll_seconds = poll_seconds
        self._closing = threading.Event()

    def find(self, name: str) -> Published | None:
        """Return one config, or None when it is not there."""
        if not is_slug(name):
            return None
        with self._database.read() as connection:
            row = connection.execute(select(configs).where(configs.c.name == name)).one_or_none()
            return None if row is None else _published(connection, [row])[0]

    def since(self, position: int) -> News:
        """Return what changed after a revision."""
        with self._database.read() as connection:
            rows = connection.execute(select(configs).where(configs.c.changed > position)).all()
            return News(revision(connection), tuple(_published(connection, rows)))

    def wait(self, position: int, seconds: float) -> bool:
        """Wait until there is a revision after this one, at most so long."""
        deadline = time.monotonic() + seconds
        while self._database.revision() <= position:
            left = deadline - time.monotonic()
            if left <= 0 or self._closing.wait(min(left, self._poll_seconds)):
                return False
        return True

    def close(self) -> None:
        """End those who wait; the database is somebody else's."""
        self._closing.set()


def _published(connection: Connection, rows: Sequence[Row[Any]]) -> list[Published]:
    found = []
    for row in rows:
        routing = route_of(row)
        numbers = set() if routing is None else {int(number) for number in routing.versions.values()}
        numbers |= set() if row.active is None else {row.active}
        where = (config_versions.c.name == row.name) & config_versions.c.number.in_(numbers)
        columns = config_versions.c.number, config_versions.c.digest, config_versions.c.document
        versions = tuple(PublishedVersion(*each) for each in connection.execute(select(*columns).where(where)))
        found.append(Published(row.name, row.changed, row.active, versions, routing))
    return found
