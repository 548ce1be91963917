"""`Hints`: wakes whoever follows the database when somebody commits a change, where the database can say so.

A hint is never the truth: it may get lost with its connection, or be swallowed by a connection pooler. Whoever follows
polls as well, and is only earlier with hints. PostgreSQL sends them (LISTEN and NOTIFY); SQLite has none.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from sqlalchemy import Connection

from crossfade.storage.database import Database

_CHANNEL = "crossfade_changes"
_ATTENTION_SECONDS = 0.25
"""How long waiting for PostgreSQL goes on without a look at whether it should end."""


def give_hint(connection: Connection) -> None:
    """Wake who follows, as soon as this write transaction commits.

    PostgreSQL takes a lock of the whole server while it commits one, so this is for changes and never for events.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"NOTIFY {_CHANNEL}")


class Hints:
    """For one thread that follows a database.

    Args:
        database: Which.

    Example:
        >>> Hints(database).wait(0.1, ending)  # doctest: +SKIP
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None

    def wait(self, seconds: float, ending: threading.Event) -> bool:
        """Wait for a hint, at most so long; tells whether to go on, which is not so once `ending` is set."""
        until = time.monotonic() + seconds
        if self._database.dialect == "postgresql":
            try:
                self._listen(until, ending)
            except Exception:  # noqa: BLE001 - whatever it is, hints are lost, and the poll says what is wrong
                self.close()
            else:
                return not ending.is_set()
        return not ending.wait(max(0.0, until - time.monotonic()))

    def close(self) -> None:
        """Let the connection go."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _listen(self, until: float, ending: threading.Event) -> None:
        if self._connection is None:
            self._connection = self._database.connect_for_messages()
            self._connection.exec_driver_sql(f"LISTEN {_CHANNEL}")
        raw: Any = self._connection.connection.driver_connection
        while not ending.is_set() and (left := until - time.monotonic()) > 0:
            for _hint in raw.notifies(timeout=min(left, _ATTENTION_SECONDS), stop_after=1):
                return
