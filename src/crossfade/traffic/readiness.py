"""`Readiness`: making every serving process load a version before anything is sent to it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from crossfade.errors import UnavailableError
from crossfade.registry.versions import Version
from crossfade.traffic.candidates import Candidate
from crossfade.traffic.fleet import READY, Fleet

_log = logging.getLogger(__name__)

FOLLOW_SECONDS = 5.0
"""How long a change waits for processes to follow; they follow without being waited for, too."""


class Readiness:
    """Asks every process for versions, and waits for them.

    Args:
        fleet: The processes.
        timeout_seconds: How long loading may take.

    Example:
        >>> with readiness.of(version, principal="ann"):  # doctest: +SKIP
        ...     registry.move_alias("churn", "champion", version.version)
    """

    def __init__(self, fleet: Fleet, timeout_seconds: float) -> None:
        self._fleet = fleet
        self._timeout_seconds = timeout_seconds

    @contextmanager
    def of(self, target: Version, principal: str) -> Iterator[None]:
        """Make every process ready for a version, and keep it so until the block ends.

        Raises:
            LoadFailedError: A process cannot make it ready, or is silent.
        """
        if not self._fleet.members():
            yield
            return
        candidate, settled = self._announce(target, principal)
        try:
            while not settled:
                self._fleet.wait_ready(candidate, self._timeout_seconds, registered_at=target.created_at)
                settled = self._fleet.is_candidate(candidate)
                if not settled:  # another one asked for it after us, and has withdrawn since
                    candidate = self._ask(target, principal)
            yield
        finally:
            self._withdraw(candidate, principal)

    def await_followers(self) -> None:
        """Wait until every live process answers by the newest revision, but not for one that hangs."""
        self._fleet.wait_revision(self._fleet.revision(), FOLLOW_SECONDS)

    def _announce(self, target: Version, principal: str) -> tuple[Candidate, bool]:
        """Ask every process for a version; tells, too, whether each has it ready already and will keep it.

        When it was ready everywhere at one revision and the request is the next, no process ever follows a revision at
        which nobody wishes for it: there is nothing to wait for.
        """
        revision = self._fleet.revision()
        ready = all(
            process.revision >= revision and process.slots.get(target.ref, ("", ""))[0] == READY
            for process in self._fleet.members()
        )
        candidate = self._ask(target, principal)
        return candidate, ready and candidate.revision == revision + 1

    def _ask(self, target: Version, principal: str) -> Candidate:
        return self._fleet.add_candidate(target.model, target.version, principal=principal)

    def _withdraw(self, candidate: Candidate, principal: str) -> None:
        try:
            self._fleet.remove_candidate(candidate, principal=principal)
        except UnavailableError as error:  # what was done is done either way; a later sweep removes the row
            _log.warning("the candidate %s could not be withdrawn: %s", candidate.ref, error)
