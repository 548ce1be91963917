"""`DeploymentKeeper`: sees whether new deployments come up, and goes back to what ran before when one does not.

Every serving process has one; a lease lets one of them work at a time, and every change checks that nothing has changed
since it was judged: each generation is gone back from once at most.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from crossfade.core.clock import Clock, utc_now
from crossfade.releases.deployment import Deployment, DeploymentState
from crossfade.releases.deployment_store import DeploymentStore
from crossfade.releases.probation import Verdict, judge
from crossfade.storage.attendant import Attendant
from crossfade.storage.lease import Lease, LostLeaseError

_log = logging.getLogger(__name__)

LEASE = "deployments"
LEASE_SECONDS = 15.0
POLL_SECONDS = 1.0
_PATIENCE = 2.0
"""Times that a version may take to become ready which a deployment may take: some of it is spent waiting for memory."""
_PAGE = 1000


class DeploymentKeeper(Attendant):
    """Turns from time to time, on a thread of its own.

    Args:
        store: The deployments.
        lease: Lets one process work at a time.
        ready_seconds: How long a version may take to become ready.
        clock: What time it is.
    """

    def __init__(self, store: DeploymentStore, lease: Lease, ready_seconds: float, clock: Clock = utc_now) -> None:
        super().__init__(LEASE, lease, POLL_SECONDS)
        self._store = store
        self._patience = timedelta(seconds=_PATIENCE * ready_seconds)
        self._clock = clock

    def turn(self) -> None:
        """Judge once whatever is on probation; nothing when another process does it.

        Raises:
            DatabaseUnavailableError: The database does not answer.
        """
        waiting = [
            deployment
            for status in (DeploymentState.DEPLOYING, DeploymentState.FAILED)
            for deployment in self._store.list(status=status.value, limit=_PAGE).items
        ]
        if not waiting or not self._lease.hold():
            return
        for deployment in waiting:
            try:
                self._attend(deployment)
            except LostLeaseError:
                return

    def _attend(self, deployment: Deployment) -> None:
        processes = self._store.status_of(deployment).processes
        verdict, reason = judge(deployment, processes, self._clock(), self._patience)
        if verdict is Verdict.PROVED and self._store.settle(deployment, self._lease.check):
            _log.info("deployment `%s` runs", deployment.name)
        elif verdict is Verdict.FAILED and self._store.give_up(deployment, reason, self._lease.check):
            _log.error("deployment `%s` did not come up: %s", deployment.name, reason)
