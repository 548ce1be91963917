"""What people do with experiments: each change is one transaction, audited; whatever cannot be changes nothing."""

import contextlib
import math
import threading
from datetime import timedelta

import msgspec
import pytest
from sqlalchemy import select

from crossfade.core.clock import utc_now
from crossfade.errors import (
    AliasNotFoundError,
    DatabaseUnavailableError,
    ExperimentConflictError,
    ExperimentNotFoundError,
    InvalidAllocationError,
    InvalidAnalysisError,
    InvalidExperimentError,
    InvalidInputError,
    InvalidMeasuresError,
    InvalidMetricError,
    InvalidNameError,
    InvalidPageError,
    InvalidSegmentError,
    LayerFullError,
    LoadFailedError,
    MalformedRequestError,
    ModelNotFoundError,
    NotFoundError,
    ReasonRequiredError,
    RejectedVersionError,
    VersionNotFoundError,
)
from crossfade.experiments.analysis_spec import AnalysisSpec
from crossfade.experiments.record import Status, Verdict
from crossfade.experiments.spec import ExperimentSpec, Variant
from crossfade.ledger.metrics import MetricSpec
from crossfade.storage.changes import verify_audit
from crossfade.storage.tables import audit, changes, measures
from crossfade.traffic.allocation.segments import Segment
from crossfade.traffic.allocation.specs import LayerSpec, RampStep
from crossfade.traffic.unloading import set_unloaded
from tests.experiments.life import open_store, plan
from tests.traffic.support import Clock, move

NAN, INFINITE = math.nan, math.inf
METRIC = MetricSpec("landed_late", kind="proportion", direction="down")


def newest_change(database):
    """Return (kind, model, subject, action, details) of the newest entry, after checking the whole chain."""
    with database.read() as connection:
        verify_audit(connection)
        said = connection.execute(select(audit).order_by(audit.c.seq.desc()).limit(1)).one()
        change = connection.execute(select(changes).order_by(changes.c.revision.desc()).limit(1)).one()
    assert change.revision == said.seq
    return change.kind, change.model, said.subject, said.action, msgspec.json.decode(said.details)


def changes_nothing(database, act, *errors):
    before = database.revision()
    with pytest.raises(errors or InvalidInputError) as caught:
        act()
    assert database.revision() == before
    return caught.value


# --- writing one down ---


def test_an_experiment_is_written_down_as_it_was_asked_for(store, database):
    spec = plan(metrics=(METRIC,), dimensions=("carrier",), description="Are they late?")
    made, new = store.create(spec, principal="ann")
    assert new
    assert (made.name, made.model, made.status, made.kind) == ("late", "m", Status.DRAFT, "split")
    assert (made.spec, made.created_by, made.revision, made.versions) == (spec, "ann", 0, {})
    assert made.weights == {"old": 0.5, "new": 0.5}
    assert store.find("late") == made
    written = {"spec": msgspec.json.decode(msgspec.json.encode(spec))}
    assert newest_change(database) == ("experiment", "m", "late", "experiment.create", written)


