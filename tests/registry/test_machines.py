"""Random sequences of changes against a model in memory: what the registry says must be what the model says.

As a test, the sequences are always the same. `CROSSFADE_EXPLORE=2000 pytest tests/registry/test_machines.py` tries so
many new ones per machine instead, and prints how to repeat one that fails.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from datetime import timedelta
from functools import cache
from itertools import count, pairwise
from pathlib import Path
from typing import NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from crossfade.core.clock import utc_now
from crossfade.errors import (
    AliasMovedError,
    AliasNotFoundError,
    CorruptBlobError,
    IllegalTransitionError,
    NoPreviousVersionError,
    NotFoundError,
    RejectedVersionError,
    StillReferencedError,
    VersionConflictError,
)
from crossfade.registry.packaging import pack
from crossfade.registry.registry import Registry
from crossfade.registry.versions import Manifest
from crossfade.settings import RegistrySettings
from crossfade.storage.changes import verify_audit
from crossfade.testing.drafts import publish
from tests.registry import toy
from tests.registry.support import open_backend
from tests.registry.toy import Linear

STAGES = RegistrySettings().stages
VERSIONS = st.sampled_from(["1.0.0", "1.0.1", "1.1.0", "2.0.0-rc.1"])
NAMES = st.sampled_from(["churn", "fraud"])
ALIASES = st.sampled_from(["champion", "challenger"])
BIASES = st.sampled_from([0.0, 1.0])
GRACE = LEASE = 3600.0
FOUR = ["1.0.0", "1.0.1", "1.0.2", "1.0.3"]

EXPLORED = int(os.environ.get("CROSSFADE_EXPLORE", "0"))

pytestmark = pytest.mark.timeout(0 if EXPLORED else 120)


def examples(count):
    """Return settings for so many sequences that are always the same, or for as many new ones as are asked for."""
    return settings(
        deadline=None,
        derandomize=not EXPLORED,
        max_examples=EXPLORED or count,
        print_blob=bool(EXPLORED),
        stateful_step_count=20,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


class Pending(NamedTuple):
    """A registration from afar that has uploaded its files and has not published yet."""

    manifest: Manifest
    bias: float


@cache
def empty_home():
    """Migrate once; every example starts from a copy."""
    home = Path(tempfile.mkdtemp(prefix="crossfade-machines-"))
    atexit.register(shutil.rmtree, home)
    open_backend(home).database.close()
    return home


class RegistryMachine(RuleBasedStateMachine):
    @initialize()
    def open(self):
        toy.install()
        self.home = Path(tempfile.mkdtemp(prefix="crossfade-machine-"))
        shutil.copy(empty_home() / "registry.db", self.home)
        self.ahead = timedelta()
        backend = open_backend(self.home, clock=lambda: utc_now() + self.ahead)
        self.registry = Registry(backend, RegistrySettings(garbage_grace_seconds=GRACE))
        self.versions = {}  # (name, version) -> [bias, stage]
        self.pointers = {}  # (name, alias) -> version
        self.pending = None

    def teardown(self):
        if hasattr(self, "registry"):
            with self.registry.backend.database.read() as connection:
                verify_audit(connection)
            self.registry.backend.database.close()
            shutil.rmtree(self.home)

    def add(self, name, version, bias):
        model = Linear((1.0,), bias)
        found = self.registry.register(name, model, version=version, signature=model.signature())
        self.versions.setdefault((name, version), [bias, "registered"])
        return found

    def pointing_to(self, name, version):
        return sorted(alias for (model, alias), target in self.pointers.items() if (model, target) == (name, version))

    @rule(name=NAMES, version=VERSIONS, bias=BIASES)
    def register(self, name, version, bias):
        known = self.versions.get((name, version))
        if known is not None and known[0] != bias:
            with pytest.raises(VersionConflictError):
                self.add(name, version, bias)
        else:
            assert self.add(name, version, bias).version == version

    @rule(name=NAMES, version=VERSIONS, stage=st.sampled_from(sorted(STAGES)))
    def transition(self, name, version, stage):
        known = self.versions.get((name, version))
        if known is None:
            expected = NotFoundError
        elif stage == known[1]:
            expected = None
        elif stage not in STAGES[known[1]]:
            expected = IllegalTransitionError
        elif stage == "rejected" and self.pointing_to(name, version):
            expected = StillReferencedError
        else:
            expected = None
        if expected is not None:
            with pytest.raises(expected):
                self.registry.transition(f"{name}:{version}", stage)
            return
        assert self.registry.transition(f"{name}:{version}", stage).stage == stage
        known[1] = stage

    @rule(name=NAMES, version=VERSIONS, alias=ALIASES)
    def point(self, name, version, alias):
        known = self.versions.get((name, version))
        if known is None or known[1] == "rejected":
            with pytest.raises(NotFoundError if known is None else RejectedVersionError):
                self.registry.move_alias(name, alias, version)
            return
        self.registry.move_alias(name, alias, version)
        self.pointers[name, alias] = version

    @rule(name=NAMES, version=VERSIONS)
    def deprecate(self, name, version):
        if (name, version) in self.versions:
            assert self.registry.deprecate(f"{name}:{version}").deprecated_at is not None

    @rule(name=NAMES, version=VERSIONS)
    def delete(self, name, version):
        if (name, version) not in self.versions:
            with pytest.raises(NotFoundError):
                self.registry.delete(f"{name}:{version}")
        elif self.pointing_to(name, version):
            with pytest.raises(StillReferencedError):
                self.registry.delete(f"{name}:{version}")
        else:
            self.registry.delete(f"{name}:{version}")
            del self.versions[name, version]

    @rule(seconds=st.sampled_from([1.0, GRACE + 1]))
    def wait(self, seconds):
        self.ahead += timedelta(seconds=seconds)

    @rule()
    def collect_garbage(self):
        would = self.registry.collect_garbage(dry_run=True)
        assert self.registry.collect_garbage() == would

    @precondition(lambda self: self.pending is None)
    @rule(name=NAMES, version=VERSIONS, bias=BIASES)
    def begin_upload(self, name, version, bias):
        model = Linear((1.0,), bias)
        draft = pack(model, signature=model.signature())
        backend = self.registry.backend
        backend.lease_blobs(draft.contents, "upload")
        for digest, content in draft.contents.items():
            if backend.blobs.find_intact(digest) is None:
                backend.blobs.put([content], limit_bytes=2**20)
        self.pending = Pending(draft.manifest(name, version), bias)
        self.leased_until = self.ahead + timedelta(seconds=LEASE)

    @precondition(lambda self: self.pending is not None and self.ahead < self.leased_until)
    @rule()
    def go_on_uploading(self):
        self.registry.backend.lease_blobs((), "upload")
        self.leased_until = self.ahead + timedelta(seconds=LEASE)

    @precondition(lambda self: self.pending is not None)
    @rule()
    def end_upload(self):
        manifest, bias = self.pending
        self.pending = None
        known = self.versions.get((manifest.name, manifest.version))
        if known is not None and known[0] != bias:
            with pytest.raises(VersionConflictError):
                self.registry.publish(manifest)
        elif self.ahead < self.leased_until:
            self.registry.publish(manifest)
            self.versions.setdefault((manifest.name, manifest.version), [bias, "registered"])
        else:  # what was uploaded may have been collected since; then it is refused, and never half there
            with contextlib.suppress(CorruptBlobError):
                self.registry.publish(manifest)
                self.versions.setdefault((manifest.name, manifest.version), [bias, "registered"])
        self.registry.release("upload")

    @precondition(lambda self: len(self.versions) > 0)
    @rule(data=st.data())
    def load(self, data):
        name, version = data.draw(st.sampled_from(sorted(self.versions)))
        pipeline = self.registry.load(f"{name}:{version}")
        assert pipeline.model.model.bias == self.versions[name, version][0]

    @invariant()
    def lists_say_what_is_there(self):
        for name in ("churn", "fraud"):
            expected = {version: state for (model, version), state in self.versions.items() if model == name}
            model = self.registry.backend.find_model(name)
            found = self.registry.list_versions(name).items if model else ()
            assert {v.version: v.stage for v in found} == {v: state[1] for v, state in expected.items()}
            assert (model.version_count if model else 0) == len(found)
            assert [v.number for v in found] == sorted({v.number for v in found}, reverse=True)
            for version in found:
                assert list(version.aliases) == self.pointing_to(name, version.version)
            pointers = {alias: target for (owner, alias), target in self.pointers.items() if owner == name}
            assert (model.aliases if model else {}) == pointers

    @invariant()
    def every_version_has_all_its_bytes(self):
        blobs = self.registry.backend.blobs
        for name, version in self.versions:
            manifest = self.registry.manifest(f"{name}:{version}")
            assert all(blobs.find(entry.digest) is not None for entry in manifest.files)


class AliasMachine(RuleBasedStateMachine):
    """One alias over versions that stay; `stack` is the way back as an editor would keep it.

    All examples share one registry, each with a model of its own, so that many long ones fit in a few seconds.
    """

    registry: Registry
    numbers = count()

    @initialize()
    def open(self):
        self.name = f"model_{next(self.numbers)}"
        self.pointer, self.stack, self.moves = None, [], []
        for version in FOUR:
            publish(self.registry.backend, self.name, version)

    def expect_move(self, target):
        if target is None:
            self.stack = []
        elif target in self.stack:
            self.stack = self.stack[: self.stack.index(target)]
        elif self.pointer not in {None, target}:
            self.stack.append(self.pointer)
        if target != self.pointer:
            self.moves.append((self.pointer, target))
        self.pointer = target

    @rule(version=st.sampled_from(FOUR))
    def move(self, version):
        assert self.registry.move_alias(self.name, "champion", version).target == version
        self.expect_move(version)

    @rule(version=st.sampled_from(FOUR))
    def move_on(self, version):
        self.move(version)

    @rule(version=st.sampled_from(FOUR), expected=st.sampled_from(FOUR))
    def move_from(self, version, expected):
        if self.pointer == expected:
            self.registry.move_alias(self.name, "champion", version, expected=expected)
            self.expect_move(version)
        else:
            with pytest.raises(AliasMovedError):
                self.registry.move_alias(self.name, "champion", version, expected=expected)

    @rule(once=st.integers(0, 2))
    def remove(self, once):
        if once > 0:  # rarely, or there would be little to go back to
            return
        if self.pointer is None:
            with pytest.raises(AliasNotFoundError):
                self.registry.move_alias(self.name, "champion", None)
        else:
            self.registry.move_alias(self.name, "champion", None)
            self.expect_move(None)

    @rule(steps=st.integers(1, 4))
    def rollback(self, steps):
        for _ in range(steps):
            if not self.stack:
                with pytest.raises((NoPreviousVersionError, AliasNotFoundError)):
                    self.registry.rollback(self.name)
                return
            assert self.registry.previous_version(self.name).version == self.stack[-1]
            move = self.registry.rollback(self.name)
            assert (move.source, move.target) == (self.pointer, self.stack[-1])
            self.expect_move(self.stack[-1])

    @invariant()
    def the_history_replays_to_where_the_alias_is(self):
        moves = self.registry.alias_history(self.name, "champion", limit=1000).items[::-1]
        assert [(move.source, move.target) for move in moves] == self.moves
        assert all(before.target == after.source for before, after in pairwise(moves))
        assert [move.seq for move in moves] == sorted({move.seq for move in moves})
        current = self.registry.backend.find_alias(self.name, "champion")
        assert (current.version if current else None) == self.pointer == (moves[-1].target if moves else None)


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = examples(30)


def test_aliases(registry):
    AliasMachine.registry = registry
    run_state_machine_as_test(AliasMachine, settings=examples(25))
