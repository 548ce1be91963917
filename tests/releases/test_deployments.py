"""What people do with deployments: what may be, what changes, what is kept of it."""

import math
import socket

import msgspec
import pytest

from crossfade.errors import (
    AliasNotFoundError,
    DeploymentConflictError,
    DeploymentNotFoundError,
    InsufficientResourcesError,
    InvalidDeploymentError,
    InvalidNameError,
    ModelNotFoundError,
    RejectedVersionError,
    StillReferencedError,
    VersionNotFoundError,
)
from crossfade.releases.deployment import DeploymentSpec, DeploymentState
from crossfade.traffic.deployed import Probe, ReplicaRange, Resources
from crossfade.traffic.health import Counts
from crossfade.traffic.snapshot import Role, SnapshotSource
from crossfade.traffic.unloading import set_unloaded
from tests.releases.deploying import audited, plan
from tests.traffic.support import move


def aspired(deploying, version):
    source = SnapshotSource(deploying.registry.backend, deploying.database, keep_previous=0)
    route = source.read(source.revision()).route("m")
    return next((wish for wish in route.aspired if wish.version == version), None)


# --- what may be ---


def test_a_specification_is_settled():
    assert plan(version="v1.0.0").checked().version == "1.0.0"
    assert plan(version="champion").checked() == plan(version="champion")
    text = msgspec.json.encode(plan(resources=Resources(1, 2**20, 1)))
    assert msgspec.json.decode(text, type=DeploymentSpec) == plan(resources=Resources(1, 2**20, 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"replicas": ReplicaRange(3, 2)},
        {"replicas": ReplicaRange(0)},
        {"replicas": ReplicaRange(1, 65)},
        {"replicas": ReplicaRange(-1, 5)},
        {"target_utilisation": 0.0},
        {"target_utilisation": 1.5},
        {"target_utilisation": math.nan},
        {"target_utilisation": math.inf},
        {"resources": Resources(-1)},
        {"resources": Resources(memory_bytes=-1)},
        {"resources": Resources(memory_bytes=2**70)},
        {"resources": Resources(0.5)},
        {"probe": Probe(interval_seconds=0.0)},
        {"probe": Probe(interval_seconds=math.nan)},
        {"probe": Probe(timeout_seconds=math.inf)},
        {"probe": Probe(failure_threshold=0)},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(deploying, changes):
    with pytest.raises(InvalidDeploymentError):
        deploying.store.deploy(plan(**changes))
    assert deploying.store.list().items == ()


@pytest.mark.parametrize(
    "changes",
    [{"name": "No Name"}, {"name": ""}, {"model": "../m"}, {"environment": "a b"}, {"version": "no version\0"}],
    ids=str,
)
def test_what_is_no_name_is_refused(deploying, changes):
    with pytest.raises(InvalidNameError):
        deploying.store.deploy(plan(**changes))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"model": "absent"}, ModelNotFoundError),
        ({"version": "9.9.9"}, VersionNotFoundError),
        ({"version": "absent"}, AliasNotFoundError),
    ],
)
def test_what_is_not_there_cannot_run(deploying, changes, error):
    with pytest.raises(error):
        deploying.store.deploy(plan(**changes))


def test_a_rejected_version_cannot_run(deploying):
    deploying.registry.transition("m:1.0.1", "rejected")
    with pytest.raises(RejectedVersionError):
        deploying.store.deploy(plan(version="1.0.1"))


def test_a_model_that_nobody_shall_serve_cannot_run(deploying):
    set_unloaded(deploying.database, "m", unloaded=True, principal="ann")
    with pytest.raises(DeploymentConflictError, match="not to serve"):
        deploying.store.deploy(plan())


def test_what_this_machine_has_not_got_is_refused_when_it_serves(deploying):
    deploying.refuses = InsufficientResourcesError(name="web", what="GPUs", wanted=2, available=0)
    made, _ = deploying.store.deploy(plan())
    assert made.status is DeploymentState.DEPLOYING, "whoever serves is elsewhere, and will say so"
    deploying.say(host=socket.gethostname())
    with pytest.raises(InsufficientResourcesError, match="needs 2, and 0 are there"):
        deploying.store.deploy(plan(version="1.0.1"))


# --- what changes ---


