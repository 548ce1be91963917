"""`AlertStore`: what people do with alerts: look at them, ask for silence and end it, try the channels."""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from crossfade.alerts.catalogue import catalogue, labels_of
from crossfade.alerts.export import rules_file
from crossfade.alerts.record import Alert, AlertStatus, ChannelTrial, Matcher, Silence, SilenceRequest, Told
from crossfade.alerts.rule import AlertRule
from crossfade.core.clock import Clock, utc_now
from crossfade.core.identity import check_name, new_id
from crossfade.errors import ChannelNotFoundError, CrossfadeError, InvalidSilenceError, SilenceNotFoundError
from crossfade.notifications.channels import Channels
from crossfade.notifications.event import Event
from crossfade.registry.acceptance import attribution
from crossfade.registry.pages import check_limit
from crossfade.registry.registry import LOCAL
from crossfade.settings import Settings
from crossfade.storage.changes import commit_change
from crossfade.storage.database import Database
from crossfade.storage.tables import alerts, silences
from crossfade.storage.times import to_text

ALERT = "alert"
"""Kind of the changes that alerts and silences are."""
LONGEST_SECONDS = 30 * 86_400.0
MAX_SILENCES = 1_000
"""That are in force at a time."""
_MAX_MATCHERS = 20
_ORDER = {AlertStatus.FIRING: 0, AlertStatus.PENDING: 1, AlertStatus.RESOLVED: 2}


class AlertStore:
    """The alerts of a platform.

    Args:
        database: Where they are.
        settings: Of the rules.
        channels: Who is told.
        clock: What time it is.

    Example:
        >>> store.silence(SilenceRequest(("model=churn",), 7200, "load test"))  # doctest: +SKIP
    """

    def __init__(self, database: Database, settings: Settings, channels: Channels, clock: Clock = utc_now) -> None:
        self._database = database
        self._settings = settings
        self._channels = channels
        self._clock = clock

    # --- looking ---

    def list(self, *, status: str = "", rule: str = "", model: str = "", limit: int = 100) -> tuple[Alert, ...]:
        """List alerts: firing ones first, then pending, then resolved; the newest of each first.

        Raises:
            InvalidPageError: The limit is wrong.
            InvalidNameError: The model is no name.
        """
        check_limit(limit)
        query = select(alerts.c.body)
        if status:
            query = query.where(alerts.c.status == status)
        with self._database.read() as connection:
            found = [msgspec.json.decode(body, type=Alert) for body in connection.scalars(query)]
            silenced = in_force(connection, self._clock, ends_after=True)
        if rule:
            found = [alert for alert in found if alert.rule == rule]
        if model:
            check_name(model)
            found = [alert for alert in found if alert.model == model]
        found.sort(key=lambda alert: (alert.resolved_at or alert.since, alert.id), reverse=True)
        found.sort(key=lambda alert: _ORDER[alert.status])
        now = self._clock()
        return tuple(
            msgspec.structs.replace(alert, silenced=any(each.covers(alert, now) for each in silenced))
            for alert in found[:limit]
        )

    def rules(self) -> tuple[AlertRule, ...]:
        """List the rules."""
        return catalogue(self._settings)

    def prometheus_rules(self) -> str:
        """Return the rules as a rule file of Prometheus, in YAML."""
        return rules_file(self._settings)

    # --- silences ---

    def silences(self, *, over: bool = False) -> tuple[Silence, ...]:
        """List silences, the newest first; those that are over only when they are asked for."""
        with self._database.read() as connection:
            return in_force(connection, self._clock, ends_after=not over)

    def silence(self, wanted: SilenceRequest, *, principal: str = LOCAL, dry_run: bool = False) -> Silence:
        """Let nobody be told of some alerts for a while.

        Raises:
            InvalidSilenceError: It has no condition, no reason, no usable length, or there are too many already.
        """
        said = attribution(principal, wanted.reason)
        matchers = _matchers(wanted)
        rules = self.rules()
        _require_rules(matchers, [rule.name for rule in rules])
        _require_labels(matchers, {"rule", "severity", *labels_of(rules)})
        now = self._clock()
        silence = Silence(new_id(), matchers, wanted.reason, principal, now, now + timedelta(seconds=wanted.seconds))
        with self._database.write() as connection:
            if len(in_force(connection, self._clock, ends_after=True)) >= MAX_SILENCES:
                raise InvalidSilenceError(problem=f"there are {MAX_SILENCES} already")
            details = {"matchers": [str(each) for each in matchers], "ends_at": to_text(silence.ends_at), **said}
            self._change(connection, silence.id, "alert.silence", principal, details)
            body = msgspec.json.encode(silence).decode()
            connection.execute(insert(silences).values(id=silence.id, ends_at=to_text(silence.ends_at), body=body))
            if dry_run:
                connection.rollback()
        return silence

    def end_silence(self, silence: str, *, reason: str = "", principal: str = LOCAL, dry_run: bool = False) -> Silence:
        """End a silence before its time; one that is over stays as it is.

        Raises:
            SilenceNotFoundError: There is none of this id.
        """
        said = attribution(principal, reason)
        with self._database.write() as connection:
            usable = len(silence) <= 36 and silence.isascii() and silence.isprintable()
            body = connection.scalar(select(silences.c.body).where(silences.c.id == silence)) if usable else None
            if body is None:
                raise SilenceNotFoundError(id=silence[:80])
            found, now = msgspec.json.decode(body, type=Silence), self._clock()
            if found.ends_at <= now:
                return found
            ended = msgspec.structs.replace(found, ends_at=now, ended_by=principal)
            self._change(connection, silence, "alert.unsilence", principal, said)
            values = {"ends_at": to_text(now), "body": msgspec.json.encode(ended).decode()}
            connection.execute(update(silences).where(silences.c.id == silence).values(**values))
            if dry_run:
                connection.rollback()
        return ended

    # --- channels ---

    def channels(self, wanted: ChannelTrial) -> tuple[str, ...]:
        """Return the channels that a test would try.

        Raises:
            ChannelNotFoundError: There is none of this name.
        """
        names = self._channels.names
        if wanted.channel and wanted.channel not in names:
            raise ChannelNotFoundError(name=wanted.channel[:80], known=", ".join(names) or "none")
        return (wanted.channel,) if wanted.channel else names

    def try_channels(self, wanted: ChannelTrial, *, principal: str = LOCAL) -> tuple[Told, ...]:
        """Tell channels of nothing in particular, once and now, and say what became of it.

        Raises:
            ChannelNotFoundError: There is none of this name.
        """
        said = attribution(principal, wanted.reason)
        names = self.channels(wanted)
        summary = "a test: nothing has happened"
        event = Event("alert.test", "this deployment", summary, self._clock(), details={**said})
        with self._database.write() as connection:
            self._change(connection, "", "alert.test", principal, {"channels": [*names], **said})
        return tuple(self._try(name, event) for name in names)

    def _try(self, name: str, event: Event) -> Told:
        try:
            self._channels.send(name, event)
        except CrossfadeError as error:
            return Told(name, str(error))
        return Told(name)

    def _change(
        self, connection: Connection, subject: str, action: str, principal: str, details: Mapping[str, object]
    ) -> None:
        commit_change(
            connection,
            kind=ALERT,
            model="",
            subject=subject,
            principal=principal,
            action=action,
            details=details,
            now=self._clock(),
        )


