"""Drift: which clients run something else than what they should read.

A client that reads a config says what it has (the entity tag of its request) and may say who it is. That is gathered
in memory and written now and then; nobody waits for it, and a crash loses some seconds of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select

from crossfade.configs.active import ActiveConfig
from crossfade.configs.port import Board
from crossfade.configs.reports import ClientState, DriftReport, DriftState
from crossfade.core.clock import Clock, utc_now
from crossfade.core.hashing import is_digest
from crossfade.errors import ConfigNotFoundError, NoActiveConfigError
from crossfade.ledger.admission import is_slug
from crossfade.settings import ConfigSettings
from crossfade.storage.database import Database
from crossfade.storage.tables import config_clients, config_versions
from crossfade.storage.times import from_text, to_text
from crossfade.storage.upsert import upsert

MAX_WAITING = 20_000
"""Reports that wait to be written; what comes when there are so many is dropped."""
MAX_LISTED = 1_000
_LONGEST_CLIENT = 128
_LONGEST_UNIT = 256
_PRUNE_SECONDS = 600.0


class Drift:
    """Gathers what clients say, and compares.

    Args:
        database: Where it is kept.
        board: What clients should read.
        settings: How often it is written, and for how long it is believed.
        clock: What time it is.
    """

    def __init__(self, database: Database, board: Board, settings: ConfigSettings, clock: Clock = utc_now) -> None:
        self._database = database
        self._board = board
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._heard: dict[tuple[str, str], tuple[str, str, datetime]] = {}
        self._write_after = self._prune_after = clock()

    def hear(self, name: str, client: str, unit: str, digest: str) -> None:
        """Note what a client runs; takes a microsecond, and raises nothing.

        Args:
            name: The config.
            client: As it calls itself; nobody listens to a client without a name.
            unit: Whom it reads for.
            digest: Of the document that it has; empty when it has none.
        """
        if not is_slug(name) or not client or len(client) > _LONGEST_CLIENT or len(unit) > _LONGEST_UNIT:
            return
        if not (client.isprintable() and unit.isprintable()) or (digest and not is_digest(digest)):
            return
        with self._lock:
            if len(self._heard) < MAX_WAITING or (name, client) in self._heard:
                self._heard[name, client] = unit, digest, self._clock()

    def upkeep(self) -> None:
        """Write what was heard, when it is time, and forget clients that have not been heard of for long."""
        now = self._clock()
        if now >= self._write_after:
            self._write_after = now + timedelta(seconds=self._settings.report_seconds)
            self.write()
        if now >= self._prune_after:
            self._prune_after = now + timedelta(seconds=_PRUNE_SECONDS)
            before = to_text(now - timedelta(seconds=self._settings.client_retention_seconds))
            with self._database.write() as connection:
                connection.execute(delete(config_clients).where(config_clients.c.seen_at < before))

    def write(self) -> None:
        """Write what was heard.

        Raises:
            UnavailableError: It cannot be written now; it stays in memory.
        """
        with self._lock:
            heard, self._heard = self._heard, {}
        rows = [
            {"name": name, "client": client, "unit": unit, "digest": digest, "seen_at": to_text(at)}
            for (name, client), (unit, digest, at) in heard.items()
        ]
        try:
            if rows:
                with self._database.write() as connection:
                    upsert(connection, config_clients, rows)
        except BaseException:
            with self._lock:
                self._heard = heard | self._heard
            raise

    def report(self, name: str) -> DriftReport:
        """Return who runs what.

        Raises:
            ConfigNotFoundError: There is no config of this name.
            UnavailableError: The board or the database does not answer.
        """
        self.write()
        published = self._board.find(name)
        if published is None:
            raise ConfigNotFoundError(name=name[:80])
        clients = sorted(self._clients(ActiveConfig(published, self._clock())), key=_urgency)
        counts = dict.fromkeys(("current", "differs", "stale"), 0)
        for client in clients:
            counts[client.state] += 1
        return DriftReport(name, published.active, **counts, clients=tuple(clients[:MAX_LISTED]))

    def _clients(self, active: ActiveConfig) -> Iterator[ClientState]:
        name = active.published.name
        newest = func.max(config_versions.c.number).label("number")
        numbers = select(config_versions.c.digest, newest).where(config_versions.c.name == name)
        with self._database.read() as connection:
            rows = connection.execute(select(config_clients).where(config_clients.c.name == name)).all()
            found = connection.execute(numbers.group_by(config_versions.c.digest))
            known = {row.digest: row.number for row in found}
        heard_after = self._clock() - timedelta(seconds=self._settings.stale_seconds)
        for row in rows:
            expected = _expected(active, row.unit)
            seen_at = from_text(row.seen_at)
            same = row.digest == ("" if expected is None else expected[1])
            state: DriftState = "stale" if seen_at < heard_after else "current" if same else "differs"
            number = expected[0] if expected is not None and same else known.get(row.digest)
            yield ClientState(row.client, state, number, expected and expected[0], row.unit, row.digest, seen_at)


def _expected(active: ActiveConfig, unit: str) -> tuple[int, str] | None:
    try:
        found = active.read(unit or None)
    except NoActiveConfigError:
        return None
    return found.number, found.digest


def _urgency(client: ClientState) -> tuple[int, datetime]:
    return ("differs", "stale", "current").index(client.state), client.seen_at