def test_the_same_again_changes_nothing_and_another_one_is_refused(store, database):
    made, _ = store.create(plan(), principal="ann")
    revision = database.revision()
    assert store.create(plan(), principal="bob") == (made, False)
    assert database.revision() == revision
    changes_nothing(database, lambda: store.create(plan(coverage=0.5)), ExperimentConflictError)
    store.stop("late", reason="enough")
    assert store.create(plan())[0].status is Status.STOPPED, "it does not begin anew by itself"


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"weights": {"old": 0.5, "new": 0.6}}, InvalidAllocationError),
        ({"weights": {"old": NAN, "new": 0.5}}, InvalidInputError),
        ({"weights": {"old": INFINITE, "new": 0.5}}, InvalidInputError),
        ({"weights": {"old": -0.5, "new": 1.5}}, InvalidAllocationError),
        ({"weights": {}}, InvalidExperimentError),
        ({"weights": {f"v{n}": 1 / 65 for n in range(65)}}, InvalidAllocationError),
        ({"weights": {"Old": 0.5, "new": 0.5}}, InvalidAllocationError),
        ({"name": "a b"}, InvalidAllocationError),
        ({"name": ""}, InvalidAllocationError),
        ({"name": "x" * 100_000}, InvalidInputError),
        ({"name": "a\0"}, InvalidInputError),
        ({"name": "(holdout)"}, InvalidInputError),
        ({"model": "No Model"}, InvalidExperimentError),
        ({"coverage": 1.5}, InvalidAllocationError),
        ({"coverage": NAN}, InvalidInputError),
        ({"share": 0.5}, InvalidAllocationError),
        ({"fallback": "nobody"}, InvalidInputError),
        ({"description": "x" * 10_001}, InvalidExperimentError),
        ({"overrides": {"eve": "nobody"}}, InvalidAllocationError),
        ({"segment": Segment({"a": {"$regex": "(a+)+$"}})}, InvalidSegmentError),
        ({"segment": Segment({"a": {"$like": 1}})}, InvalidSegmentError),
        ({"shadows": ("nobody",)}, InvalidExperimentError),
        ({"shadows": ("new", "new")}, InvalidExperimentError),
        ({"shadows": ("new",)}, InvalidExperimentError),
        ({"metrics": (MetricSpec("Late"),)}, InvalidMetricError),
        ({"metrics": (METRIC, METRIC)}, InvalidInputError),
        ({"metrics": (MetricSpec("late", kind="quantile"),)}, InvalidInputError),
        ({"metrics": (MetricSpec("late", margin=NAN),)}, InvalidInputError),
        ({"metrics": (MetricSpec("late", kind="median"),)}, InvalidInputError),
        ({"dimensions": ("x", "x")}, InvalidInputError),
        ({"dimensions": tuple(f"d{n}" for n in range(11))}, InvalidMeasuresError),
        ({"analysis": AnalysisSpec(alpha=2.0)}, InvalidAnalysisError),
        ({"analysis": AnalysisSpec(alpha=NAN)}, InvalidInputError),
        ({"analysis": AnalysisSpec(scales={"nobody": "log"})}, InvalidAnalysisError),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_a_typed_error(store, database, changed, error):
    problem = changes_nothing(database, lambda: store.create(plan(**changed)), error)
    assert len(problem.message) < 2_000
    assert problem.hint


def test_variants_of_the_same_name_are_refused(store, database):
    both = (Variant("new", 0.5, "1.0.0"), Variant("new", 0.5, "1.0.1"))
    changes_nothing(database, lambda: store.create(ExperimentSpec("late", both, model="m")), InvalidInputError)


@pytest.mark.parametrize(
    ("version", "error"),
    [
        ("9.9.9", VersionNotFoundError),
        ("nobody", AliasNotFoundError),
        ("", InvalidExperimentError),
        ("Not One", InvalidExperimentError),
        ("1.0", VersionNotFoundError | AliasNotFoundError),
        ("x" * 10_000, InvalidExperimentError),
        ("m:1.0.1", InvalidExperimentError),
    ],
)
def test_a_version_that_is_not_there_is_refused(store, database, version, error):
    both = (Variant("old", 0.5, "1.0.0"), Variant("new", 0.5, version))
    errors = (error,) if isinstance(error, type) else error.__args__
    changes_nothing(database, lambda: store.create(ExperimentSpec("late", both, model="m")), *errors)


def test_a_model_a_layer_and_versions_have_to_be_there(store, database, registry):
    changes_nothing(database, lambda: store.create(plan(model="nobody")), ModelNotFoundError)
    changes_nothing(database, lambda: store.create(plan(layer="nobody", share=0.5)), InvalidAllocationError)
    registry.transition("m:1.0.1", "rejected", reason="harmful")
    changes_nothing(database, lambda: store.create(plan()), RejectedVersionError)
    flag = (Variant("old", 0.5, "1.0.0"), Variant("new", 0.5))
    changes_nothing(database, lambda: store.create(ExperimentSpec("flag", flag)), InvalidExperimentError)


@pytest.mark.parametrize("principal", ["x" * 10_000, "a\0b", "a\ud800"])
def test_who_asks_is_a_text_that_can_be_kept(store, database, principal):
    changes_nothing(database, lambda: store.create(plan(), principal=principal), MalformedRequestError)


@pytest.mark.parametrize("name", ["nobody", "lat", "", "x" * 65, "x" * 100_000, "a\0b", "'; DROP TABLE x", "a\ud800"])
def test_one_that_is_not_there(store, database, name):
    store.create(plan())
    verbs = (
        store.find,
        store.start,
        store.pause,
        lambda given: store.stop(given, reason="enough"),
        lambda given: store.reweight(given, coverage=0.5),
        lambda given: store.conclude(given, Verdict("keep", "", "", "ann")),
    )
    for verb in verbs:
        error = changes_nothing(database, lambda verb=verb: verb(name), ExperimentNotFoundError)
        assert len(error.message) < 300
    if name == "lat":
        assert "did you mean `late`?" in error.hint