def in_force(connection: Connection, clock: Clock, *, ends_after: bool) -> tuple[Silence, ...]:
    """Return silences, the newest first.

    Args:
        connection: From `Database.read` or `write`.
        clock: What time it is.
        ends_after: Only those that are not over.
    """
    query = select(silences.c.body).order_by(silences.c.id.desc())
    if ends_after:
        query = query.where(silences.c.ends_at > to_text(clock()))
    return tuple(msgspec.json.decode(body, type=Silence) for body in connection.scalars(query))


def forget(connection: Connection, before: str) -> None:
    """Delete silences that ended before a stored time."""
    connection.execute(delete(silences).where(silences.c.ends_at < before))


def _matchers(wanted: SilenceRequest) -> tuple[Matcher, ...]:
    if not 0 < len(wanted.matchers) <= _MAX_MATCHERS:
        raise InvalidSilenceError(problem=f"it needs 1 to {_MAX_MATCHERS} conditions")
    if not wanted.reason.strip():
        raise InvalidSilenceError(problem="it needs a reason")
    if not (math.isfinite(wanted.seconds) and 0 < wanted.seconds <= LONGEST_SECONDS):
        raise InvalidSilenceError(problem=f"it lasts between 1 and {LONGEST_SECONDS:.0f} s")
    return tuple(map(Matcher.parse, wanted.matchers))


def _require_rules(matchers: Iterable[Matcher], names: list[str]) -> None:
    """Refuse conditions on rules that do not exist: who mistypes one would be told of it all the same."""
    for each in matchers:
        if each.label == "rule" and not fnmatch.filter(names, each.pattern):
            near = difflib.get_close_matches(each.pattern, names, 3, 0.5)
            meant = f"; near are {', '.join(near)}" if near else "; see them with `crossfade alerts rules`"
            raise InvalidSilenceError(problem=f"no rule is called `{each.pattern[:80]}`{meant}")


def _require_labels(matchers: Iterable[Matcher], known: Collection[str]) -> None:
    """Refuse conditions on labels that no alert has: `=` would cover nothing, and `!=` everything."""
    for each in matchers:
        if each.label not in known:
            raise InvalidSilenceError(problem=f"no alert has `{each.label[:80]}`; there are {', '.join(sorted(known))}")
