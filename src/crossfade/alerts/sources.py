"""What holds that no number shows: results of experiments, gaps, rollbacks, emergencies, critical answers, drift."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import msgspec
from sqlalchemy import func, select

from crossfade.alerts.signals import Known, Source
from crossfade.configs.desk import ConfigDesk
from crossfade.core.clock import Clock, utc_now
from crossfade.errors import CrossfadeError, MissingExtraError
from crossfade.experiments.judging import Judge
from crossfade.experiments.record import Status
from crossfade.experiments.store import ExperimentStore
from crossfade.safety.levels import Level
from crossfade.safety.reports import Role
from crossfade.safety.store import SafetyStore
from crossfade.storage.database import Database
from crossfade.storage.tables import alias_history, audit, changes, ledger_gaps, safety_violations
from crossfade.storage.times import to_text

RECENT = timedelta(minutes=15)
"""How long a rollback is worth an alert."""
RETURNS = ("rollout.rollback", "config.rollback", "deployment.rollback")
"""Actions of the audit log that bring something back; moves of aliases are recognised by where they lead."""
_DECIDED = {"ship", "keep", "stop"}
_PAGE = 1_000
_LOOK_SECONDS = 60.0


class ExperimentSources:
    """What the evidence of running experiments says; an analysis takes a while, so it is looked at once a minute.

    Args:
        store: The experiments.
        judge: Analyses them.
        monotonic: The clock.
    """

    def __init__(self, store: ExperimentStore, judge: Judge, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._judge = judge
        self._monotonic = monotonic
        self._looked_at: float | None = None
        self._results: list[Known] = []
        self._deviations: list[Known] = []

    def results(self) -> list[Known]:
        """List experiments that can be decided.

        Raises:
            CrossfadeError: None can be analysed.
        """
        self._look()
        return self._results

    def deviations(self) -> list[Known]:
        """List experiments whose variants do not get the units that they should.

        Raises:
            CrossfadeError: None can be analysed.
        """
        self._look()
        return self._deviations

    def _look(self) -> None:
        now = self._monotonic()
        if self._looked_at is not None and now - self._looked_at < _LOOK_SECONDS:
            return
        results: list[Known] = []
        deviations: list[Known] = []
        for experiment in self._store.list(status=Status.RUNNING.value, limit=_PAGE).items:
            labels = {"experiment": experiment.name} | ({"model": experiment.model} if experiment.model else {})
            try:
                report = self._judge.analyze(experiment.name)
            except MissingExtraError:
                raise
            except CrossfadeError:  # it cannot be analysed yet, or has just ended
                continue
            if report.decision.action in _DECIDED:
                results.append(Known(labels, f"{report.decision.action}: {report.decision.reason}"))
            problems = [each.words for each in report.health.problems if each.code == "sample_ratio"]
            deviations.extend(Known(labels, words) for words in problems)
        self._results, self._deviations, self._looked_at = results, deviations, now


class DatabaseSources:
    """What tables of the platform say.

    Args:
        database: Where they are.
        clock: What time it is.
    """

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def ledger_gaps(self) -> Iterator[Known]:
        """Yield experiments of which events are missing since a day.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        since = int((self._clock() - timedelta(days=1)).timestamp() * 1e6)
        query = select(ledger_gaps.c.experiment).where(ledger_gaps.c.last_us >= since).distinct()
        with self._database.read() as connection:
            names = sorted(connection.scalars(query))
        for name in names:
            labels = {"experiment": name} if name else {}
            yield Known(labels, "events of the last day are missing from the database")

    def rollbacks(self) -> Iterator[Known]:
        """Yield what was rolled back lately, once each: a rollout that was complete takes its alias back with it.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        since = to_text(self._clock() - RECENT)
        returns = (
            select(audit.c.subject, audit.c.principal, audit.c.details, audit.c.at, changes.c.model)
            .join(changes, changes.c.revision == audit.c.seq)
            .where(audit.c.at >= since, audit.c.action.in_(RETURNS))
        )
        moves = select(alias_history).where(alias_history.c.moved_at >= since).order_by(alias_history.c.seq)
        with self._database.read() as connection:
            rows = connection.execute(returns).all()
            found = [(row.subject, row.model, _why(row.details, row.principal)) for row in rows]
            told = {(row.model, row.at) for row in rows}
            for move in connection.execute(moves).all():
                if (move.model, move.moved_at) in told:  # one transaction, one moment
                    continue
                same = (alias_history.c.model == move.model) & (alias_history.c.alias == move.alias)
                before = select(alias_history).where(same, alias_history.c.seq < move.seq)
                last = connection.execute(before.order_by(alias_history.c.seq.desc()).limit(1)).one_or_none()
                if last is not None and move.target is not None and last.source == move.target:
                    what = f"from {move.source} to {move.target}"
                    found.append((f"{move.model}@{move.alias}", move.model, what))
        for subject, model, what in found:
            yield Known({"subject": subject} | ({"model": model} if model else {}), what)

    def safety_violations(self) -> Iterator[Known]:
        """Yield models that gave critical answers within five minutes.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        table = safety_violations
        since = to_text(self._clock() - timedelta(minutes=5))
        query = (
            select(table.c.model, func.sum(table.c.answers).label("answers"))
            .where(table.c.level == Level.CRITICAL.value, table.c.role == Role.ANSWER.value, table.c.minute >= since)
            .group_by(table.c.model)
            .order_by(table.c.model)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        for row in rows:
            yield Known({"model": row.model}, f"{row.answers:,} answers within five minutes", float(row.answers))


def _why(details: str, principal: str) -> str:
    """Return why something was brought back, or at least by whom."""
    reason: str = msgspec.json.decode(details).get("reason", "")
    return reason or f"rolled back by {principal}"


def emergencies(safety: SafetyStore) -> list[Known]:
    """List what is stopped: everywhere, or on this machine.

    Raises:
        DatabaseUnavailableError: The database does not answer.
    """
    status = safety.status()
    return [
        Known({"model": each.model} if each.model else {}, f"{each.mode}, since {each.since:%H:%M} UTC: {each.reason}")
        for each in (*status.emergencies, *status.local)
    ]


def drift(desk: ConfigDesk) -> Iterator[Known]:
    """Yield configs of which clients run something else than they should.

    Raises:
        UnavailableError: The board or the database does not answer.
    """
    cursor = ""
    while True:
        page = desk.verbs.list(cursor=cursor, limit=_PAGE)
        for config in page.items:
            if config.active is not None and (found := desk.drift.report(config.name)).differs:
                yield Known({"config": config.name}, f"{found.differs:,} clients differ", float(found.differs))
        if not page.next_cursor:
            return
        cursor = page.next_cursor


def standard_sources(
    database: Database, store: ExperimentStore, judge: Judge, safety: SafetyStore, desk: ConfigDesk
) -> dict[str, Source]:
    """Return the sources of the catalogue, by their names there."""
    trials, tables = ExperimentSources(store, judge), DatabaseSources(database)
    return {
        "experiment_results": trials.results,
        "experiment_deviations": trials.deviations,
        "ledger_gaps": tables.ledger_gaps,
        "rollbacks": tables.rollbacks,
        "safety_violations": tables.safety_violations,
        "emergency_mode": lambda: emergencies(safety),
        "configuration_drift": lambda: drift(desk),
    }
