"""A snapshot says who answers and what shall be loaded, and follows the registry one model at a time."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossfade.errors import CrossfadeError, ModelNotFoundError
from crossfade.jobs.records import JobRequest
from crossfade.jobs.store import JobStore
from crossfade.settings import JobSettings
from crossfade.storage.tables import jobs
from crossfade.traffic.candidates import add_candidate, remove_candidate
from crossfade.traffic.snapshot import Role, Route, Snapshot, SnapshotSource
from crossfade.traffic.unloading import set_unloaded
from tests.traffic.support import Clock, move, open_registry, publish_all


@pytest.fixture
def source(registry):
    return SnapshotSource(registry.backend, registry.backend.database, keep_previous=1)


def read(source):
    return source.read(source.revision())


def wishes(route):
    return [(wish.version, wish.role) for wish in route.aspired]


def test_an_empty_registry_is_an_empty_snapshot(source):
    snapshot = read(source)
    assert snapshot.models == {}
    with pytest.raises(ModelNotFoundError):
        snapshot.route("churn")


def test_a_model_without_aliases_is_known_but_not_served(source, registry):
    publish_all(registry, "churn", "1.0.0")
    assert read(source).route("churn") == Route("churn")


def test_aliases_are_served_the_champion_first(source, registry):
    versions = publish_all(registry, "churn", "1.0.0", "2.0.0", "3.0.0")
    move(registry, "churn", "1.0.0", "audit")
    move(registry, "churn", "2.0.0")
    move(registry, "churn", "1.0.0", "zebra")
    route = read(source).route("churn")
    assert route.champion == "2.0.0"
    assert route.aliases == {"audit": "1.0.0", "champion": "2.0.0", "zebra": "1.0.0"}
    assert wishes(route) == [("2.0.0", Role.ACTIVE), ("1.0.0", Role.ACTIVE)]
    first = route.aspired[0]
    assert (first.manifest_digest, first.size_bytes) == (versions[1].manifest_digest, versions[1].size_bytes)


def test_a_long_history_is_not_read_to_its_end(source, registry, monkeypatch):
    versions = [f"1.0.{number}" for number in range(20)]
    publish_all(registry, "churn", *versions)
    for version in versions:
        move(registry, "churn", version)
    asked, find = [], registry.backend.find_versions
    monkeypatch.setattr(registry.backend, "find_versions", lambda name, some: asked.append(some) or find(name, some))
    assert read(source).route("churn").former["champion"] == tuple(reversed(versions[-6:-1]))
    assert asked == [sorted(versions[-6:])]


def test_former_versions_that_are_gone_make_room_for_older_ones(source, registry):
    versions = [f"1.0.{number}" for number in range(10)]
    publish_all(registry, "churn", *versions)
    for version in versions:
        move(registry, "churn", version)
    for version in versions[3:8]:
        registry.backend.delete_version("churn", version, principal="bob", reason="")
    assert read(source).route("churn").former["champion"] == ("1.0.8", "1.0.2", "1.0.1", "1.0.0")


def test_the_former_champion_stays_warm(source, registry):
    publish_all(registry, "churn", "1.0.0", "1.1.0", "1.2.0")
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        move(registry, "churn", version)
    route = read(source).route("churn")
    assert wishes(route) == [("1.2.0", Role.ACTIVE), ("1.1.0", Role.WARM)]
    assert route.former == {"champion": ("1.1.0", "1.0.0")}


def test_after_a_rollback_the_next_step_back_is_warm_then_what_was_withdrawn(source, registry):
    publish_all(registry, "churn", "1.0.0", "1.1.0", "1.2.0")
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        move(registry, "churn", version)
    registry.rollback("churn")
    assert read(source).route("churn").former["champion"] == ("1.0.0", "1.2.0")
    registry.rollback("churn")
    route = read(source).route("churn")
    assert route.former["champion"] == ("1.1.0", "1.2.0")
    assert wishes(route) == [("1.0.0", Role.ACTIVE), ("1.1.0", Role.WARM)]


@pytest.mark.parametrize(("kept", "warm"), [(0, []), (2, ["1.2.0", "1.1.0"]), (9, ["1.2.0", "1.1.0", "1.0.0"])])
def test_as_many_former_champions_stay_warm_as_wished(registry, kept, warm):
    publish_all(registry, "churn", "1.0.0", "1.1.0", "1.2.0", "1.3.0")
    for version in ("1.0.0", "1.1.0", "1.2.0", "1.3.0"):
        move(registry, "churn", version)
    route = read(SnapshotSource(registry.backend, registry.backend.database, keep_previous=kept)).route("churn")
    assert [wish.version for wish in route.aspired if wish.role is Role.WARM] == warm


def test_candidates_are_wished_for(source, registry, database):
    publish_all(registry, "churn", "1.0.0", "1.1.0")
    move(registry, "churn", "1.0.0")
    clock = Clock()
    candidate = add_candidate(database, "churn", "1.1.0", principal="ann", now=clock())
    route = read(source).route("churn")
    assert wishes(route) == [("1.0.0", Role.ACTIVE), ("1.1.0", Role.CANDIDATE)]
    assert route.aspired[1].requested_at == candidate.requested_at
    assert route.aspired[0].requested_at == ""
    remove_candidate(database, candidate, principal="ann", now=clock())
    assert wishes(read(source).route("churn")) == [("1.0.0", Role.ACTIVE)]


def test_rejected_and_deleted_versions_are_never_wished_for(source, registry, database):
    publish_all(registry, "churn", "1.0.0", "1.1.0", "1.2.0", "1.3.0")
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        move(registry, "churn", version)
    registry.transition("churn:1.1.0", "rejected")
    registry.transition("churn:1.3.0", "rejected")
    add_candidate(database, "churn", "1.3.0", principal="ann", now=Clock()())
    route = read(source).route("churn")
    assert wishes(route) == [("1.2.0", Role.ACTIVE), ("1.0.0", Role.WARM)]
    registry.delete("churn:1.0.0")
    route = read(source).route("churn")
    assert wishes(route) == [("1.2.0", Role.ACTIVE)]
    assert route.former == {"champion": ()}


def test_an_unloaded_model_wishes_for_nothing(source, registry, database):
    publish_all(registry, "churn", "1.0.0")
    move(registry, "churn", "1.0.0")
    set_unloaded(database, "churn", unloaded=True, principal="ann")
    route = read(source).route("churn")
    assert (route.unloaded, route.champion, route.aspired) == (True, "1.0.0", ())


def test_the_digest_is_that_of_the_routes(source, registry):
    publish_all(registry, "churn", "1.0.0")
    first = read(source)
    publish_all(registry, "churn", "1.1.0")
    second = source.follow(first, source.revision())
    assert second.revision > first.revision
    assert second.digest == first.digest
    move(registry, "churn", "1.1.0")
    assert source.follow(second, source.revision()).digest != first.digest


def test_following_reads_only_what_changed(source, registry, monkeypatch):
    for name in ("churn", "fraud"):
        publish_all(registry, name, "1.0.0")
        move(registry, name, "1.0.0")
    known = read(source)
    publish_all(registry, "churn", "1.1.0")
    move(registry, "churn", "1.1.0")
    asked = []
    find = registry.backend.find_model
    monkeypatch.setattr(registry.backend, "find_model", lambda name: asked.append(name) or find(name))
    following = source.follow(known, source.revision())
    assert asked == ["churn"]
    assert following.route("churn").champion == "1.1.0"
    assert following.route("fraud") is known.route("fraud")
    assert known.route("churn").champion == "1.0.0", "a snapshot never changes"


def test_changes_of_no_model_change_only_the_revision(source, registry):
    publish_all(registry, "churn", "1.0.0")
    known = read(source)
    following = source.follow(known, known.revision + 5)
    assert following.models is known.models
    assert following.revision == known.revision + 5


def test_a_model_that_vanished_leaves_the_snapshot(source, registry, monkeypatch):
    publish_all(registry, "churn", "1.0.0")
    known = read(source)
    move(registry, "churn", "1.0.0")
    monkeypatch.setattr(registry.backend, "find_model", lambda name: None)
    assert source.follow(known, source.revision()).models == {}


def test_many_models_are_read_page_by_page(source, registry, monkeypatch):
    for number in range(5):
        publish_all(registry, f"m{number}", "1.0.0")
    monkeypatch.setattr("crossfade.traffic.snapshot._PAGE", 2)
    assert sorted(read(source).models) == [f"m{number}" for number in range(5)]


CHANGES = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from("ab"), st.integers(0, 4)),
    st.tuples(st.just("move"), st.sampled_from("ab"), st.integers(0, 4), st.sampled_from(["champion", "other"])),
    st.tuples(st.just("drop"), st.sampled_from("ab"), st.sampled_from(["champion", "other"])),
    st.tuples(st.just("rollback"), st.sampled_from("ab")),
    st.tuples(st.just("reject"), st.sampled_from("ab"), st.integers(0, 4)),
    st.tuples(st.just("delete"), st.sampled_from("ab"), st.integers(0, 4)),
    st.tuples(st.just("candidate"), st.sampled_from("ab"), st.integers(0, 4)),
    st.tuples(st.just("unload"), st.sampled_from("ab"), st.booleans()),
    st.tuples(st.just("look")),
)


def change(registry, clock, what, *args):
    clock.advance(1)
    name, *rest = args
    version = f"1.0.{rest[0]}" if rest else ""
    if what == "publish":
        publish_all(registry, name, version)
    elif what == "move":
        registry.move_alias(name, rest[1], version)
    elif what == "drop":
        registry.move_alias(name, rest[0], None)
    elif what == "rollback":
        registry.rollback(name)
    elif what == "reject":
        registry.transition(f"{name}:{version}", "rejected")
    elif what == "delete":
        registry.delete(f"{name}:{version}")
    elif what == "candidate":
        add_candidate(registry.backend.database, name, version, principal="x", now=clock())
    else:
        set_unloaded(registry.backend.database, name, unloaded=rest[0], principal="x")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(CHANGES, max_size=25))
def test_following_step_by_step_ends_where_reading_everything_does(tmp_path_factory, steps):
    home = tmp_path_factory.mktemp("follow")
    registry = open_registry(home, f"sqlite:///{home / 'registry.db'}")
    source = SnapshotSource(registry.backend, registry.backend.database, keep_previous=1)
    snapshot, clock = read(source), Clock()
    for what, *args in steps:
        if what == "look":
            snapshot = source.follow(snapshot, source.revision())
            continue
        try:
            change(registry, clock, what, *args)
        except CrossfadeError:
            continue
    followed, whole = source.follow(snapshot, source.revision()), read(source)
    registry.backend.database.close()
    assert followed.models == whole.models
    assert followed.digest == whole.digest
    for route in whole.models.values():
        stages = {wish.version for wish in route.aspired}
        assert route.unloaded or set(route.aliases.values()) <= stages


def test_a_route_is_found_at_once():
    route = Route("churn")
    assert Snapshot(1, {"churn": route}).route("churn") is route


# --- batch jobs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["queued", "running", "succeeded", "failed", "cancelled"])
def test_the_version_of_an_unfinished_job_is_served(source, registry, state):
    publish_all(registry, "churn", "1.0.0", "1.1.0")
    move(registry, "churn", "1.1.0")
    store = JobStore(registry, registry.backend.database, JobSettings())
    blob = registry.backend.blobs.put([b"x"], limit_bytes=1)
    before = read(source)
    job, _ = store.submit(JobRequest("some-job", "churn:1.0.0", blob.digest, "csv"))
    assert wishes(source.follow(before, source.revision()).route("churn"))[1:] == [("1.0.0", Role.JOB)]
    with registry.backend.database.write() as connection:
        connection.execute(jobs.update().where(jobs.c.id == job.id).values(state=state))
    expected = [("1.0.0", Role.JOB)] if state in {"queued", "running"} else []
    assert wishes(read(source).route("churn")) == [("1.1.0", Role.ACTIVE), *expected]


def test_a_version_that_is_asked_for_more_urgently_has_that_role(source, registry):
    publish_all(registry, "churn", "1.0.0")
    move(registry, "churn", "1.0.0")
    store = JobStore(registry, registry.backend.database, JobSettings())
    blob = registry.backend.blobs.put([b"x"], limit_bytes=1)
    store.submit(JobRequest("some-job", "churn", blob.digest, "csv"))
    assert wishes(read(source).route("churn")) == [("1.0.0", Role.ACTIVE)]
    set_unloaded(registry.backend.database, "churn", unloaded=True, principal="ann")
    assert wishes(read(source).route("churn")) == [], "whoever says so does not want it served for jobs either"
