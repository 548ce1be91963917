"""Experiments in snapshots: read whole or followed, kept in a file, and compiled again when a schedule wants it."""

import contextlib
import itertools
from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossfade.core.clock import utc_now
from crossfade.errors import CrossfadeError, InvalidAllocationError, StillReferencedError
from crossfade.experiments.record import Verdict
from crossfade.traffic import follower as following
from crossfade.traffic.allocation.specs import LayerSpec, RampStep
from crossfade.traffic.candidates import add_candidate
from crossfade.traffic.follower import SnapshotFollower
from crossfade.traffic.last_known_good import FILE_NAME, LastKnownGood
from crossfade.traffic.routing import Asker, Router, Traffic
from crossfade.traffic.snapshot import Role, Snapshot, SnapshotSource
from tests.experiments.life import open_store, plan
from tests.traffic.support import FAST, Clock, eventually, move, publish_all

URL = "sqlite:///somewhere"
UNITS = [f"u-{number}" for number in range(50)]


@pytest.fixture
def experiments(registry):
    publish_all(registry, "m", "1.0.0", "1.0.1", "1.0.2")
    move(registry, "m", "1.0.0")
    return open_store(registry)


@pytest.fixture
def source(registry):
    return SnapshotSource(registry.backend, registry.backend.database, keep_previous=1)


@pytest.fixture
def follow(registry, tmp_path):
    made = []

    def make(**options):
        kept = LastKnownGood(tmp_path / "home", URL)
        made.append(SnapshotFollower(registry.backend, registry.backend.database, FAST, kept, **options))
        return made[-1]

    yield make
    for follower in made:
        follower.close()


def begin(experiments, spec):
    experiments.create(spec)
    return experiments.start(spec.name)


def read(source):
    return source.read(source.revision())


def read_compiled(source):
    snapshot = read(source)
    return replace(snapshot, router=Router(snapshot.traffic))


def wishes(route):
    return [(wish.version, wish.role) for wish in route.aspired]


def decided(snapshot, unit="u-1", model="m"):
    return snapshot.router.route(model, Asker(unit))


# --- what a snapshot holds ---


def test_a_draft_is_nobodys_business(source, experiments):
    experiments.create(plan())
    snapshot = read(source)
    assert snapshot.traffic == Traffic()
    assert wishes(snapshot.route("m")) == [("1.0.0", Role.ACTIVE)]


def test_versions_of_variants_are_wished_for_after_the_champion_and_before_candidates(source, experiments, registry):
    begin(experiments, plan(weights={"old": 0.5, "new": 0.5}))
    add_candidate(registry.backend.database, "m", "1.0.2", principal="ann", now=utc_now())
    route = read(source).route("m")
    assert wishes(route) == [("1.0.0", Role.ACTIVE), ("1.0.1", Role.VARIANT), ("1.0.2", Role.CANDIDATE)]
    move(registry, "m", "1.0.2")
    assert ("1.0.0", Role.VARIANT) in wishes(read(source).route("m")), "warm, too, but an experiment is more urgent"


@pytest.mark.parametrize("end", ["stop", "pause"])
def test_a_paused_experiment_keeps_its_versions_ready_and_a_stopped_one_lets_go(source, experiments, end):
    begin(experiments, plan())
    getattr(experiments, end)("late", reason="enough")
    snapshot = read(source)
    versions = {wish.version for wish in snapshot.route("m").aspired}
    assert versions == ({"1.0.0", "1.0.1"} if end == "pause" else {"1.0.0"})
    assert [experiment.paused for experiment in snapshot.traffic.experiments] == ([True] if end == "pause" else [])


def test_an_experiment_takes_no_unit_away_from_one_that_started_before(source, experiments, registry):
    clock = Clock()
    experiments = open_store(registry, clock)
    for name in ("early", "late"):
        experiments.create(plan(name, coverage=0.5))
    for name in ("late", "early"):
        experiments.start(name)
        clock.advance(1)
        if name == "late":
            before = read_compiled(source)
    experiments.pause("late")
    experiments.start("late")
    after = read_compiled(source)
    assert [experiment.name for experiment in after.traffic.experiments] == ["late", "early"]
    for unit in UNITS:
        assert not decided(before, unit).decision.enrolled or decided(after, unit) == decided(before, unit)


def test_the_newest_that_have_ended_are_known_by_name(source, experiments, monkeypatch):
    monkeypatch.setattr("crossfade.traffic.snapshot._OVER", 2)
    for name in ("first", "second", "third", "fourth"):
        experiments.create(plan(name))
    known = read(source)
    for name in ("first", "third", "fourth"):
        experiments.stop(name, reason="enough")
    assert source.follow(known, source.revision()).traffic.over == read(source).traffic.over == ("fourth", "third")


