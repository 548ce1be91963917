"""`Published`: what readers of a config have to know; `ActiveConfig`: the same, compiled to be asked quickly."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from crossfade.core.clock import utc_now
from crossfade.core.identity import new_id
from crossfade.errors import NoActiveConfigError
from crossfade.ledger.events import Exposure
from crossfade.traffic.allocation.decisions import Reason
from crossfade.traffic.routing import ExperimentRoute, Router, Traffic


class PublishedVersion(msgspec.Struct, frozen=True):
    """A version that somebody reads: its number, its digest, its document as canonical JSON."""

    number: int
    digest: str
    document: str


class Published(msgspec.Struct, frozen=True):
    """Everything that readers of one config have to know.

    Args:
        name: The config.
        revision: Of the change that made it so; what has a smaller one is older.
        active: The number of the version that everybody reads; None: none yet.
        versions: Those that anybody reads.
        routing: Who reads which, while a rollout moves units.
    """

    name: str
    revision: int
    active: int | None
    versions: tuple[PublishedVersion, ...] = ()
    routing: ExperimentRoute | None = None


class ReadConfig(msgspec.Struct, frozen=True):
    """What one reader gets.

    Args:
        name: The config.
        number: Of the version.
        digest: SHA-256 of the canonical JSON of the document.
        document: What it says.
        variant: Which side of a rollout this is; empty when everybody reads the same.
        rollout: Which one decided so.
        why: How the variant was chosen, in words.
    """

    name: str
    number: int
    digest: str
    document: msgspec.Raw
    variant: str = ""
    rollout: str = ""
    why: str = ""

    @property
    def etag(self) -> str:
        """What tells whether a reader has this already, and has it by the word of the same rollout.

        So whoever keeps the old version is answered once in each rollout, and is known to the ledger as having had it:
        otherwise the new version would be compared only with those who had nothing before.
        """
        return f'"{self.rollout}-{self.number}-{self.digest}"' if self.rollout else f'"{self.number}-{self.digest}"'

    @property
    def value(self) -> dict[str, Any]:
        """The document, decoded."""
        found: dict[str, Any] = msgspec.json.decode(self.document)
        return found


class ActiveConfig:
    """One config, as it is read by one revision of it, at one moment.

    Args:
        published: What it is.
        at: The moment, which matters to schedules and ramps of a rollout; aware.

    Attributes:
        due_at: When to compile again; None for never.
    """

    __slots__ = ("_answers", "_router", "due_at", "published")

    def __init__(self, published: Published, at: datetime | None = None) -> None:
        self.published = published
        self._answers = {
            version.number: ReadConfig(
                published.name, version.number, version.digest, msgspec.Raw(version.document.encode())
            )
            for version in published.versions
        }
        routing = published.routing
        self._router = None if routing is None else Router(Traffic(experiments=(routing,)), at or utc_now())
        self.due_at = None if self._router is None else self._router.due_at

    def read(self, unit: str | None = None, context: Mapping[str, Any] | None = None) -> ReadConfig:
        """Return what a unit reads.

        Args:
            unit: Whom it is for; nobody in particular reads the active version.
            context: What else is known, which segments of a rollout look at.

        Raises:
            NoActiveConfigError: No version is active.
        """
        published, variant, rollout, why = self.published, "", "", ""
        number = published.active
        if self._router is not None and published.routing is not None:
            decision = self._router.decide(published.routing.name, unit, context)
            why = decision.words
            if decision.enrolled or decision.reason is Reason.OVERRIDE:
                variant, rollout = decision.variant, published.routing.name
                number = int(published.routing.versions[variant])
        answer = self._answers.get(number) if number is not None else None
        if answer is None:
            raise NoActiveConfigError(name=published.name)
        return msgspec.structs.replace(answer, variant=variant, rollout=rollout, why=why) if why else answer

    def exposure(self, unit: str, context: Mapping[str, Any] | None = None) -> Exposure | None:
        """Return what the ledger keeps of a unit that reads this now; None unless a rollout decides for it.

        So outcomes of units that read a version can speak for or against it.
        """
        routing = self.published.routing
        if self._router is None or routing is None:
            return None
        decision = self._router.decide(routing.name, unit, context)
        if not decision.enrolled:
            return None
        return Exposure(
            new_id(),
            time.time_ns() // 1000,
            decision.experiment,
            decision.revision,
            decision.variant,
            unit,
            decision.propensity,
        )
