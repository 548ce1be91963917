"""What the engine has to know about a kind of subject."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from sqlalchemy import Connection

from crossfade.registry.requests import ProcessStatus
from crossfade.releases.rollout import Rollout
from crossfade.traffic.routing import ExperimentRoute


class Release(NamedTuple):
    """A version that may be released.

    Attributes:
        version: How it is called.
        digest: Its identity.
    """

    version: str
    digest: str


class Subject(Protocol):
    """One kind of subject. What takes a connection works inside the transaction of whoever calls it."""

    kind: str

    def stable(self, connection: Connection, name: str) -> str:
        """Return the version that everybody gets now; empty when nobody gets anything.

        Raises:
            NotFoundError: There is no such subject.
        """

    def release(self, connection: Connection, name: str, version: str) -> Release | None:
        """Return a version that may be released; None when there is none, or it was rejected."""

    def refuse(self, connection: Connection, name: str) -> str:
        """Say why this subject cannot be rolled out now; nothing when it can."""

    def route(self, connection: Connection, rollout: Rollout, route: ExperimentRoute | None) -> None:
        """Make readers follow a route; None ends it. Models need nothing: their snapshot reads rollouts."""

    def settle(
        self, connection: Connection, rollout: Rollout, version: str, *, principal: str, reason: str, now: datetime
    ) -> None:
        """Give a version everything for good."""

    def prepared(self, rollout: Rollout, processes: Sequence[ProcessStatus]) -> tuple[bool, str]:
        """Tell whether every process has the new version ready, and why one never will."""
