"""A registry on a database of its own, and a database that can be switched off."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from crossfade.errors import DatabaseUnavailableError
from crossfade.registry.native import NativeBackend
from crossfade.registry.registry import Registry
from crossfade.registry.requests import ProcessStatus
from crossfade.settings import ServingSettings
from crossfade.storage.blobs.folder import FolderBlobStore
from crossfade.storage.database import open_database
from crossfade.storage.migrate import migrate
from crossfade.storage.tables import candidates
from crossfade.testing.drafts import publish
from crossfade.traffic.allocation.allocations import Allocations
from crossfade.traffic.allocation.specs import AllocationSpec, VariantSpec
from crossfade.traffic.routing import ExperimentRoute, Traffic

FAST = ServingSettings(snapshot_poll_seconds=0.005, heartbeat_seconds=0.5, ready_timeout_seconds=20)
"""Settings under which tests do not wait longer than they must."""


class Clock:
    """A clock that stands still unless a test moves it."""

    def __init__(self):
        self.now = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += timedelta(seconds=seconds)


class FragileDatabase:
    """A database that a test can take away."""

    def __init__(self, database):
        self._database = database
        self.away = False

    def __getattr__(self, name):
        return getattr(self._database, name)

    def _check(self):
        if self.away:
            raise DatabaseUnavailableError(problem="it is away")

    def revision(self):
        self._check()
        return self._database.revision()

    @contextmanager
    def read(self):
        self._check()
        with self._database.read() as connection:
            yield connection

    @contextmanager
    def write(self):
        self._check()
        with self._database.write() as connection:
            yield connection


class Process:
    """A serving process as the database sees it; it follows at once, and loads as the test says."""

    def __init__(self, fleet, clock, name="a"):
        self.fleet = fleet
        self.clock = clock
        self.name = name
        self.slots = {}
        self.loads = {}
        self.follows = True
        self.revision = -1

    def report(self):
        if self.follows:
            self.revision = self.fleet.revision()
        status = ProcessStatus(self.name, "host", 7, self.clock(), self.clock(), self.revision, dict(self.slots))
        self.fleet.report(status)

    def turn(self):
        """Take notice of candidates."""
        with self.fleet._database.read() as connection:
            for row in connection.execute(candidates.select()):
                ref = f"{row.model}:{row.semver}"
                self.slots[ref] = self.loads.get(ref, ("ready", ""))
        self.report()


def open_registry(home, url, **options):
    """Return a registry over SQLite or PostgreSQL; `backend.database` can be taken away."""
    database = open_database(url)
    migrate(database)
    backend = NativeBackend(FragileDatabase(database), FolderBlobStore(home / "blobs"), **options)
    return Registry(backend)


def publish_all(registry, name, *versions):
    """Publish versions with different content each."""
    return [publish(registry.backend, name, version, f"{name} {version}".encode()) for version in versions]


def move(registry, name, version, alias="champion"):
    """Move an alias without asking anybody."""
    return registry.move_alias(name, alias, version, reason="test")


def eventually(condition, seconds=10.0):
    """Wait until something is true; fail when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)


async def soon(condition, seconds=10.0):
    """Wait on the event loop until something is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.001)


HALVES = {"old": 0.5, "new": 0.5}


def allocate(name, weights=HALVES, **options):
    """Return what is asked for of one experiment."""
    return AllocationSpec(name, tuple(VariantSpec(variant, weight) for variant, weight in weights.items()), **options)


def route_of(allocation, model="m", **options):
    """Return an experiment as serving knows it; its variants are answered by `1.0.0`, `1.0.1` and so on."""
    versions = {variant.name: f"1.0.{number}" for number, variant in enumerate(allocation.spec.variants)}
    return ExperimentRoute(allocation, **{"model": model, "versions": versions if model else {}} | options)


def traffic_of(*specs, layers=(), **options):
    """Return the traffic of experiments that were placed in this order."""
    placed = Allocations()
    for layer in layers:
        placed = placed.add_layer(layer)
    for spec in specs:
        placed = placed.place(spec)
    return Traffic(placed.layers, tuple(route_of(allocation, **options) for allocation in placed.experiments))