# --- its life ---


def test_starting_pins_versions_and_says_when(store, registry, database):
    clock = Clock()
    store = open_store(registry, clock)
    move(registry, "m", "1.0.1", "challenger")
    both = (Variant("old", 0.5, "champion"), Variant("new", 0.5, "challenger"))
    store.create(ExperimentSpec("late", both, model="m", metrics=(METRIC,)))
    started = store.start("late", reason="go", principal="ann")
    assert (started.status, started.revision, started.started_at) == (Status.RUNNING, 1, clock.now)
    assert started.versions == {"old": "1.0.0", "new": "1.0.1"}
    assert newest_change(database)[3:] == ("experiment.running", {"from": "draft", "reason": "go"})
    with database.read() as connection:
        assert connection.scalar(select(measures.c.experiment)) == "late", "the ledger knows what is measured"
    move(registry, "m", "1.0.2", "challenger")
    store.pause("late", reason="lunch")
    registry.move_alias("m", "challenger", None)
    again = store.start("late")
    assert again.versions == {"old": "1.0.0", "new": "1.0.1"}, "what was pinned goes on"
    assert (again.started_at, again.revision) == (clock.now, 1)


def test_a_pause_is_told_with_its_reason_and_units_keep_their_slots(store, database):
    store.create(plan())
    store.start("late")
    before = store.reweight("late", {"old": 0.3, "new": 0.7})
    paused = store.pause("late", reason="looks odd", principal="bob")
    assert (paused.status, paused.reason) == (Status.PAUSED, "looks odd")
    assert newest_change(database)[3:] == ("experiment.paused", {"from": "running", "reason": "looks odd"})
    again = store.start("late")
    assert (again.weights, again.revision) == (before.weights, before.revision)


@pytest.mark.parametrize("steps", [[], ["start"], ["start", "pause"]])
def test_it_can_be_stopped_whenever_it_is_not_over(store, database, steps):
    store.create(plan())
    for step in steps:
        getattr(store, step)("late")
    stopped = store.stop("late", reason="enough")
    assert (stopped.status, stopped.reason, stopped.verdict) == (Status.STOPPED, "enough", None)
    assert stopped.finished_at is not None
    for verb in (store.start, store.pause):
        changes_nothing(database, lambda verb=verb: verb("late"), ExperimentConflictError)
    changes_nothing(database, lambda: store.reweight("late", coverage=0.5), ExperimentConflictError)
    revision = database.revision()
    assert store.stop("late", reason="again") == stopped
    assert database.revision() == revision


def test_what_has_run_may_be_decided_after_its_stop(store, database):
    for name in ("late", "never"):
        store.create(plan(name))
    store.start("late")
    stopped = [store.stop(name, reason="enough") for name in ("late", "never")]
    verdict = Verdict("keep", "", "", "ann")
    changes_nothing(database, lambda: store.conclude("never", verdict), ExperimentConflictError)
    decided = store.conclude("late", verdict)
    assert (decided.status, decided.finished_at) == (Status.DECIDED, stopped[0].finished_at)


@pytest.mark.parametrize("reason", ["", " \n"])
def test_nobody_stops_one_without_saying_why(store, database, reason):
    store.create(plan())
    store.start("late")
    for dry_run in (True, False):
        error = changes_nothing(
            database, lambda dry_run=dry_run: store.stop("late", reason=reason, dry_run=dry_run), ReasonRequiredError
        )
        assert error.message == "stopping an experiment needs a reason"
    assert store.find("late").status is Status.RUNNING


def test_a_verdict_is_kept(store, database):
    store.create(plan())
    changes_nothing(database, lambda: store.conclude("late", Verdict("keep", "", "x", "ann")), ExperimentConflictError)
    store.start("late")
    verdict = Verdict("ship", "new", "it is better", "auto")
    assert store.conclude("late", verdict).verdict == verdict
    assert store.find("late").status is Status.DECIDED
    assert newest_change(database)[3:] == ("experiment.decided", {"from": "running", "reason": "it is better"})


def test_doing_twice_what_was_done_changes_nothing(store, database):
    store.create(plan())
    for verb in ("start", "pause", "start", "stop"):
        done = getattr(store, verb)("late", reason="first")
        revision = database.revision()
        assert getattr(store, verb)("late", reason="second") == done
        assert database.revision() == revision


