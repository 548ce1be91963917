"""Deployments on a registry of their own, and serving processes that say what a test wants."""

from __future__ import annotations

import msgspec

from crossfade.registry.requests import ProcessStatus
from crossfade.releases.deployment import DeploymentSpec
from crossfade.releases.deployment_keeper import LEASE, LEASE_SECONDS, DeploymentKeeper
from crossfade.releases.deployment_store import DeploymentStore
from crossfade.storage.lease import Lease
from crossfade.traffic.deployed import DeploymentReport, Probe, ReplicaCounts, ReplicaRange
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.health import HealthLog
from tests.traffic.support import FAST

READY_SECONDS = 20.0


def plan(name="web", version="1.0.0", **options):
    """Return a deployment of `m` with two replicas."""
    options = {"model": "m", "replicas": ReplicaRange(2), "probe": Probe(interval_seconds=5.0)} | options
    return DeploymentSpec(name, version=version, **options)


class Deploying:
    """A store, its keepers, and processes that report.

    Attributes:
        refuses: What this machine says of any resources, when it serves.
    """

    def __init__(self, registry, clock):
        self.registry = registry
        self.database = registry.backend.database
        self.clock = clock
        self.fleet = Fleet(self.database, FAST, clock)
        self.log = HealthLog(self.database, clock)
        self.refuses = None
        self._keeper = None
        self.store = DeploymentStore(registry, self.database, self.fleet, self.log, self._fitting, clock)

    def _fitting(self, terms):
        if self.refuses is not None:
            raise self.refuses
        return terms.replicas.most

    def keeper(self):
        lease = Lease(self.database, LEASE, LEASE_SECONDS, self.clock)
        return DeploymentKeeper(self.store, lease, READY_SECONDS, self.clock)

    def turn(self):
        """Let the one keeper of this test look around."""
        self._keeper = self._keeper or self.keeper()
        self._keeper.turn()

    def say(self, *reports, process="a", host="host"):
        """Let a process report."""
        now = self.clock()
        status = ProcessStatus(process, host, 7, now, now, self.fleet.revision())
        self.fleet.report(status, reports)

    def report(self, name="web", ready=2, wanted=2, **options):
        """Return what a process says that follows the newest generation."""
        found = self.store.find(name)
        options = {"generation": found.generation, "version": found.version} | options
        return DeploymentReport(name, replicas=ReplicaCounts(wanted, ready, restarting=wanted - ready), **options)

    def prove(self, name="web"):
        """Let a deployment pass its probation."""
        self.clock.advance(60)
        self.say(self.report(name))
        self.turn()


def audited(database):
    """Return (action, principal, details) of everything about deployments."""
    from sqlalchemy import select

    from crossfade.storage.tables import audit

    query = select(audit).where(audit.c.action.like("deployment.%")).order_by(audit.c.seq)
    with database.read() as connection:
        rows = connection.execute(query).all()
    return [(row.action, row.principal, msgspec.json.decode(row.details)) for row in rows]
