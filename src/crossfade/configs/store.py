"""`ConfigStore`: what is written about configs, each change inside of somebody's open write transaction.

Verbs of people open one (`configs.configs`), and so does the controller of rollouts, which changes a config together
with its own state. Every change leaves a revision and an audit entry in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, insert, select, update

from crossfade.configs.document import Document
from crossfade.configs.record import (
    LEGAL,
    Config,
    ConfigStatus,
    ConfigVersion,
    config_of,
    onward,
    route_of,
    under_way,
    version_of,
)
from crossfade.configs.spec import ConfigSpec
from crossfade.core.clock import Clock, utc_now
from crossfade.core.hashing import canonical_json
from crossfade.errors import ConfigConflictError, ConfigNotFoundError, ConfigVersionNotFoundError
from crossfade.ledger.admission import is_slug
from crossfade.storage.changes import commit_change
from crossfade.storage.tables import config_specs, config_versions, configs
from crossfade.storage.times import to_text
from crossfade.traffic.routing import ExperimentRoute

CONFIG = "config"
"""Kind of a change of a config that readers see."""
CONFIG_VERSION = "config_version"
"""Kind of a change that they do not see."""
LARGEST_NUMBER = 2**31 - 1
"""Of a version."""


class ConfigStore:
    """Configs and their versions.

    Args:
        clock: What time it is.

    Example:
        >>> with database.write() as connection:  # doctest: +SKIP
        ...     store.activate(connection, "limits", 3, principal="ann", reason="Black Friday")
    """

    def __init__(self, clock: Clock = utc_now) -> None:
        self._clock = clock

    # --- looking ---

    def find(self, connection: Connection, name: str) -> Config:
        """Return a config.

        Raises:
            ConfigNotFoundError: There is none of this name.
        """
        row = self.row(connection, name)
        numbers = select(func.count()).select_from(config_versions).where(config_versions.c.name == name)
        return config_of(row, int(connection.execute(numbers).scalar_one()), self._newest_spec(connection, name).body)

    def row(self, connection: Connection, name: str) -> Row[Any]:
        """Return the row of a config.

        Raises:
            ConfigNotFoundError: There is none of this name; suggests a similar one.
        """
        query = select(configs).where(configs.c.name == name)
        found = connection.execute(query).one_or_none() if is_slug(name) else None
        if found is None:
            near = get_close_matches(name[:80], connection.scalars(select(configs.c.name).limit(1000)), n=1)
            error = ConfigNotFoundError(name=name[:80], suggestion=near[0] if near else "")
            error.hint = f"did you mean `{near[0]}`? {error.hint}" if near else error.hint
            raise error
        return found

    def version(self, connection: Connection, name: str, number: int) -> ConfigVersion:
        """Return a version with its document.

        Raises:
            ConfigNotFoundError, ConfigVersionNotFoundError: There is none.
        """
        return version_of(self._version_row(connection, name, number))

    def spec(self, connection: Connection, name: str, number: int) -> ConfigSpec:
        """Return one of the specifications of a config."""
        where = (config_specs.c.name == name) & (config_specs.c.number == number)
        body = connection.execute(select(config_specs.c.body).where(where)).scalar_one()
        return msgspec.json.decode(body, type=ConfigSpec)

    def newest_spec(self, connection: Connection, name: str) -> ConfigSpec | None:
        """Return what the next document of a config has to be; None when there is no such config."""
        if connection.execute(select(configs.c.name).where(configs.c.name == name)).one_or_none() is None:
            return None
        return msgspec.json.decode(self._newest_spec(connection, name).body, type=ConfigSpec)

    # --- writing a version down ---

    def draft(
        self, connection: Connection, name: str, document: Document, spec: ConfigSpec, *, principal: str, reason: str
    ) -> tuple[ConfigVersion, bool]:
        """Write a version down; the same as the newest one changes nothing.

        Returns:
            The version, and whether it is new.
        """
        now = to_text(self._clock())
        known = connection.execute(select(configs).where(configs.c.name == name)).one_or_none()
        newest = None if known is None else self._newest_version(connection, name)
        if newest is not None and (newest.digest, self.spec(connection, name, newest.spec)) == (document.digest, spec):
            return version_of(newest), False
        number = 1 if newest is None else newest.number + 1
        details = {"digest": document.digest, "spec": spec.digest, "reason": reason}
        revision = self._change(connection, CONFIG_VERSION, name, number, "config.draft", principal, details)
        if known is None:
            values = {"name": name, "number": revision, "changed": revision, "created_at": now, "created_by": principal}
            connection.execute(insert(configs).values(values))
        row = {
            "name": name,
            "number": number,
            "spec": self._spec_number(connection, name, spec, principal),
            "digest": document.digest,
            "document": document.text,
            "status": ConfigStatus.DRAFT.value,
            "reason": reason,
            "created_at": now,
            "created_by": principal,
            "changed_at": now,
        }
        connection.execute(insert(config_versions).values(row))
        return self.version(connection, name, number), True

    # --- its life ---

    def mark(
        self,
        connection: Connection,
        name: str,
        number: int,
        status: ConfigStatus,
        *,
        principal: str,
        reason: str,
        values: Mapping[str, object] | None = None,
    ) -> ConfigVersion:
        """Change the status of one version.

        Args:
            connection: From `Database.write`.
            name, number: Which version.
            status: The new one.
            principal: Who does it.
            reason: Why.
            values: Other columns that change with it, or alone when the status stays.

        Raises:
            ConfigConflictError: It cannot follow the status that it has.
        """
        row = self._version_row(connection, name, number)
        details = {"from": row.status, "reason": reason}
        self._change(connection, CONFIG_VERSION, name, number, f"config.{status.value}", principal, details)
        if status == row.status and values:
            _set_version(connection, row, values)
        else:
            self._move(connection, row, status, reason, values or {})
        return self.version(connection, name, number)

    def route(
        self, connection: Connection, name: str, route: ExperimentRoute | None, *, principal: str, reason: str
    ) -> None:
        """Say who reads which version while a rollout moves units; None: everybody reads the active one.

        Args:
            connection: From `Database.write`.
            name: The config.
            route: Its `versions` map variants to numbers of versions as text.
            principal: Who does it.
            reason: Why.

        Raises:
            ConfigNotFoundError, ConfigVersionNotFoundError: It names what there is not.
        """
        self.row(connection, name)
        weights: dict[str, float] = {}
        if route is not None:
            for number in route.versions.values():
                self._version_row(connection, name, int(number))
            weights = {variant.name: variant.weight for variant in route.allocation.spec.variants}
        details = {"weights": weights, "reason": reason}
        revision = self._change(connection, CONFIG, name, None, "config.route", principal, details)
        text = None if route is None else msgspec.json.encode(route).decode()
        _set(connection, name, {"routing": text, "changed": revision})

    def withdraw(
        self, connection: Connection, name: str, number: int, *, failed: bool, principal: str, reason: str
    ) -> None:
        """Take a version off its way: it is what it was before, approved or a former one, unless it `failed`."""
        row = self._version_row(connection, name, number)
        if row.status != ConfigStatus.DEPLOYING:
            return
        before = ConfigStatus.APPROVED if row.activated is None else ConfigStatus.DEPRECATED
        status = ConfigStatus.ROLLED_BACK if failed else before
        self.mark(connection, name, number, status, principal=principal, reason=reason)

    def activate(
        self, connection: Connection, name: str, number: int, *, principal: str, reason: str, rollback: bool = False
    ) -> Config:
        """Let everybody read a version from now on. The one before is deprecated, or rolled back; a rollout ends.

        Args:
            connection: From `Database.write`.
            name, number: Which version.
            principal: Who does it.
            reason: Why.
            rollback: The version before was bad, and needs checks and an approval before anybody reads it again.

        Raises:
            ConfigConflictError: It was not approved, or a rollout of another version is under way.
        """
        config, row = self.row(connection, name), self._version_row(connection, name, number)
        route = route_of(config)
        if route is not None and str(number) not in route.versions.values():
            raise ConfigConflictError(name=name, problem=under_way(route))
        details = {"from": config.active, "to": number, "reason": reason}
        action = "config.rollback" if rollback else "config.activate"
        revision = self._change(connection, CONFIG, name, number, action, principal, details)
        if row.status != ConfigStatus.DEPLOYING:
            self._move(connection, row, ConfigStatus.DEPLOYING, reason, {})
        if config.active is not None:
            before = self._version_row(connection, name, config.active)
            self._move(
                connection, before, ConfigStatus.ROLLED_BACK if rollback else ConfigStatus.DEPRECATED, reason, {}
            )
        row = self._version_row(connection, name, number)
        self._move(connection, row, ConfigStatus.ACTIVE, reason, {"activated": revision})
        _set(connection, name, {"active": number, "routing": None, "changed": revision})
        return self.find(connection, name)

    def previous(self, connection: Connection, name: str) -> int:
        """Return the number of the version that was active before.

        Raises:
            ConfigConflictError: There is none to go back to.
        """
        self.row(connection, name)
        was = (config_versions.c.name == name) & (config_versions.c.status == ConfigStatus.DEPRECATED.value)
        query = select(config_versions.c.number).where(was).order_by(config_versions.c.activated.desc()).limit(1)
        number = connection.execute(query).scalar_one_or_none()
        if number is None:
            raise ConfigConflictError(name=name, problem="has no version to go back to")
        return int(number)

    # --- parts ---

    def _move(
        self, connection: Connection, row: Row[Any], status: ConfigStatus, reason: str, values: Mapping[str, object]
    ) -> None:
        if status not in LEGAL[ConfigStatus(row.status)]:
            problem = f"has version {row.number}, which is {row.status} and cannot become {status.value}"
            see = onward(row.name, row.number, ConfigStatus(row.status))
            raise ConfigConflictError(name=row.name, problem=problem, see=see)
        now = to_text(self._clock())
        changed: dict[str, object] = {"status": status.value, "reason": reason, "changed_at": now}
        if status is ConfigStatus.ROLLED_BACK:
            changed["activated"] = None  # no way back leads to it
        _set_version(connection, row, {**changed, **values})

    def _version_row(self, connection: Connection, name: str, number: int) -> Row[Any]:
        where = (config_versions.c.name == name) & (config_versions.c.number == number)
        in_range = 0 < number <= LARGEST_NUMBER and is_slug(name)
        found = connection.execute(select(config_versions).where(where)).one_or_none() if in_range else None
        if found is None:
            self.row(connection, name)
            raise ConfigVersionNotFoundError(name=name, number=number)
        return found

    def _newest_version(self, connection: Connection, name: str) -> Row[Any]:
        query = select(config_versions).where(config_versions.c.name == name)
        return connection.execute(query.order_by(config_versions.c.number.desc()).limit(1)).one()

    def _newest_spec(self, connection: Connection, name: str) -> Row[Any]:
        query = select(config_specs).where(config_specs.c.name == name)
        return connection.execute(query.order_by(config_specs.c.number.desc()).limit(1)).one()

    def _spec_number(self, connection: Connection, name: str, spec: ConfigSpec, principal: str) -> int:
        """Return the number of a specification, which is stored when it is another than the newest."""
        query = select(config_specs).where(config_specs.c.name == name)
        newest = connection.execute(query.order_by(config_specs.c.number.desc()).limit(1)).one_or_none()
        if newest is not None and newest.digest == spec.digest:
            return int(newest.number)
        number = 1 if newest is None else newest.number + 1
        row = {"name": name, "number": number, "digest": spec.digest, "body": canonical_json(spec).decode()}
        row |= {"created_at": to_text(self._clock()), "created_by": principal}
        connection.execute(insert(config_specs).values(row))
        return int(number)

    def _change(
        self,
        connection: Connection,
        kind: str,
        name: str,
        number: int | None,
        action: str,
        principal: str,
        details: Mapping[str, object],
    ) -> int:
        subject = name if number is None else f"{name}:{number}"
        return commit_change(
            connection,
            kind=kind,
            model="",
            subject=subject,
            principal=principal,
            action=action,
            details=details,
            now=self._clock(),
        )


def _set(connection: Connection, name: str, values: Mapping[str, object]) -> None:
    connection.execute(update(configs).where(configs.c.name == name).values(**values))


def _set_version(connection: Connection, row: Row[Any], values: Mapping[str, object]) -> None:
    where = (config_versions.c.name == row.name) & (config_versions.c.number == row.number)
    connection.execute(update(config_versions).where(where).values(**values))
