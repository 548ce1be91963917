"""`Evaluator`: looks at the rules from time to time, in one process at a time, and has channels told.

What fires and what has to be told is written in one transaction that checks the lease: whoever takes over, or starts
again, goes on from there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta

from crossfade.alerts import board
from crossfade.alerts.catalogue import catalogue
from crossfade.alerts.measuring import Findings, counters, measure
from crossfade.alerts.record import Alert, AlertStatus
from crossfade.alerts.rule import AlertRule
from crossfade.alerts.signals import HealthWindows, Known, Signals, Source
from crossfade.alerts.store import forget, in_force
from crossfade.core.clock import Clock, utc_now
from crossfade.notifications import outbox
from crossfade.notifications.channels import Channels
from crossfade.settings import Settings
from crossfade.storage.attendant import Attendant
from crossfade.storage.database import Database
from crossfade.storage.lease import Lease, LostLeaseError
from crossfade.storage.times import to_text

LEASE = "alerts"
BLIND = "blind_rules"
"""The source that tells which rules cannot be evaluated: the evaluator itself."""
Firing = Mapping[tuple[str, str, str], int]
"""(rule, severity, model) -> how many alerts fire."""


class Evaluator(Attendant):
    """Turns from time to time, on a thread of its own.

    Args:
        database: Where alerts are.
        settings: Rules, waits, intervals.
        channels: Who is told.
        lease: Lets one process work at a time.
        health: How versions do.
        metrics: Renders the metrics of this server.
        sources: Name -> what holds of it.
        clock: What time it is.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        channels: Channels,
        lease: Lease,
        *,
        health: HealthWindows,
        metrics: Callable[[], bytes] | None,
        sources: Mapping[str, Source],
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(LEASE, lease, settings.alerts.poll_seconds)
        self._database = database
        self._settings = settings.alerts
        self._slo = settings.slo
        self._channels = channels
        self._clock = clock
        self._rules = catalogue(settings)
        self._signals = Signals(health, metrics, {**sources, BLIND: self._blind}, monotonic=lambda: clock().timestamp())
        self._problems: dict[str, str] = {}
        self._firing: Firing = {}

    @property
    def firing(self) -> Firing:
        """What fires, as far as this process has heard; for metrics."""
        return self._firing

    def turn(self) -> None:
        """Look at every rule once, and post what is to be told; only read when another process does it.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        if not self._lease.hold():
            with self._database.read() as connection:
                self._firing = _counted(board.read_alerts(connection))
            return
        found = self._look()
        with suppress(LostLeaseError):
            self._write(found)

    def _look(self) -> list[tuple[AlertRule, Findings]]:
        self._signals.look(counters(self._rules))
        found = []
        problems: dict[str, str] = {}
        for rule in self._rules:
            findings = measure(rule, self._signals, self._slo, self._slo.min_requests)
            found.append((rule, findings))
            if findings.failed:
                problems[rule.name] = findings.problem
        self._problems = problems
        return found

    def _write(self, found: list[tuple[AlertRule, Findings]]) -> None:
        now = self._clock()
        with self._database.write() as connection:
            self._lease.check(connection)
            known = board.read_alerts(connection)
            after = board.progressed(known, found, now, self._settings)
            changed = board.save_alerts(connection, known, after, now)
            alive = [alert for alert in after.values() if alert is not None]
            silences = in_force(connection, self._clock, ends_after=True)
            notes, moved = board.notify(connection, alive, silences, now, self._settings)
            for note in notes:
                outbox.post(connection, note.event(now), self._channels.of(note.severity), now)
            if not (changed or moved):
                connection.rollback()
            elif changed:
                forget(connection, to_text(now - timedelta(seconds=self._settings.keep_seconds)))
        self._firing = _counted({alert.id: alert for alert in alive})

    def _blind(self) -> list[Known]:
        return [Known({"alert": name}, problem) for name, problem in self._problems.items()]


def _counted(found: Mapping[str, Alert]) -> Firing:
    firing = (alert for alert in found.values() if alert.status is AlertStatus.FIRING)
    return Counter((alert.rule, alert.severity, alert.model) for alert in firing)