def test_the_newest_flags_that_were_decided_go_on_being_answered(source, experiments, monkeypatch):
    monkeypatch.setattr("crossfade.traffic.snapshot._OVER", 2)
    for name in ("first", "second", "third", "stopped"):
        begin(experiments, plan(name, model=""))
    begin(experiments, plan("routed"))
    known = read(source)
    experiments.stop("stopped", reason="enough")
    for name, shipped in (("first", "new"), ("third", ""), ("second", "new"), ("routed", "new")):
        experiments.conclude(name, Verdict("ship" if shipped else "keep", shipped, "enough", "ann"))
    decided = source.follow(known, source.revision()).traffic.decided
    assert [(each.experiment, each.variant, each.words) for each in decided] == [
        ("third", "old", "it was decided: everybody gets `old`"),
        ("second", "new", "it was decided: everybody gets `new`"),
    ]
    assert decided == read(source).traffic.decided


def test_a_version_that_an_experiment_needs_is_not_deleted(experiments, registry):
    experiments.create(plan())
    begin(experiments, plan("other"))
    with pytest.raises(StillReferencedError, match="experiment `other`"):
        registry.delete("m:1.0.1")
    experiments.pause("other")
    with pytest.raises(StillReferencedError):
        registry.delete("m:1.0.1")
    assert registry.delete("m:1.0.2").version == "1.0.2"
    experiments.stop("other", reason="enough")
    assert registry.delete("m:1.0.1").version == "1.0.1"


def test_a_rejected_version_is_not_loaded_whatever_an_experiment_wants(source, experiments, registry):
    begin(experiments, plan())
    registry.transition("m:1.0.1", "rejected", reason="harmful")
    assert wishes(read(source).route("m")) == [("1.0.0", Role.ACTIVE)]


# --- following ---


def test_only_what_changed_is_read_anew(source, experiments, registry, monkeypatch):
    begin(experiments, plan())
    known = read(source)
    publish_all(registry, "other", "1.0.0")
    following_models = source.follow(known, source.revision())
    assert following_models.traffic is known.traffic, "no experiment changed"
    experiments.create(plan("flag", model=""))
    experiments.start("flag")
    asked = []
    monkeypatch.setattr(registry.backend, "find_model", asked.append)
    after = source.follow(following_models, source.revision())
    assert [experiment.name for experiment in after.traffic.experiments] == ["late", "flag"]
    assert after.models == following_models.models
    assert asked == [], "a flag is about no model"


def test_a_layer_alone_is_a_change_of_traffic(source, experiments):
    known = read(source)
    experiments.create_layer(LayerSpec("all"))
    assert [layer.spec.name for layer in source.follow(known, source.revision()).traffic.layers] == ["all"]


def test_the_digest_tells_apart_what_decides_differently(source, experiments):
    begin(experiments, plan())
    before = read(source)
    experiments.reweight("late", {"old": 0.2, "new": 0.8})
    after = source.follow(before, source.revision())
    assert after.digest != before.digest
    assert after.digest == read(source).digest


verbs = st.sampled_from(["start", "pause", "stop", "reweight", "move", "layer", "publish"])


numbers = itertools.count()


@given(steps=st.lists(st.tuples(verbs, st.integers(0, 2)), max_size=10))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_following_leads_to_the_same_as_reading_everything(source, experiments, registry, steps):
    mark = next(numbers)
    names = [f"late-{mark}", f"flag-{mark}", f"layered-{mark}"]
    with contextlib.suppress(InvalidAllocationError):
        experiments.create_layer(LayerSpec("all"))
    experiments.create(plan(names[0]))
    experiments.create(plan(names[1], model=""))
    experiments.create(plan(names[2], layer="all", share=0.5))
    known = read(source)
    for place, (verb, number) in enumerate(steps):
        with contextlib.suppress(CrossfadeError):
            if verb == "reweight":
                experiments.reweight(names[number], {"old": number / 2, "new": 1 - number / 2})
            elif verb == "move":
                move(registry, "m", f"1.0.{number % 2}")
            elif verb == "layer":
                experiments.create_layer(LayerSpec(f"layer-{mark}-{place}"))
            elif verb == "publish":
                publish_all(registry, f"model-{mark}-{place}", "1.0.0")
            else:
                getattr(experiments, verb)(names[number], reason="enough")
        known = source.follow(known, source.revision())
    whole = read(source)
    assert (known.models, known.traffic, known.digest) == (whole.models, whole.traffic, whole.digest)
    for name in names:
        experiments.stop(name, reason="enough")


# --- one process ---


def test_two_processes_decide_alike(experiments, follow):
    followers = [follow(), follow()]
    for follower in followers:
        follower.start()
    started = begin(experiments, plan())
    for follower in followers:
        eventually(lambda f=follower: f.snapshot.traffic.experiments)
    one, other = ([decided(follower.snapshot, unit).version for unit in UNITS] for follower in followers)
    assert one == other
    assert set(one) == {"1.0.0", "1.0.1"}
    assert started.revision == 1


