"""A deployment that comes up stays; one that does not goes back to what ran before, once, with the reason."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from crossfade.errors import DatabaseUnavailableError
from crossfade.releases.deployment import DeploymentState
from crossfade.storage.lease import LostLeaseError
from crossfade.traffic.deployed import Probe
from tests.releases.deploying import READY_SECONDS, audited, plan
from tests.traffic.support import eventually, move


def actions(deploying):
    return [action for action, _, _ in audited(deploying.database)]


@pytest.fixture
def on_probation(deploying):
    """`1.0.1` has proved itself, and `1.0.2` is new."""
    deploying.store.deploy(plan(version="1.0.1"))
    deploying.prove()
    deploying.store.deploy(plan(version="1.0.2"), reason="faster", principal="ann")
    return deploying


def test_it_proves_itself_by_being_ready_everywhere_for_a_while(deploying):
    deploying.store.deploy(plan())
    deploying.say(deploying.report())
    deploying.turn()
    assert deploying.store.find("web").status is DeploymentState.DEPLOYING, "three probes have not been made yet"
    deploying.clock.advance(plan().probation_seconds)
    deploying.say(deploying.report(), process="a")
    deploying.say(deploying.report(ready=1), process="b")
    deploying.turn()
    assert deploying.store.find("web").status is DeploymentState.DEPLOYING, "one process has one replica"
    deploying.say(deploying.report(), process="b")
    deploying.turn()
    found = deploying.store.find("web")
    assert (found.status, found.reason) == (DeploymentState.RUNNING, "it has come up everywhere")


def test_probation_lasts_as_long_as_probes_may_fail():
    assert plan(probe=Probe(20.0, failure_threshold=5)).probation_seconds == 100.0
    assert plan(probe=Probe(0.1)).probation_seconds == 10.0


def test_a_process_that_follows_late_is_waited_for(on_probation):
    deploying = on_probation
    deploying.clock.advance(30)
    deploying.say(deploying.report(), process="a")
    deploying.say(deploying.report(generation=1, version="1.0.1"), process="b")
    deploying.turn()
    assert deploying.store.find("web").status is DeploymentState.DEPLOYING


def test_what_ran_before_and_what_is_about_to_come_run_beside_it(on_probation):
    deploying = on_probation
    deploying.clock.advance(30)
    before = deploying.report(generation=1, version="1.0.1")
    candidate = deploying.report(version="1.0.0", ready=0, failed=True, problem="of another version")
    deploying.say(before, candidate, deploying.report())
    deploying.turn()
    assert deploying.store.find("web").status is DeploymentState.RUNNING


def test_nobody_who_runs_it_proves_nothing(deploying):
    deploying.store.deploy(plan())
    deploying.clock.advance(7 * 86_400)
    deploying.say()
    deploying.turn()
    assert deploying.store.find("web").status is DeploymentState.DEPLOYING


def test_one_that_cannot_be_loaded_goes_back(on_probation):
    deploying = on_probation
    deploying.say(deploying.report(ready=0, failed=True, problem="ZeroDivisionError: division by zero"))
    deploying.turn()
    found = deploying.store.find("web")
    assert (found.status, found.version, found.generation) == (DeploymentState.ROLLED_BACK, "1.0.1", 3)
    assert found.reason == "host/7: ZeroDivisionError: division by zero"
    assert (found.failure.generation, found.failure.spec) == (2, plan(version="1.0.2"))
    assert found.failure.reason == found.reason
    assert found.changed_by == "deployments"
    assert actions(deploying)[-1] == "deployment.rollback"


def test_one_whose_replicas_keep_ending_goes_back(on_probation):
    deploying = on_probation
    deploying.say(deploying.report(restarts=2))
    deploying.turn()
    assert deploying.store.find("web").status is DeploymentState.DEPLOYING
    deploying.say(deploying.report(restarts=3, problem="replica 1: its process was ended by SIGKILL"))
    deploying.turn()
    assert "ended 3 times while it was new, lastly: replica 1" in deploying.store.find("web").reason


def test_one_that_takes_for_ever_goes_back(on_probation):
    deploying = on_probation
    deploying.clock.advance(2 * READY_SECONDS)
    deploying.say(deploying.report(ready=1, problem="there is no memory for another replica"))
    deploying.turn()
    found = deploying.store.find("web")
    assert found.status is DeploymentState.ROLLED_BACK
    assert "host/7 did not have it ready within 40 seconds: there is no memory" in found.reason


def test_it_goes_back_once(on_probation):
    """Two keepers judge the same; the second finds that it is no longer so."""
    deploying = on_probation
    judged = deploying.store.find("web")
    barrier, outcomes = threading.Barrier(4), []

    def give_up():
        barrier.wait()
        outcomes.append(deploying.store.give_up(judged, "it crashed", lambda _connection: None))

    threads = [threading.Thread(target=give_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False, False, False, True]
    assert actions(deploying).count("deployment.rollback") == 1
    deploying.say(deploying.report())
    for _ in range(3):
        deploying.clock.advance(60)
        deploying.turn()
    assert actions(deploying).count("deployment.rollback") == 1


def test_one_that_slept_through_its_lease_changes_nothing(on_probation):
    deploying = on_probation
    deploying.clock.advance(3600)  # whoever proved the first has ended long ago
    sleeper = deploying.keeper()
    assert sleeper._lease.hold()
    deploying.clock.advance(3600)
    deploying.say(deploying.report(ready=0, failed=True, problem="no"))
    assert deploying.keeper()._lease.hold()
    with pytest.raises(LostLeaseError):
        deploying.store.give_up(deploying.store.find("web"), "no", sleeper._lease.check)
    assert deploying.store.find("web").status is DeploymentState.DEPLOYING
    sleeper.turn()
    assert deploying.store.find("web").status is DeploymentState.DEPLOYING


def test_a_person_who_was_faster_wins(on_probation):
    deploying = on_probation
    judged = deploying.store.find("web")
    deploying.store.deploy(plan(version="1.0.0"))
    assert not deploying.store.give_up(judged, "no", lambda _connection: None)
    assert not deploying.store.settle(judged, lambda _connection: None)
    assert deploying.store.find("web").version == "1.0.0"
    deploying.store.undeploy("web")
    assert not deploying.store.settle(judged, lambda _connection: None)


def test_without_anything_before_it_has_failed_and_recovers_when_it_can(deploying):
    deploying.store.deploy(plan())
    deploying.say(deploying.report(ready=0, failed=True, problem="no"))
    for _ in range(3):
        deploying.turn()
    found = deploying.store.find("web")
    assert (found.status, found.generation, found.failure.reason) == (DeploymentState.FAILED, 1, "host/7: no")
    assert actions(deploying).count("deployment.fail") == 1
    deploying.prove()
    assert deploying.store.find("web").status is DeploymentState.RUNNING


def test_what_has_failed_may_be_tried_again_by_a_person(deploying):
    deploying.store.deploy(plan())
    deploying.say(deploying.report(ready=0, failed=True, problem="no"))
    deploying.turn()
    made, changed = deploying.store.deploy(plan())
    assert (changed, made.generation, made.status) == (True, 2, DeploymentState.DEPLOYING)


@pytest.fixture
def following(deploying):
    """A deployment that follows the champion, 1.0.0, and has proved itself with it."""
    deploying.store.deploy(plan(version="champion"))
    deploying.prove()
    assert deploying.store.find("web").status is DeploymentState.RUNNING
    return deploying


def test_what_an_alias_means_next_has_to_prove_itself_too(following):
    deploying = following
    move(deploying.registry, "m", "1.0.1", "challenger")
    assert deploying.store.find("web").status is DeploymentState.RUNNING, "it follows another alias"
    move(deploying.registry, "m", "1.0.2")
    found = deploying.store.find("web")
    assert (found.status, found.version, found.generation) == (DeploymentState.DEPLOYING, "1.0.2", 2)
    assert (found.reason, found.changed_by) == ("`champion` moved to 1.0.2", "local")
    deploying.prove()
    assert deploying.store.find("web").status is DeploymentState.RUNNING


def test_what_an_alias_means_next_may_fail_and_the_way_back_leads_over_the_alias(following):
    deploying = following
    move(deploying.registry, "m", "1.0.2")
    deploying.say(deploying.report(ready=0, wanted=1, failed=True, problem="MemoryError"))
    deploying.turn()
    found = deploying.store.find("web")
    assert (found.status, found.version) == (DeploymentState.FAILED, "1.0.2")
    assert found.reason == found.failure.reason == "`champion` means 1.0.2; host/7: MemoryError"
    move(deploying.registry, "m", "1.0.0")
    deploying.prove()
    found = deploying.store.find("web")
    assert (found.status, found.reason) == (DeploymentState.RUNNING, "it has come up everywhere")


def test_what_went_back_and_follows_an_alias_tells_the_truth_about_what_it_means_next(following):
    deploying = following
    deploying.store.deploy(plan(version="1.0.1"))
    deploying.say(deploying.report(ready=0, failed=True, problem="no"))
    deploying.turn()
    assert deploying.store.find("web").status is DeploymentState.ROLLED_BACK
    move(deploying.registry, "m", "1.0.1")
    deploying.prove()
    found = deploying.store.find("web")
    assert (found.status, found.version) == (DeploymentState.RUNNING, "1.0.1")


def test_what_was_judged_before_an_alias_moved_says_nothing(following):
    deploying = following
    move(deploying.registry, "m", "1.0.2")
    judged = deploying.store.find("web")
    move(deploying.registry, "m", "1.0.1")
    assert not deploying.store.give_up(judged, "no", lambda _connection: None)
    assert not deploying.store.settle(judged, lambda _connection: None)


def test_without_the_wish_to_go_back_it_stays(deploying):
    deploying.store.deploy(plan(version="1.0.1"))
    deploying.prove()
    deploying.store.deploy(plan(version="1.0.2", rollback_on_error=False))
    deploying.say(deploying.report(ready=0, failed=True, problem="no"))
    deploying.turn()
    found = deploying.store.find("web")
    assert (found.status, found.version) == (DeploymentState.FAILED, "1.0.2")
    assert found.previous == plan(version="1.0.1"), "what ran before goes on beside it until a person decides"


def test_after_going_back_the_next_failure_goes_back_to_the_same(on_probation):
    deploying = on_probation
    deploying.say(deploying.report(ready=0, failed=True, problem="no"))
    deploying.turn()
    deploying.store.deploy(plan(version="1.0.2"))
    deploying.say(deploying.report(ready=0, failed=True, problem="again"))
    deploying.turn()
    found = deploying.store.find("web")
    assert (found.version, found.generation) == ("1.0.1", 5)
    assert found.failure.at == deploying.clock()


def test_a_keeper_turns_by_itself_and_survives_a_database_that_is_away(deploying, monkeypatch, caplog):
    monkeypatch.setattr("crossfade.releases.deployment_keeper.POLL_SECONDS", 0.01)
    deploying.store.deploy(plan())
    deploying.clock.advance(60)
    deploying.database.away = True
    with deploying.keeper():
        eventually(lambda: "not attended to: deployments" in caplog.text)
        deploying.database.away = False
        deploying.say(deploying.report())
        eventually(lambda: deploying.store.find("web").status is DeploymentState.RUNNING)
    deploying.database.away = True
    with pytest.raises(DatabaseUnavailableError):
        deploying.turn()
    deploying.database.away = False


def test_times_are_utc(deploying):
    made, _ = deploying.store.deploy(plan())
    assert made.created_at.tzinfo is UTC
    assert made.changed_at - datetime(2026, 1, 31, 9, 30, tzinfo=UTC) == timedelta(0)
