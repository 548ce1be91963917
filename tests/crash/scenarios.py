"""What is interrupted, and what must hold afterwards. `SCENARIOS` lists every operation that a campaign kills."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from crossfade.core.clock import utc_now
from crossfade.core.hashing import sha256
from crossfade.errors import VersionNotFoundError
from crossfade.registry.registry import Registry
from crossfade.storage.blobs.folder import FolderBlobStore
from crossfade.storage.blobs.port import Blob
from crossfade.storage.changes import verify_audit
from tests.registry.support import open_toy_registry
from tests.registry.toy import Linear

ROWS = [{"x0": 1.0, "x1": 2.0}, {"x0": 3.0, "x1": 4.0}]
SCALING = Linear((0.5, 0.5))


def register(registry: Registry, version: str) -> None:
    """Register a version; all of them share the blob of the preprocessor."""
    model = Linear((1.0, 2.0), float(version.split(".")[1]))
    registry.register("churn", model, version=version, preprocessor=SCALING, example=ROWS, evaluation={"auc": 0.7})


def release(registry: Registry) -> None:
    """Move the champion and change a stage."""
    registry.move_alias("churn", "champion", "1.1.0", reason="better")
    registry.transition("churn:1.1.0", "staging")


def clean(registry: Registry) -> None:
    """Delete a version and collect its blobs."""
    with contextlib.suppress(VersionNotFoundError):
        registry.delete("churn:1.1.0")
    registry.backend.collect_garbage(grace_seconds=0)


class State(NamedTuple):
    """What a registry holds: the visible versions, and where the champion points."""

    versions: frozenset[str]
    champion: str | None = None


class Scenario(NamedTuple):
    """An operation on a prepared registry. It may be killed anywhere and is then done again."""

    name: str
    prepared: tuple[str, ...]
    champion: str | None
    operate: Callable[[Registry], None]
    after: State

    @property
    def before(self) -> State:
        """What there is when the operation starts."""
        return State(frozenset(self.prepared), self.champion)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("empty", (), None, lambda r: register(r, "1.0.0"), State(frozenset({"1.0.0"}))),
        Scenario(
            "existing",
            ("1.0.0",),
            "1.0.0",
            lambda r: register(r, "1.1.0"),
            State(frozenset({"1.0.0", "1.1.0"}), "1.0.0"),
        ),
        Scenario("release", ("1.0.0", "1.1.0"), "1.0.0", release, State(frozenset({"1.0.0", "1.1.0"}), "1.1.0")),
        Scenario("clean", ("1.0.0", "1.1.0"), "1.0.0", clean, State(frozenset({"1.0.0"}), "1.0.0")),
    )
}


def prepare(home: Path, scenario: Scenario) -> None:
    """Bring a folder to where the operation starts. An empty registry is a folder without anything."""
    if not scenario.prepared:
        return
    registry = open_toy_registry(home)
    for version in scenario.prepared:
        register(registry, version)
    registry.move_alias("churn", "champion", scenario.champion)
    registry.backend.database.close()


def operate(home: Path, scenario: Scenario, sabotage: str = "") -> None:
    """Open the registry as a new process would, and do the operation."""
    registry = open_toy_registry(home)
    with SABOTAGE[sabotage](registry):
        scenario.operate(registry)
    registry.backend.database.close()


# --- the oracle ----------------------------------------------------------------------------------------------------


def check(home: Path, scenario: Scenario) -> None:
    """Check a registry whose operation was killed, do the operation again, and check that it arrived.

    Raises:
        Exception: Something is torn, lost, or does not converge.
    """
    registry = open_toy_registry(home)
    found = examine(registry)
    if found not in {scenario.before, scenario.after}:
        raise AssertionError(f"neither before nor after: {found}")
    scenario.operate(registry)
    if (found := examine(registry)) != scenario.after:
        raise AssertionError(f"doing it again led to {found}")
    registry.backend.collect_garbage(grace_seconds=0)
    if (found := examine(registry)) != scenario.after:
        raise AssertionError(f"garbage collection led to {found}")
    registry.backend.database.close()


def examine(registry: Registry) -> State:
    """Return what a registry holds, after checking all of it.

    Raises:
        Exception: A visible version is not whole, a stored blob is torn, the audit chain or a history is broken.
    """
    backend = registry.backend
    for blob in backend.blobs.list():
        backend.blobs.read(blob.digest)
    with backend.database.read() as connection:
        verify_audit(connection)
    if backend.find_model("churn") is None:
        return State(frozenset())
    versions = registry.list_versions("churn").items
    for version in versions:
        report = registry.verify(version.ref)
        if (report.files, report.golden_rows) != (4, 2):
            raise AssertionError(f"{version.ref} lost something: {report}")
        if registry.backend.stage_history("churn", version.version).items[0].target != version.stage:
            raise AssertionError(f"the stage of {version.ref} is not what its history says")
    moves = registry.alias_history("churn", "champion").items
    champion = backend.find_alias("churn", "champion")
    pointer = champion.version if champion else None
    if pointer != (moves[0].target if moves else None):
        raise AssertionError("the champion is not where its history says")
    return State(frozenset(version.version for version in versions), pointer)


# --- deliberate mistakes, which the oracle must notice ---------------------------------------------------------------


class Postponed:
    """A blob store that claims to store and does so only at the end: the database first, the bytes later."""

    def __init__(self, store: FolderBlobStore) -> None:
        self.store = store
        self.waiting: dict[str, bytes] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def put(self, chunks, *, limit_bytes, expected=None):
        """Remember the bytes."""
        data = b"".join(chunks)
        self.waiting[sha256(data)] = data
        return self.find(sha256(data))

    def find(self, digest):
        """Claim that what was remembered is stored."""
        if digest in self.waiting:
            return Blob(digest, len(self.waiting[digest]), utc_now())
        return self.store.find(digest)

    def read(self, digest):
        """Return remembered or stored bytes."""
        return self.waiting[digest] if digest in self.waiting else self.store.read(digest)


class InPlace(FolderBlobStore):
    """A blob store that writes under the final name, without a temporary file."""

    def put(self, chunks, *, limit_bytes, expected=None):
        """Write where readers look."""
        data = b"".join(chunks)
        path = self._path(sha256(data))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb", buffering=0) as stream:
            stream.write(data[: len(data) // 2])
            stream.write(data[len(data) // 2 :])
        return self.find(sha256(data))


@contextlib.contextmanager
def database_first(registry: Registry):
    """Publish before the bytes are there."""
    postponed = Postponed(registry.backend.blobs)
    registry.backend._blobs = postponed
    yield
    for data in postponed.waiting.values():
        postponed.store.put([data], limit_bytes=len(data))


@contextlib.contextmanager
def in_place(registry: Registry):
    """Write blobs under their final names."""
    registry.backend._blobs = InPlace(registry.backend.blobs.root)
    yield


SABOTAGE = {"": lambda _: contextlib.nullcontext(), "database_first": database_first, "in_place": in_place}
