"""Many at once, on both databases: exactly one of them does what can be done once."""

import threading
from contextlib import suppress
from itertools import pairwise

import pytest

from crossfade.errors import ConflictError
from crossfade.releases.changing import StaleError
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.releases.requests import RolloutRequest
from crossfade.releases.rollout import RolloutStatus
from crossfade.storage.changes import verify_audit
from crossfade.storage.lease import LostLeaseError
from tests.releases.life import Stage

PLAN = RolloutPlan((*(Step(part / 10) for part in range(1, 10)), Step(1.0)), no_traffic_seconds=600)
WEIGHTS = {0.0, 1.0, *(step.weight for step in PLAN.steps)}


@pytest.fixture
def stage(any_registry, clock):
    return Stage(any_registry, clock)


def together(count, action):
    """Do something in so many threads at once; returns what each came to."""
    ready, results = threading.Barrier(count), []

    def run(number):
        ready.wait()
        try:
            results.append(action(number))
        except (ConflictError, StaleError, LostLeaseError) as refused:
            results.append(refused)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def done(results):
    return [result for result in results if not isinstance(result, Exception)]


def test_of_many_who_begin_one_does(stage):
    results = together(6, lambda number: stage.store.create(RolloutRequest("m", f"1.0.{1 + number % 2}", PLAN)))
    assert len(results) == 6
    (made,) = done(results)
    assert stage.store.list().items == (made,)


@pytest.mark.parametrize("verb", ["abort", "rollback"])
def test_of_many_who_take_it_back_one_does(stage, verb):
    stage.begin(PLAN)
    stage.reach("progressing")
    results = together(6, lambda _number: getattr(stage.store, verb)("m"))
    assert len(done(results)) == 1
    kinds = [entry.kind for entry in stage.store.history("m")]
    assert kinds.count("abort") + kinds.count("rollback") == 1


def test_whatever_people_do_at_once_the_history_is_one(stage):
    stage.begin(PLAN)
    stage.reach("progressing")
    verbs = ("pause", "resume", "promote", "abort", "rollback", "promote", "pause", "resume")
    together(len(verbs), lambda number: getattr(stage.store, verbs[number])("m"))
    history = stage.store.history("m")
    assert [entry.seq for entry in history] == list(range(1, len(history) + 1))
    for before, after in pairwise(history):
        assert before.target == after.source
    assert {entry.weight for entry in history} <= WEIGHTS
    with stage.database.read() as connection:
        verify_audit(connection)


def test_controllers_that_turn_at_once_move_one_step_at_a_time(stage):
    stage.begin(PLAN)
    controllers = [stage.new_controller() for _ in range(3)]
    for _ in range(60):
        if not stage.store.find("m").active:
            break
        stage.clock.advance(1)
        stage.ask()
        stage.follow()
        together(3, lambda number: controllers[number].turn())
    assert stage.store.find("m").status is RolloutStatus.COMPLETED
    history = stage.store.history("m")
    weights = [entry.weight for entry in history]
    assert weights == sorted(weights)
    assert [entry.step for entry in history if entry.kind == "step"] == list(range(10))
    assert {entry.epoch for entry in history} == {1}, "the first to hold the lease kept it"


def test_a_person_and_a_controller_at_once_agree(stage):
    stage.begin(PLAN)
    stage.reach("progressing")
    ending = threading.Event()

    def turn(_number):
        while not ending.is_set():
            with suppress(StaleError):
                stage.controller.turn()

    def give_up(_number):
        try:
            return stage.store.abort("m")
        finally:
            ending.set()

    results = together(2, lambda number: (turn, give_up)[number](number))
    assert len(done(results)) == 2
    assert stage.store.find("m").status is RolloutStatus.ABORTED
    assert stage.store.find("m").weight == 0.0
    assert stage.champion == "1.0.0"
