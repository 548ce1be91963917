"""`Configs`: everything that people do with configs: write a version down, check, approve, activate, take it back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Row, select

from crossfade.configs.checking import Check, Finding, Findings, check_in_child
from crossfade.configs.difference import Difference, differences
from crossfade.configs.document import Document, document_of, read_document
from crossfade.configs.record import Config, ConfigStatus, ConfigVersion, Validation, route_of, under_way, version_of
from crossfade.configs.references import References
from crossfade.configs.spec import ConfigSpec
from crossfade.configs.store import LARGEST_NUMBER, ConfigStore
from crossfade.core.clock import Clock, utc_now
from crossfade.core.identity import check_name
from crossfade.errors import ConfigConflictError, FourEyesError, UnfitConfigError, UnnamedApproverError
from crossfade.registry.acceptance import attribution
from crossfade.registry.pages import check_limit, number_cursor, page_of
from crossfade.registry.registry import LOCAL
from crossfade.registry.versions import Page
from crossfade.storage.database import Database
from crossfade.storage.tables import config_versions, configs

T = TypeVar("T")
_KIND = "configs"
_VERSIONS = "config versions"
_CHECKED = (ConfigStatus.DRAFT, ConfigStatus.VALIDATING, ConfigStatus.APPROVED, ConfigStatus.ROLLED_BACK)
"""Statuses in which the outcome of checks is kept: nobody reads these versions."""


class Configs:
    """The configs of a platform.

    Args:
        store: What is written.
        database: Where.
        references: Looks up what documents name.
        four_eyes: Whether somebody else than its author has to approve a version.
        clock: What time it is.
        check: Checks documents against schemas.

    Example:
        >>> version, _ = configs.draft("limits", '{"max": 5}', principal="ann")  # doctest: +SKIP
        >>> configs.validate("limits", 1).status  # doctest: +SKIP
        <ConfigStatus.VALIDATING: 'validating'>
    """

    def __init__(
        self,
        store: ConfigStore,
        database: Database,
        references: References,
        *,
        four_eyes: bool = True,
        clock: Clock = utc_now,
        check: Check = check_in_child,
    ) -> None:
        self._store = store
        self._database = database
        self._references = references
        self._four_eyes = four_eyes
        self._clock = clock
        self._check = check

    # --- looking ---

    def find(self, name: str) -> Config:
        """Return a config.

        Raises:
            ConfigNotFoundError: There is none of this name.
        """
        with self._database.read() as connection:
            return self._store.find(connection, name)

    def version(self, name: str, number: int) -> ConfigVersion:
        """Return a version with its document.

        Raises:
            ConfigNotFoundError, ConfigVersionNotFoundError: There is none.
        """
        with self._database.read() as connection:
            return self._store.version(connection, name, number)

    def list(self, *, cursor: str = "", limit: int = 100) -> Page[Config]:
        """List configs, newest first.

        Raises:
            InvalidPageError: The cursor or the limit is wrong.
        """
        query = select(configs).where(configs.c.number < number_cursor(_KIND, cursor))
        query = query.order_by(configs.c.number.desc()).limit(check_limit(limit) + 1)
        with self._database.read() as connection:
            rows: Sequence[Row[Any]] = connection.execute(query).all()
            page = page_of(_KIND, rows, limit, lambda row: row.number)
            return Page(tuple(self._store.find(connection, row.name) for row in page.items), page.next_cursor)

    def versions(self, name: str, *, status: str = "", cursor: str = "", limit: int = 100) -> Page[ConfigVersion]:
        """List the versions of a config without their documents, newest first.

        Raises:
            ConfigNotFoundError: There is none of this name.
            InvalidPageError: The cursor or the limit is wrong.
        """
        before = min(number_cursor(_VERSIONS, cursor), LARGEST_NUMBER)
        where = (config_versions.c.name == name) & (config_versions.c.number < before)
        if status:
            where &= config_versions.c.status == status
        query = select(config_versions).where(where).order_by(config_versions.c.number.desc())
        with self._database.read() as connection:
            self._store.row(connection, name)
            rows: Sequence[Row[Any]] = connection.execute(query.limit(check_limit(limit) + 1)).all()
        page = page_of(_VERSIONS, rows, limit, lambda row: row.number)
        return Page(tuple(version_of(row, whole=False) for row in page.items), page.next_cursor)

    def diff(self, name: str, number: int, against: int | None = None) -> tuple[Difference, ...]:
        """Return what a version changes.

        Args:
            name: The config.
            number: The version.
            against: Another one; by default the active one, or an empty document when there is none.

        Raises:
            ConfigNotFoundError, ConfigVersionNotFoundError: There is none.
        """
        with self._database.read() as connection:
            if against is None:
                against = self._store.row(connection, name).active
            before = {} if against is None else self._store.version(connection, name, against).document
            return differences(before, self._store.version(connection, name, number).document)

    # --- before anybody reads it ---

    def draft(
        self,
        name: str,
        document: bytes | str | dict[str, Any],
        *,
        spec: ConfigSpec | None = None,
        reason: str = "",
        principal: str = LOCAL,
        dry_run: bool = False,
    ) -> tuple[ConfigVersion, bool]:
        """Write a version down. The same document as the newest version's changes nothing.

        Args:
            name: The config; the first version makes it.
            document: A JSON object, or its text.
            spec: What documents have to be from this version on; by default what the version before had to be.
            reason: Why, for whoever approves it.
            principal: Who writes it.
            dry_run: Only check.

        Returns:
            The version, and whether it is new.

        Raises:
            InvalidConfigError: It cannot be read, or the schema is none.
        """
        said = attribution(principal, reason)
        check_name(name, "config")
        read = document_of(document, name) if isinstance(document, dict) else read_document(document, name)
        if spec is not None:
            spec = spec.checked(name)
            self._check(name, spec, None)
        with self._database.write() as connection:
            asked = spec or self._store.newest_spec(connection, name) or ConfigSpec()
            made, new = self._store.draft(connection, name, read, asked, **said)
            if dry_run:
                connection.rollback()
        return made, new

    def validate(
        self, name: str, number: int, *, reason: str = "", principal: str = LOCAL, dry_run: bool = False
    ) -> ConfigVersion:
        """Run the checks of a version: its schema, its rules, and whether what it names exists.

        A version that nobody reads yet becomes `validating` when all is well, and else a draft again. Of one that is
        read, this only tells.

        Raises:
            ConfigNotFoundError, ConfigVersionNotFoundError: There is none.
            InvalidConfigError: Its schema takes too long.
        """
        said = attribution(principal, reason)
        with self._database.read() as connection:
            found = self._store.version(connection, name, number)
            spec = self._store.spec(connection, name, found.spec)
        validation = self._validation(name, spec, document_of(found.document, name))
        if found.status not in _CHECKED:
            return msgspec.structs.replace(found, validation=validation)
        status = ConfigStatus.VALIDATING if validation.valid else ConfigStatus.DRAFT
        if found.status is ConfigStatus.APPROVED and validation.valid:
            status = ConfigStatus.APPROVED
        values: dict[str, object] = {"validation": msgspec.json.encode(validation).decode()}
        if status is ConfigStatus.DRAFT:
            values["approved_by"] = None

        def change(connection: Connection) -> ConfigVersion:
            now = self._store.version(connection, name, number)
            if now.status is not found.status:
                raise ConfigConflictError(name=name, problem="has changed meanwhile; look again")
            return self._store.mark(connection, name, number, status, values=values, **said)

        return self._changed(change, dry_run=dry_run)

    def approve(
        self, name: str, number: int, *, reason: str = "", principal: str = LOCAL, dry_run: bool = False
    ) -> ConfigVersion:
        """Agree that a version may be read.

        Raises:
            ConfigConflictError: Its checks have not run, or a rollout gives it to units already.
            FourEyesError: Whoever wrote it may not approve it.
            UnnamedApproverError: Nor may somebody without a name, who may be whoever wrote it.
            UnfitConfigError: Its checks found something, or what it names does not exist any more.
        """
        said = attribution(principal, reason)
        found = self.version(name, number)
        if found.status is ConfigStatus.APPROVED:
            return found
        if self._four_eyes and principal == LOCAL:
            raise UnnamedApproverError(name=name, number=number)
        if self._four_eyes and found.created_by == principal:
            raise FourEyesError(name=name, number=number, principal=principal)
        if found.validation is not None and not found.validation.valid:
            raise UnfitConfigError(name=name, number=number, problem=found.validation.problem)
        self._require_references(found)

        def change(connection: Connection) -> ConfigVersion:
            if self._store.version(connection, name, number).status is ConfigStatus.DEPLOYING:
                raise ConfigConflictError(name=name, problem=f"has version {number} on its way, which was approved")
            return self._store.mark(
                connection, name, number, ConfigStatus.APPROVED, values={"approved_by": principal}, **said
            )

        return self._changed(change, dry_run=dry_run)

    # --- from then on ---

    def activate(
        self,
        name: str,
        number: int,
        *,
        expected: int | None = None,
        reason: str = "",
        principal: str = LOCAL,
        dry_run: bool = False,
    ) -> Config:
        """Let everybody read an approved version, or a former one, from now on.

        Args:
            name, number: Which version.
            expected: When given, the number that has to be active now, 0 for none: nobody's change is overwritten.
            reason: Why, for the audit log.
            principal: Who does it.
            dry_run: Only check.

        Raises:
            ConfigConflictError: It is not approved, another version is active than expected, or a rollout is under way.
            UnfitConfigError: What it names does not exist any more.
        """
        said = attribution(principal, reason)
        self._require_references(self.version(name, number))

        def change(connection: Connection) -> Config:
            row = self._store.row(connection, name)
            _require_calm(row)
            if expected is not None and expected != (row.active or 0):
                problem = f"has version {row.active or 'none'} active, and not {expected or 'none'}"
                raise ConfigConflictError(name=name, problem=problem)
            if row.active == number:
                return self._store.find(connection, name)
            return self._store.activate(connection, name, number, principal=said["principal"], reason=said["reason"])

        return self._changed(change, dry_run=dry_run)

    def rollback(self, name: str, *, reason: str = "", principal: str = LOCAL, dry_run: bool = False) -> Config:
        """Let everybody read the version that was active before; the present one has to be approved anew.

        Raises:
            ConfigConflictError: There is none, or a rollout is under way.
            UnfitConfigError: What it names does not exist any more.
        """
        said = attribution(principal, reason)
        with self._database.read() as connection:
            _require_calm(self._store.row(connection, name))
            number = self._store.previous(connection, name)
        self._require_references(self.version(name, number))

        def change(connection: Connection) -> Config:
            _require_calm(self._store.row(connection, name))
            if self._store.previous(connection, name) != number:
                raise ConfigConflictError(name=name, problem="has changed meanwhile; look again")
            return self._store.activate(
                connection, name, number, principal=said["principal"], reason=said["reason"], rollback=True
            )

        return self._changed(change, dry_run=dry_run)

    # --- parts ---

    def _changed(self, change: Callable[[Connection], T], *, dry_run: bool) -> T:
        with self._database.write() as connection:
            result = change(connection)
            if dry_run:
                connection.rollback()
        return result

    def _validation(self, name: str, spec: ConfigSpec, document: Document) -> Validation:
        findings: Findings = self._check(name, spec, document)
        broken = ((rule, rule.problem(document.value)) for rule in spec.rules)
        problems = (
            *findings.problems,
            *(Finding("", f"{problem} (rule `{rule.name}`)", "rule") for rule, problem in broken if problem),
            *self._references.missing(findings.references),
        )
        return Validation(not problems, problems, findings.references, self._clock())

    def _require_references(self, version: ConfigVersion) -> None:
        references = () if version.validation is None else version.validation.references
        for problem in self._references.missing(references):
            facts = {"name": version.name, "number": version.number}
            raise UnfitConfigError(**facts, problem=f"at `{problem.path}`: {problem.problem}")


def _require_calm(row: Row[Any]) -> None:
    route = route_of(row)
    if route is not None:
        raise ConfigConflictError(name=row.name, problem=under_way(route))
