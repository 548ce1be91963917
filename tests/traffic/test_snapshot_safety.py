"""Safety rules in snapshots: followed by their own kind of change, kept on disk, and their fallbacks kept ready."""

import msgspec
import pytest

from crossfade.safety.rules import Rules
from crossfade.safety.specs import Constant, OtherVersion, RangeCheck, SafetyPolicySpec
from crossfade.safety.store import SafetyStore
from crossfade.traffic.last_known_good import FILE_NAME, LastKnownGood
from crossfade.traffic.snapshot import Role, Snapshot, SnapshotSource
from tests.traffic.support import move, publish_all

HIGH = RangeCheck(name="high", output="predict", maximum=10)


@pytest.fixture
def source(registry, database):
    publish_all(registry, "m", "1.0.0", "1.0.1", "1.0.2")
    move(registry, "m", "1.0.1")
    return SnapshotSource(registry.backend, database, keep_previous=0)


@pytest.fixture
def safety(registry, database, tmp_path):
    return SafetyStore(registry, database, tmp_path, tuple, lambda _revision, _seconds: ())


def put(safety, *fallback):
    return safety.put_policy(SafetyPolicySpec(model="m", checks=(HIGH,), fallback=fallback))


def read(source, known=None):
    revision = source.revision()
    return source.read(revision) if known is None else source.follow(known, revision)


def roles(snapshot):
    return {wish.version: wish.role for wish in snapshot.route("m").aspired}


def test_there_are_no_rules_at_first(source):
    assert read(source).safety == Rules()


def test_every_change_of_rules_is_followed(source, safety):
    snapshot = read(source)
    policy = put(safety)
    snapshot = read(source, snapshot)
    assert snapshot.safety.policies == (policy,)
    override = safety.override("m", seconds=60, reason="why")
    snapshot = read(source, snapshot)
    assert snapshot.safety.overrides == (override,)
    begun = safety.begin_emergency("why").emergency
    snapshot = read(source, snapshot)
    assert snapshot.safety.emergencies == (begun,)
    safety.end_override(override.id, reason="over")
    safety.end_emergency("over")
    safety.remove_policy("m")
    assert read(source, snapshot).safety == Rules()


def test_reading_anew_and_following_agree(source, safety):
    before = read(source)
    put(safety, OtherVersion(version="1.0.0"))
    safety.begin_emergency("why", model="m")
    assert read(source, before) == read(source)
    assert read(source, before).digest == read(source).digest != before.digest


def test_other_changes_do_not_read_rules_again(source, safety, registry):
    put(safety)
    snapshot = read(source)
    move(registry, "m", "1.0.2")
    assert read(source, snapshot).safety is snapshot.safety


def test_a_version_that_is_fallen_back_to_is_wished_for_while_the_policy_says_so(source, safety):
    snapshot = read(source)
    assert roles(snapshot) == {"1.0.1": Role.ACTIVE}
    put(safety, Constant(outputs={"predict": 1}), OtherVersion(version="1.0.0"))
    snapshot = read(source, snapshot)
    assert roles(snapshot) == {"1.0.1": Role.ACTIVE, "1.0.0": Role.VARIANT}
    put(safety, OtherVersion(version="1.0.1"))
    snapshot = read(source, snapshot)
    assert roles(snapshot) == {"1.0.1": Role.ACTIVE}
    safety.remove_policy("m")
    assert roles(read(source, snapshot)) == {"1.0.1": Role.ACTIVE}


def test_a_version_that_was_rejected_is_no_wish(source, safety, registry):
    put(safety, OtherVersion(version="1.0.0"))
    registry.transition("m:1.0.0", "rejected", reason="test")
    assert roles(read(source)) == {"1.0.1": Role.ACTIVE}


def test_rules_are_kept_for_a_start_without_the_database(source, safety, tmp_path):
    put(safety, OtherVersion(version="1.0.0"))
    safety.override("m", seconds=60, reason="why")
    safety.begin_emergency("why")
    snapshot = read(source)
    kept = LastKnownGood(tmp_path, "sqlite:///here")
    kept.keep(snapshot)
    found, _ = kept.find()
    assert found == snapshot
    assert found.safety == snapshot.safety


def test_a_file_of_an_earlier_release_is_still_of_use(source, tmp_path):
    kept = LastKnownGood(tmp_path, "sqlite:///here")
    kept.keep(read(source))
    path = tmp_path / FILE_NAME
    document = msgspec.json.decode(path.read_bytes())
    del document["safety"]
    path.write_bytes(msgspec.json.encode(document))
    found, _ = kept.find()
    assert found.safety == Rules()
    assert Snapshot().safety == Rules()