def test_deploying_says_how_a_version_runs(deploying_anywhere):
    deploying = deploying_anywhere
    made, changed = deploying.store.deploy(plan(version="1.0.1"), reason="faster", principal="ann")
    assert changed
    assert (made.status, made.generation, made.version) == (DeploymentState.DEPLOYING, 1, "1.0.1")
    assert (made.reason, made.created_by, made.changed_by) == ("faster", "ann", "ann")
    wish = aspired(deploying, "1.0.1")
    assert wish.role is Role.DEPLOYED
    assert wish.terms == plan(version="1.0.1").terms(1)
    assert deploying.registry.model("m").aliases == {"champion": "1.0.0"}, "no traffic has moved"
    (entry,) = audited(deploying.database)
    assert entry[:2] == ("deployment.deploy", "ann")
    assert entry[2]["reason"] == "faster"
    assert entry[2]["spec"]["replicas"] == {"min": 2, "max": 0}


def test_the_same_again_changes_nothing(deploying):
    deploying.store.deploy(plan())
    revision = deploying.database.revision()
    _, changed = deploying.store.deploy(plan())
    assert not changed
    assert deploying.database.revision() == revision


def test_a_rehearsal_changes_nothing(deploying):
    made, changed = deploying.store.deploy(plan(), dry_run=True)
    assert (made.generation, changed) == (1, True)
    assert deploying.store.list().items == ()
    assert audited(deploying.database) == []


def test_an_alias_means_whatever_it_points_to(deploying):
    deploying.store.deploy(plan(version="champion"))
    assert aspired(deploying, "1.0.0").terms is not None
    move(deploying.registry, "m", "1.0.2")
    assert deploying.store.find("web").version == "1.0.2"
    assert aspired(deploying, "1.0.2").terms is not None
    assert aspired(deploying, "1.0.0") is None


def test_a_version_that_an_alias_is_about_to_move_to_is_prepared_as_it_will_run(deploying):
    deploying.store.deploy(plan(version="champion"))
    candidate = deploying.fleet.add_candidate("m", "1.0.2", principal="ann")
    wish = aspired(deploying, "1.0.2")
    assert (wish.role, wish.terms) == (Role.CANDIDATE, plan(version="champion").terms(1))
    assert wish.within("staging").terms is None, "there it is prepared as it would be without"
    move(deploying.registry, "m", "1.0.2")
    deploying.fleet.remove_candidate(candidate, principal="ann")
    moved = aspired(deploying, "1.0.2").terms
    assert moved == plan(version="champion").terms(2), "so the move changes nothing of it but whom reports are about"


def test_an_alias_that_is_gone_means_nothing(deploying):
    move(deploying.registry, "m", "1.0.1", "challenger")
    deploying.store.deploy(plan(version="challenger"))
    deploying.registry.move_alias("m", "challenger", None)
    assert deploying.store.find("web").version == ""
    assert aspired(deploying, "1.0.1") is None


def test_what_ran_before_goes_on_beside_what_is_new(deploying):
    deploying.store.deploy(plan(version="1.0.1"))
    deploying.prove()
    made, _ = deploying.store.deploy(plan(version="1.0.2"))
    assert (made.generation, made.previous) == (2, plan(version="1.0.1"))
    assert aspired(deploying, "1.0.1").terms is not None
    deploying.prove()
    assert aspired(deploying, "1.0.1") is None
    assert deploying.store.find("web").previous is None


def test_deploying_again_before_it_has_proved_itself_keeps_what_has(deploying):
    deploying.store.deploy(plan(version="1.0.0"))
    deploying.prove()
    deploying.store.deploy(plan(version="1.0.1"))
    made, _ = deploying.store.deploy(plan(version="1.0.2"))
    assert made.previous == plan(version="1.0.0")


def test_one_version_runs_once_in_an_environment(deploying):
    deploying.store.deploy(plan(version="champion"))
    with pytest.raises(DeploymentConflictError, match="which `web` runs already"):
        deploying.store.deploy(plan("other", "1.0.0"))
    deploying.store.deploy(plan("other", "1.0.0", environment="staging"))
    terms = {each.environment: each.name for each in aspired(deploying, "1.0.0").deployments}
    assert terms == {"production": "web", "staging": "other"}


def test_the_environment_decides_who_runs_what(deploying):
    deploying.store.deploy(plan(version="1.0.1", environment="staging"))
    wish = aspired(deploying, "1.0.1")
    assert wish.within("staging").terms.name == "web"
    assert wish.within("production") is None, "nobody else wants it there"
    deploying.store.deploy(plan("live", "1.0.0", environment="staging"))
    champion = aspired(deploying, "1.0.0")
    assert champion.within("production").terms is None
    assert champion.within("production").role is Role.ACTIVE