def test_what_falls_back_is_counted_over_all_snapshots_of_the_process(experiments, follow):
    follower = follow()
    follower.refresh()
    begin(experiments, plan())
    for number in (1, 2):
        decided(follower.refresh(), None)
        experiments.reweight("late", coverage=1 / number)
    assert sum(follower.tally.counts().values()) == 2


def before_and_after_a_restart(follow, registry):
    """Return a follower that has ended, and one that starts from its file while the database is away."""
    first = follow()
    first.start()
    first.close()
    registry.backend.database.away = True
    later = follow()
    later.start()
    return first, later


def test_the_file_keeps_traffic_and_a_process_starts_from_it_alone(experiments, follow, registry):
    experiments.create_layer(LayerSpec("all", holdout=0.1))
    begin(experiments, plan(layer="all", share=0.5, dimensions=("carrier",)))
    first, later = before_and_after_a_restart(follow, registry)
    assert later.snapshot == first.snapshot
    for unit in UNITS:
        assert decided(later.snapshot, unit) == decided(first.snapshot, unit)
    registry.backend.database.away = False
    experiments.stop("late", reason="enough")
    eventually(lambda: not later.snapshot.traffic.experiments)
    assert decided(later.snapshot) is None


def test_a_decided_flag_is_answered_from_the_file_alone(experiments, follow, registry):
    begin(experiments, plan("button", model=""))
    experiments.conclude("button", Verdict("ship", "new", "enough", "ann"))
    _, later = before_and_after_a_restart(follow, registry)
    assert later.snapshot.router.decide("button", "u-1").variant == "new"


def test_a_file_of_before_decided_flags_were_kept_is_used(tmp_path):
    kept = LastKnownGood(tmp_path, URL)
    kept.keep(Snapshot(7, {}, Traffic(over=("late",))))
    file = tmp_path / FILE_NAME
    document = msgspec.json.decode(file.read_bytes())
    del document["traffic"]["decided"]
    file.write_bytes(msgspec.json.encode(document))
    assert kept.find()[0].traffic == Traffic(over=("late",))


def test_a_file_of_before_there_were_experiments_is_not_used(tmp_path):
    kept = LastKnownGood(tmp_path, URL)
    kept.keep(Snapshot(7, {}))
    file = tmp_path / FILE_NAME
    document = msgspec.json.decode(file.read_bytes())
    assert document["traffic"] == {"layers": [], "experiments": [], "rollouts": [], "over": [], "decided": []}
    del document["traffic"]
    file.write_bytes(msgspec.json.encode(document | {"format": 1}))
    assert kept.find() is None


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(following, "utc_now", clock)
    return clock


def test_a_schedule_and_a_ramp_take_effect_while_the_database_is_away(registry, follow, clock, experiments, caplog):
    hour = timedelta(hours=1)
    steps = (RampStep(clock.now + 2 * hour, 1.0),)
    spec = plan(coverage=0.0, start_at=clock.now + hour, end_at=clock.now + 3 * hour, ramp=steps)
    scheduled = open_store(registry, clock)
    begin(scheduled, spec)
    follower, seen = follow(), []
    follower.subscribe(seen.append)
    follower.start()
    registry.backend.database.away = True
    eventually(lambda: "cannot be read" in caplog.text)
    revision = follower.snapshot.revision
    for reason, version in (("schedule", None), ("not_covered", None), ("split", "1.0.1"), ("schedule", None)):
        eventually(lambda reason=reason: decided(follower.snapshot, "u-1").decision.reason.value == reason)
        found = {decided(follower.snapshot, unit).version for unit in UNITS}
        assert version in found
        assert (version is None) == (found == {None})
        clock.advance(3600)
    assert follower.snapshot.revision == revision
    assert len(seen) == 1, "what shall be loaded does not change with it"
    assert follower.snapshot.router.due_at is None


def test_a_process_that_cannot_compile_goes_on_with_what_it_has(registry, follow, clock, experiments, monkeypatch):
    begin(open_store(registry, clock), plan(end_at=clock.now + timedelta(hours=1)))
    follower = follow()
    follower.start()
    compiled = following.Router

    def broken(*_arguments):
        raise RuntimeError("fault")

    monkeypatch.setattr(following, "Router", broken)
    clock.advance(3600)
    before = follower.age_seconds
    eventually(lambda: follower.age_seconds > before + 0.05)
    assert decided(follower.snapshot).decision.reason.value == "split"
    monkeypatch.setattr(following, "Router", compiled)
    eventually(lambda: decided(follower.snapshot).decision.reason.value == "schedule")