def test_of_many_who_start_at_once_one_does_and_all_are_told_the_same(store, database):
    store.create(plan(metrics=(METRIC,)))
    revision, told = database.revision(), []
    threads = [threading.Thread(target=lambda: told.append(store.start("late"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [told[0]] * 6
    assert database.revision() == revision + 1


@pytest.mark.parametrize("reason", ["x" * 10_000, "a\0b", "a\ud800"])
def test_a_reason_is_a_text_that_can_be_kept(store, database, reason):
    store.create(plan())
    for verb in (store.start, store.pause, store.stop, lambda name, **said: store.reweight(name, coverage=0.5, **said)):
        changes_nothing(database, lambda verb=verb: verb("late", reason=reason), MalformedRequestError)


# --- starting and versions ---


class Refusing:
    """Processes of which one cannot load a version."""

    def __init__(self, bad):
        self.bad = bad
        self.asked = []

    def of(self, version, principal):
        @contextlib.contextmanager
        def block():
            self.asked.append(version.version)
            if version.version == self.bad:
                raise LoadFailedError(ref=version.ref, problem="its golden answers differ")
            yield

        return block()

    def await_followers(self):
        pass


def test_a_version_that_cannot_be_loaded_starts_nothing(registry, database):
    processes = Refusing("1.0.1")
    store = open_store(registry, readiness=processes)
    store.create(plan(layer=""))
    error = changes_nothing(database, lambda: store.start("late"), ExperimentConflictError)
    assert "`m:1.0.1` is not ready everywhere: its golden answers differ" in error.message
    assert store.find("late").status is Status.DRAFT
    processes.bad = ""
    assert store.start("late").status is Status.RUNNING
    assert processes.asked == ["1.0.0", "1.0.1"] * 2
    store.pause("late")
    processes.bad = "1.0.0"
    changes_nothing(database, lambda: store.start("late"), ExperimentConflictError)
    assert store.find("late").status is Status.PAUSED


def test_one_version_of_many_variants_is_loaded_once(registry):
    processes = Refusing("")
    store = open_store(registry, readiness=processes)
    same = tuple(Variant(name, 0.5, "1.0.0") for name in ("old", "new"))
    store.create(ExperimentSpec("aa", same, model="m"))
    store.start("aa", dry_run=True)
    assert processes.asked == [], "a rehearsal loads nothing"
    store.start("aa")
    assert processes.asked == ["1.0.0"]


def test_versions_that_are_gone_or_rejected_do_not_start(store, registry, database):
    store.create(plan())
    store.create(plan("other", model="m", weights={"old": 0.5, "new": 0.3, "third": 0.2}))
    registry.delete("m:1.0.2")
    changes_nothing(database, lambda: store.start("other"), NotFoundError)
    store.start("late")
    store.pause("late")
    registry.transition("m:1.0.1", "rejected", reason="harmful")
    changes_nothing(database, lambda: store.start("late"), RejectedVersionError)


def test_what_nobody_is_to_serve_does_not_start_and_nobody_waits(store, database):
    store.create(plan())
    set_unloaded(database, "m", unloaded=True, principal="ann")
    error = changes_nothing(database, lambda: store.start("late"), ExperimentConflictError)
    assert "somebody asked not to serve `m`" in error.message


def test_the_database_vanishes(store, database):
    store.create(plan())
    database.away = True
    with pytest.raises(DatabaseUnavailableError):
        store.start("late")
    database.away = False
    assert store.find("late").status is Status.DRAFT


# --- layers ---


def test_layers_give_units_to_who_starts_and_take_them_back(store, database):
    store.create_layer(LayerSpec("all", holdout=0.1), principal="ann")
    assert newest_change(database)[:4] == ("layer", "", "all", "layer.create")
    for name in ("one", "other"):
        store.create(plan(name, layer="all", share=0.6))
    store.start("one")
    assert shares(store) == {"(holdout)": 0.1, "one": 0.6}
    store.create_layer(LayerSpec("later"))
    store.create(plan("third", layer="later"))
    error = changes_nothing(database, lambda: store.start("other"), LayerFullError)
    assert "30 % of its units left" in error.message
    store.pause("one")
    changes_nothing(database, lambda: store.start("other"), LayerFullError)
    store.stop("one", reason="enough")
    assert shares(store) == {"(holdout)": 0.1}
    store.start("other")
    assert shares(store) == {"(holdout)": 0.1, "other": 0.6}
    store.conclude("other", Verdict("keep", "", "", "ann"))
    assert shares(store) == {"(holdout)": 0.1}


def shares(store, name="all"):
    layer = next(layer for layer in store.layers() if layer.spec.name == name)
    owners = layer.owners
    return {owner: share for owner, share in zip(owners.names, owners.shares, strict=True) if share}


def test_the_same_layer_again_changes_nothing_and_another_one_is_refused(store, database):
    made = store.create_layer(LayerSpec("all", unit="session"))
    store.create(plan(layer="all", share=0.5))
    store.start("late")
    revision = database.revision()
    assert store.create_layer(LayerSpec("all", unit="session")).spec == made.spec
    assert database.revision() == revision
    assert shares(store) == {"late": 0.5}
    bad = (
        LayerSpec("all"),
        LayerSpec("All"),
        LayerSpec("x", holdout=1.0),
        LayerSpec("x", holdout=NAN),
        LayerSpec("x", unit=""),
        LayerSpec("x", root="nobody"),
        LayerSpec("x", root="x"),
        LayerSpec("x", hash="md5"),
        LayerSpec("y" * 100_000),
        LayerSpec("x", salt="a\ud800"),
    )
    for spec in bad:
        changes_nothing(database, lambda spec=spec: store.create_layer(spec))
    changes_nothing(database, lambda: store.create_layer(LayerSpec("x"), principal="a\0"), MalformedRequestError)
    assert [layer.spec.name for layer in store.layers()] == ["all"]


def test_two_that_would_draw_the_same_units_do_not_run_together(store, database):
    for name in ("one", "other"):
        store.create(plan(name, salt="shared"))
    store.start("one")
    changes_nothing(database, lambda: store.start("other"), InvalidAllocationError)
    store.stop("one", reason="enough")
    store.start("other")


# --- weights ---


def test_reweighting_is_audited_and_counts_revisions(store, database):
    store.create(plan())
    store.start("late")
    after = store.reweight("late", {"old": 0.2, "new": 0.8}, coverage=0.5, reason="it does well", principal="bob")
    assert (after.weights, after.coverage, after.revision) == ({"old": 0.2, "new": 0.8}, 0.5, 2)
    assert after.spec.variants[1].weight == 0.5, "what was asked for at first stays"
    kind, model, subject, action, details = newest_change(database)
    assert (kind, model, subject, action) == ("experiment", "m", "late", "experiment.reweight")
    assert details == {
        "principal": "bob",
        "reason": "it does well",
        "weights": {"old": 0.2, "new": 0.8},
        "coverage": 0.5,
        "revision": 2,
    }
    store.pause("late")
    assert store.reweight("late", coverage=1.0).status is Status.PAUSED


@pytest.mark.parametrize(
    ("weights", "coverage"),
    [
        ({"old": 0.5}, None),
        ({"old": 0.5, "new": 0.5, "third": 0.0}, None),
        ({"old": 0.6, "new": 0.6}, None),
        ({"old": NAN, "new": 0.5}, None),
        ({"old": -1.0, "new": 2.0}, None),
        ({"old": INFINITE, "new": -INFINITE}, None),
        ({"old": "0.5", "new": 0.5}, None),
        (None, 1.1),
        (None, -0.1),
        (None, NAN),
        ({}, None),
        (None, None),
    ],
)
def test_weights_that_cannot_be(store, database, weights, coverage):
    store.create(plan())
    store.start("late")
    changes_nothing(database, lambda: store.reweight("late", weights, coverage=coverage))
    assert store.find("late").weights == {"old": 0.5, "new": 0.5}


def test_one_that_changes_while_its_versions_are_loaded_does_not_start(registry):
    class WhileItLoads:
        @contextlib.contextmanager
        def of(self, _target, _principal):
            wanted = plan(weights={"old": 0.4, "new": 0.3, "third": 0.3})
            if store.find("late").spec != wanted:
                store.amend(wanted)
            yield

    store = open_store(registry, readiness=WhileItLoads())
    store.create(plan())
    with pytest.raises(ExperimentConflictError, match="has changed meanwhile"):
        store.start("late")
    assert store.find("late").status is Status.DRAFT
    assert set(store.start("late").versions) == {"old", "new", "third"}


@pytest.mark.parametrize(
    "metric",
    [
        MetricSpec("latency_seconds"),
        MetricSpec("slow", kind="quantile", outcome="latency_seconds", level=0.9),
        MetricSpec("per_second", kind="ratio", outcome="late", denominator="latency_seconds"),
    ],
    ids=lambda metric: metric.name,
)
def test_latency_is_compared_only_where_somebody_waits_for_a_treatment(store, database, metric):
    alone = plan(weights={"old": 1.0, "new": 0.0}, shadows=("new",), metrics=(metric,))
    problem = changes_nothing(database, lambda: store.create(alone), InvalidExperimentError)
    assert (problem.http_status, f"`{metric.name}`" in problem.message) == (422, True)
    assert "compare it in a split" in problem.message
    both = {"old": 0.5, "third": 0.5, "new": 0.0}
    store.create(plan(weights=both, shadows=("new",), metrics=(metric,)))
    assert store.find("late").spec.metrics == (metric,)


def test_a_shadow_gets_no_weight(store, database):
    store.create(plan(weights={"old": 1.0, "new": 0.0}, shadows=("new",)))
    assert store.start("late").kind == "shadow"
    changes_nothing(database, lambda: store.reweight("late", {"old": 0.9, "new": 0.1}), InvalidExperimentError)
    assert store.reweight("late", coverage=0.5).coverage == 0.5


def test_a_change_starts_from_where_the_ramp_is(registry):
    clock = Clock()
    clock.now = utc_now()  # what is shown is what it is now
    store, hour = open_store(registry, clock), timedelta(hours=1)
    steps = (RampStep(clock.now + hour, 0.5), RampStep(clock.now + 3 * hour, 1.0))
    store.create(plan(coverage=0.1, ramp=steps))
    store.start("late")
    clock.advance(2 * 3600)
    after = store.reweight("late", {"old": 0.2, "new": 0.8})
    assert (after.coverage, after.revision) == (0.5, 3)


# --- rehearsals and lists ---


def test_rehearsals_say_what_would_be_and_change_nothing(store, database):
    rehearsed, new = store.create(plan(), dry_run=True)
    assert (rehearsed.status, new, database.revision()) == (Status.DRAFT, True, store_revision(database))
    with pytest.raises(ExperimentNotFoundError):
        store.find("late")
    store.create_layer(LayerSpec("all"), dry_run=True)
    assert store.layers() == ()
    store.create_layer(LayerSpec("all"))
    store.create(plan(layer="all", share=0.5, metrics=(METRIC,)))
    revision = database.revision()
    assert store.start("late", dry_run=True).status is Status.RUNNING
    assert (store.find("late").status, shares(store)) == (Status.DRAFT, {})
    assert database.revision() == revision
    with database.read() as connection:
        assert connection.scalar(select(measures.c.experiment)) is None
    store.start("late")
    revision = database.revision()
    assert store.pause("late", dry_run=True).status is Status.PAUSED
    assert store.stop("late", reason="enough", dry_run=True).status is Status.STOPPED
    assert store.conclude("late", Verdict("keep", "", "", "ann"), dry_run=True).status is Status.DECIDED
    assert store.reweight("late", {"old": 0.1, "new": 0.9}, dry_run=True).weights == {"old": 0.1, "new": 0.9}
    assert (store.find("late").status, shares(store)) == (Status.RUNNING, {"late": 0.5})
    assert store.find("late").weights == {"old": 0.5, "new": 0.5}
    assert database.revision() == revision
    changes_nothing(database, lambda: store.reweight("late", {"old": 2.0}, dry_run=True))
    changes_nothing(database, lambda: store.create(plan(), dry_run=True), ExperimentConflictError)
    newest_change(database)


def store_revision(database):
    with database.read() as connection:
        return connection.scalar(select(audit.c.seq).order_by(audit.c.seq.desc()).limit(1))


def test_lists_are_newest_first_by_page_model_and_status(store):
    for number in range(5):
        store.create(plan(f"e{number}", model="" if number == 2 else "m"))
    store.start("e1")
    store.stop("e3", reason="enough")
    first = store.list(limit=2)
    rest = store.list(cursor=first.next_cursor)
    assert [item.name for item in (*first.items, *rest.items)] == ["e4", "e3", "e2", "e1", "e0"]
    assert rest.next_cursor == ""
    assert [item.name for item in store.list(model="m").items] == ["e4", "e3", "e1", "e0"]
    assert [item.name for item in store.list(status="running").items] == ["e1"]
    assert store.list(model="nobody").items == ()
    for bad in ({"cursor": "x"}, {"limit": 0}, {"limit": 1001}):
        with pytest.raises(InvalidPageError):
            store.list(**bad)
    with pytest.raises(InvalidNameError):
        store.list(model="a b")
