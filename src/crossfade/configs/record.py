"""`Config` and `ConfigVersion`: what is stored of them, what people are shown, and how a version may move."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from crossfade.configs.checking import Finding, Reference
from crossfade.configs.spec import ConfigSpec
from crossfade.storage.times import from_text
from crossfade.traffic.routing import ExperimentRoute

if TYPE_CHECKING:
    from sqlalchemy import Row


class ConfigStatus(StrEnum):
    """Where a version of a config is in its life."""

    DRAFT = "draft"
    """Written down; its checks have not run, or found something."""
    VALIDATING = "validating"
    """Its checks passed, and people look at what it would change."""
    APPROVED = "approved"
    """Somebody else agreed."""
    DEPLOYING = "deploying"
    """Some units read it already."""
    ACTIVE = "active"
    """Everybody reads it, but for those whom a rollout gives the next one."""
    DEPRECATED = "deprecated"
    """Another version took its place."""
    ROLLED_BACK = "rolled_back"
    """It was taken back; it has to be checked and approved anew before anybody reads it again."""


LEGAL: dict[ConfigStatus, tuple[ConfigStatus, ...]] = {
    ConfigStatus.DRAFT: (ConfigStatus.VALIDATING,),
    ConfigStatus.VALIDATING: (ConfigStatus.APPROVED, ConfigStatus.DRAFT),
    ConfigStatus.APPROVED: (ConfigStatus.DEPLOYING, ConfigStatus.DRAFT),
    ConfigStatus.DEPLOYING: (
        ConfigStatus.ACTIVE,
        ConfigStatus.APPROVED,
        ConfigStatus.DEPRECATED,
        ConfigStatus.ROLLED_BACK,
    ),
    ConfigStatus.ACTIVE: (ConfigStatus.DEPRECATED, ConfigStatus.ROLLED_BACK),
    ConfigStatus.DEPRECATED: (ConfigStatus.DEPLOYING,),
    ConfigStatus.ROLLED_BACK: (ConfigStatus.DRAFT, ConfigStatus.VALIDATING),
}
"""Activating at once goes through `deploying`, too: within one transaction."""
_ONWARD = {
    ConfigStatus.DRAFT: "validate",
    ConfigStatus.VALIDATING: "approve",
    ConfigStatus.APPROVED: "activate",
    ConfigStatus.ROLLED_BACK: "validate",
}


def onward(name: str, number: int, status: ConfigStatus) -> str:
    """Return the command that takes a version on in its life; where none does, the one that lists all versions."""
    verb = _ONWARD.get(status)
    return f"crossfade configs {verb} {name} {number}" if verb else f"crossfade configs versions {name}"


class Validation(msgspec.Struct, frozen=True):
    """What the checks of a version found.

    Args:
        valid: Nothing is wrong.
        problems: What is.
        references: What the document names that has to exist.
        at: When they ran.
    """

    valid: bool
    problems: tuple[Finding, ...]
    references: tuple[Reference, ...]
    at: datetime

    @property
    def problem(self) -> str:
        """The first problem in words; empty when there is none."""
        if not self.problems:
            return ""
        first, more = self.problems[0], len(self.problems) - 1
        where = f"at `{first.path}`: " if first.path else ""
        return f"{where}{first.problem}" + (f" (and {more} more)" if more else "")


class Config(msgspec.Struct, frozen=True):
    """One config: a name, under which programs read a document.

    Args:
        name: Its name.
        active: The number of the version that everybody reads; None: none yet.
        versions: How many there are.
        rollout: Variant -> the number of its version, while a rollout gives units different ones.
        spec: What its newest version has to be.
        created_at, created_by: Its history in short; the audit log has all of it.
    """

    name: str
    active: int | None
    versions: int
    rollout: dict[str, int]
    spec: ConfigSpec
    created_at: datetime
    created_by: str


class MovedConfig(Config, frozen=True):
    """A config of which everybody shall read another version from now on: that is decided, and stays.

    Args:
        behind: Why readers do not follow yet, in words: the server that they read from is away. They do when it is
            back. Empty when nothing is known to be in the way.
    """

    behind: str = ""


class ConfigVersion(msgspec.Struct, frozen=True):
    """One version of a config. Its document never changes; its status does.

    Args:
        name: Of the config.
        number: Which of its versions, from 1.
        status: Where it is in its life.
        digest: SHA-256 of the canonical JSON of the document.
        document: What it says; absent in lists.
        spec: The number of the specification that it has to fulfil.
        validation: What its checks found; None: they have not run since it was written or taken back.
        reason: Of the newest change of its status.
        approved_by: Who approved it.
        created_at, created_by: Who wrote it.
        changed_at: When its status changed.
    """

    name: str
    number: int
    status: ConfigStatus
    digest: str
    spec: int
    created_at: datetime
    created_by: str
    changed_at: datetime
    document: dict[str, Any] | None = None
    validation: Validation | None = None
    reason: str = ""
    approved_by: str = ""


def route_of(row: Row[Any]) -> ExperimentRoute | None:
    """Return who reads which version of a config, from its row; None when everybody reads the same."""
    return None if row.routing is None else msgspec.json.decode(row.routing, type=ExperimentRoute)


def under_way(route: ExperimentRoute) -> str:
    """Say what has to end before anything else decides who reads a config."""
    end = f"`crossfade rollouts abort {route.name}`"
    return f"is being rolled out by `{route.name}`; promote or abort that first ({end})"


def config_of(row: Row[Any], versions: int, spec: str) -> Config:
    """Return a config from its row."""
    route = route_of(row)
    return Config(
        name=row.name,
        active=row.active,
        versions=versions,
        rollout={} if route is None else {variant: int(number) for variant, number in route.versions.items()},
        spec=msgspec.json.decode(spec, type=ConfigSpec),
        created_at=from_text(row.created_at),
        created_by=row.created_by,
    )


def version_of(row: Row[Any], *, whole: bool = True) -> ConfigVersion:
    """Return a version from its row, with its document or without."""
    return ConfigVersion(
        name=row.name,
        number=row.number,
        status=ConfigStatus(row.status),
        digest=row.digest,
        spec=row.spec,
        created_at=from_text(row.created_at),
        created_by=row.created_by,
        changed_at=from_text(row.changed_at),
        document=msgspec.json.decode(row.document) if whole else None,
        validation=None if row.validation is None else msgspec.json.decode(row.validation, type=Validation),
        reason=row.reason,
        approved_by=row.approved_by or "",
    )