def test_a_name_means_one_model(deploying):
    from tests.traffic.support import publish_all

    publish_all(deploying.registry, "n", "1.0.0")
    deploying.store.deploy(plan())
    with pytest.raises(DeploymentConflictError, match="is of `m`"):
        deploying.store.deploy(plan(model="n"))


def test_undeploying_forgets(deploying):
    deploying.store.deploy(plan(version="1.0.1"))
    assert deploying.store.undeploy("web", dry_run=True).name == "web"
    assert deploying.store.undeploy("web", reason="no need", principal="ann").version == "1.0.1"
    with pytest.raises(DeploymentNotFoundError):
        deploying.store.find("web")
    assert aspired(deploying, "1.0.1") is None
    assert [entry[:2] for entry in audited(deploying.database)][-1] == ("deployment.undeploy", "ann")
    with pytest.raises(DeploymentNotFoundError):
        deploying.store.undeploy("web")


def test_a_version_that_is_deployed_is_not_deleted(deploying):
    deploying.store.deploy(plan(version="1.0.1"))
    with pytest.raises(StillReferencedError, match="deployment `web`"):
        deploying.registry.delete("m:1.0.1")
    deploying.store.undeploy("web")
    deploying.registry.delete("m:1.0.1")


# --- looking ---


def test_listing_by_model_environment_and_status(deploying):
    for number in range(3):
        deploying.store.deploy(plan(f"d{number}", f"1.0.{number}", environment="staging" if number else "production"))
    names = [each.name for each in deploying.store.list(limit=2).items]
    assert names == ["d2", "d1"]
    cursor = deploying.store.list(limit=2).next_cursor
    assert [each.name for each in deploying.store.list(cursor=cursor).items] == ["d0"]
    assert [each.name for each in deploying.store.list(environment="staging").items] == ["d2", "d1"]
    assert deploying.store.list(model="other").items == ()
    assert len(deploying.store.list(status="deploying").items) == 3


def test_what_is_not_there_is_said_with_a_suggestion(deploying):
    deploying.store.deploy(plan("website"))
    with pytest.raises(DeploymentNotFoundError) as raised:
        deploying.store.find("websit")
    assert "did you mean `website`?" in raised.value.hint
    for name in ("", "\0", "x" * 1000):
        with pytest.raises(DeploymentNotFoundError):
            deploying.store.find(name)


def test_status_says_what_each_process_says(deploying):
    deploying.store.deploy(plan())
    deploying.say(deploying.report(), process="a")
    deploying.say(deploying.report(ready=1, problem="replica 0: it was killed"), process="b")
    deploying.say(process="c")
    status = deploying.store.status("web")
    assert (status.ready, status.wanted, status.problem) == (3, 4, "replica 0: it was killed")
    assert [process.process for process in status.processes] == ["a", "b"]
    deploying.clock.advance(3600)
    assert deploying.store.status("web").processes == (), "the dead say nothing"


def test_health_is_that_of_the_versions_in_three_windows(deploying):
    deploying.store.deploy(plan(version="1.0.1"))
    deploying.say(deploying.report(memory_bytes=100, cpu=0.5, queue_depth=3), process="a")
    deploying.say(deploying.report(memory_bytes=100, cpu=0.25, queue_depth=1), process="b")
    counts = Counts(
        requests=60, errors=6, fallbacks=3, batches=10, batch_rows=60, latency={40: 54}, memory_bytes=9, cpu_seconds=30
    )
    at = int(deploying.clock().timestamp() * 1e6)
    deploying.log.write("a", at, {1: {"m": {"1.0.1": counts, "1.0.0": Counts(requests=5)}}})
    health = deploying.store.health("web")
    assert (health.memory_bytes, health.cpu, health.queue_depth) == (200, 0.75, 4)
    assert [window.window_seconds for window in health.windows] == [60, 300, 3600]
    minute = health.windows[0]
    assert (minute.version, minute.requests, minute.requests_per_second) == ("1.0.1", 60, 1.0)
    assert (minute.error_rate, minute.fallback_rate, minute.batch_size, minute.cpu) == (0.1, 0.05, 6.0, 0.5)
    assert minute.p50_seconds == minute.p99_seconds > 0


def test_health_of_what_nobody_asks_is_empty_and_not_nothing(deploying):
    deploying.store.deploy(plan(version="1.0.1"))
    windows = deploying.store.health("web").windows
    assert [(window.requests, window.p99_seconds, window.error_rate) for window in windows] == [(0, None, None)] * 3
