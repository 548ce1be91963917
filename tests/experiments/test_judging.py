"""From evidence to a decision, and from a decision to what follows, whatever fails on the way."""

import contextlib
from datetime import timedelta

import pytest

from crossfade.core.clock import utc_now
from crossfade.core.identity import new_id
from crossfade.errors import (
    ExperimentConflictError,
    ExperimentNotFoundError,
    MalformedRequestError,
    NotReadyError,
    RejectedVersionError,
    UncomparedChampionError,
)
from crossfade.experiments.analysis_spec import AnalysisSpec, DecisionSpec
from crossfade.experiments.judging import Judge
from crossfade.experiments.record import Status, Verdict
from crossfade.experiments.requests import DecideRequest
from crossfade.ledger.events import Exposure, Outcome
from crossfade.ledger.metrics import MetricSpec
from crossfade.ledger.rollups import fold
from crossfade.registry.requests import ProcessStatus
from crossfade.traffic.fleet import Fleet
from crossfade.traffic.switch import AliasSwitch
from tests.experiments.life import plan
from tests.ledger.support import store as store_events
from tests.traffic.support import FAST

LATE = MetricSpec("late", kind="proportion", direction="down")
SOON = {"analysis": AnalysisSpec(smallest_units=50), "decision": DecisionSpec(minimum_runtime_seconds=0.0)}
FROM_THE_ANALYSIS = DecideRequest()


@pytest.fixture
def switch(registry, database):
    return AliasSwitch(registry, Fleet(database, FAST), FAST)


@pytest.fixture
def judge(store, database, switch):
    # an hour ahead, so that what is observed now has been settled
    return Judge(store, database, switch, lambda: utc_now() + timedelta(hours=1))


@pytest.fixture
def observe(database):
    """Lets units be seen, and some of them be late."""

    def observe(name="late", units=400, late=(("old", 0.5), ("new", 0.5)), **fields):
        exposures, outcomes, at = [], [], int(utc_now().timestamp() * 1e6)
        for variant, rate in late:
            for number in range(units):
                unit = f"{variant}-{number}"
                seen = Exposure(new_id(), at + number, name, 1, variant, unit, 0.5, **fields)
                exposures.append(seen)
                happened = float(number < rate * units)
                outcomes.append(Outcome(new_id(), at + number, "late", happened, decision=seen.id))
        with database.write() as connection:
            store_events(connection, exposures, outcomes)
            fold(connection, exposures, outcomes)

    return observe


@pytest.fixture
def begin(store):
    def begin(**options):
        spec = plan(**{"metrics": (LATE,), **SOON} | options)
        store.create(spec)
        return store.start(spec.name)

    return begin


def champion(registry):
    return registry.model("m").aliases["champion"]


BETTER = (("old", 0.6), ("new", 0.3))
WORSE = (("old", 0.3), ("new", 0.6))


# --- what the evidence says ---


def test_before_it_starts_there_is_nothing_to_analyze(store, judge):
    store.create(plan(metrics=(LATE,)))
    with pytest.raises(ExperimentConflictError, match="has not started"):
        judge.analyze("late")
    with pytest.raises(ExperimentNotFoundError):
        judge.analyze("nobody")
    for wanted in (FROM_THE_ANALYSIS, DecideRequest("keep")):
        with pytest.raises(ExperimentConflictError, match="is draft"):
            judge.decide("late", wanted)


def test_without_a_single_event_it_says_to_go_on(begin, judge):
    begin()
    assert judge.analyze("late").decision.action == "continue"


def test_it_says_which_is_better_and_goes_on_saying_so_when_it_is_over(begin, judge, observe, store):
    begin()
    observe(late=BETTER)
    decision = judge.analyze("late").decision
    assert (decision.action, decision.variant) == ("ship", "new")
    store.stop("late", reason="enough")
    assert judge.analyze("late").decision.variant == "new"


# --- deciding ---


def test_what_is_better_is_shipped_through_the_switch(begin, judge, observe, registry, store):
    begin()
    observe(late=BETTER)
    rehearsed = judge.decide("late", FROM_THE_ANALYSIS, principal="ann", dry_run=True)
    assert (rehearsed.verdict.action, rehearsed.status) == ("ship", Status.DECIDED)
    assert (champion(registry), store.find("late").status) == ("1.0.0", Status.RUNNING)
    decided = judge.decide("late", FROM_THE_ANALYSIS, principal="ann")
    assert (decided.status, decided.verdict.action, decided.verdict.variant) == (Status.DECIDED, "ship", "new")
    assert decided.verdict.by == "ann"
    assert champion(registry) == "1.0.1"
    move = registry.alias_history("m", "champion").items[0]
    assert move.moved_by == "ann"
    assert move.reason.startswith("experiment late: ")
    with pytest.raises(ExperimentConflictError, match="is decided"):
        judge.decide("late", FROM_THE_ANALYSIS)


def test_a_champion_that_was_not_compared_is_replaced_only_by_saying_so(begin, judge, observe, registry, switch, store):
    begin()
    observe(late=BETTER)
    switch.move("m", "champion", "1.0.2", reason="a person knows better")
    for dry_run in (True, False):
        with pytest.raises(UncomparedChampionError, match=r"is 1\.0\.2 by now, which experiment `late`") as refused:
            judge.decide("late", FROM_THE_ANALYSIS, principal="ann", dry_run=dry_run)
    assert "crossfade experiments decide late --ship new" in refused.value.hint
    assert (champion(registry), store.find("late").status) == ("1.0.2", Status.RUNNING)
    judge.decide("late", DecideRequest("ship", "new", "I know why"), principal="ann")
    assert champion(registry) == "1.0.1"


def test_a_champion_that_was_moved_among_those_compared_is_replaced(begin, judge, observe, registry, switch):
    begin()
    observe(late=BETTER)
    switch.move("m", "champion", "1.0.1", reason="a person was faster")
    judge.decide("late", FROM_THE_ANALYSIS, principal="ann")
    assert champion(registry) == "1.0.1"


def test_what_is_worse_is_not_shipped(begin, judge, observe, registry):
    begin()
    observe(late=WORSE)
    decided = judge.decide("late", FROM_THE_ANALYSIS)
    assert (decided.verdict.action, decided.verdict.variant) == ("keep", "")
    assert champion(registry) == "1.0.0"


def test_while_nothing_is_known_nothing_is_decided(begin, judge, observe, registry, database):
    begin()
    observe(units=60, late=(("old", 0.5), ("new", 0.5)))
    revision = database.revision()
    for dry_run in (True, False):
        with pytest.raises(ExperimentConflictError, match="is not decided"):
            judge.decide("late", FROM_THE_ANALYSIS, dry_run=dry_run)
    assert database.revision() == revision


def test_data_that_cannot_be_trusted_decide_nothing_and_a_person_may(begin, judge, observe, registry):
    begin()
    observe(units=300, late=(("old", 0.6),))
    observe(units=900, late=(("new", 0.3),))
    assert any(problem.blocks for problem in judge.analyze("late").health.problems)
    with pytest.raises(ExperimentConflictError, match="is not decided"):
        judge.decide("late", FROM_THE_ANALYSIS)
    decided = judge.decide("late", DecideRequest("ship", "new", "I know why"), principal="ann")
    assert (decided.verdict.by, decided.verdict.reason) == ("ann", "I know why")
    assert champion(registry) == "1.0.1"


@pytest.mark.parametrize("pause", [True, False])
def test_a_person_decides_against_the_evidence(begin, judge, observe, registry, store, pause):
    begin()
    observe(late=BETTER)
    if pause:
        store.pause("late")
    decided = judge.decide("late", DecideRequest("keep", reason="too expensive"))
    assert (decided.verdict.action, decided.verdict.variant, decided.reason) == ("keep", "", "too expensive")
    assert champion(registry) == "1.0.0"


def test_what_was_stopped_may_still_be_decided(begin, judge, observe, registry, store):
    """Outcomes come days after the last unit."""
    begin()
    observe(late=BETTER)
    stopped = store.stop("late", reason="enough units")
    decided = judge.decide("late", FROM_THE_ANALYSIS, principal="ann")
    assert (decided.status, decided.verdict.variant, champion(registry)) == (Status.DECIDED, "new", "1.0.1")
    assert decided.finished_at == stopped.finished_at
    with pytest.raises(ExperimentConflictError, match="is decided"):
        judge.decide("late", DecideRequest("keep"))


def test_shipping_the_control_keeps_the_champion(begin, judge, registry, database):
    begin()
    judge.decide("late", DecideRequest("ship", "old"))
    assert champion(registry) == "1.0.0"
    assert len(registry.alias_history("m", "champion").items) == 1


@pytest.mark.parametrize("variant", ["", "nobody", "1.0.1", "x" * 10_000, "a\0b"])
@pytest.mark.parametrize("dry_run", [True, False])
def test_only_a_variant_can_be_shipped(begin, judge, database, variant, dry_run):
    begin()
    revision = database.revision()
    with pytest.raises(ExperimentConflictError, match="to ship"):
        judge.decide("late", DecideRequest("ship", variant), dry_run=dry_run)
    assert database.revision() == revision


@pytest.mark.parametrize("wanted", [DecideRequest("keep", "new"), DecideRequest("", "new")])
def test_a_variant_without_shipping_means_nothing(begin, judge, observe, database, wanted):
    begin()
    observe(late=BETTER)
    with pytest.raises(ExperimentConflictError, match="`ship`"):
        judge.decide("late", wanted)


@pytest.mark.parametrize("reason", ["x" * 100_000, "a\0b", "a\ud800"])
def test_a_reason_that_cannot_be_kept_moves_nothing(begin, judge, registry, reason, store):
    begin()
    with pytest.raises(MalformedRequestError):
        judge.decide("late", DecideRequest("ship", "new", reason))
    assert (champion(registry), store.find("late").status) == ("1.0.0", Status.RUNNING)


def test_a_reason_as_long_as_can_be_kept_is_kept_in_both_histories(begin, judge, registry):
    begin()
    reason = "x" * 2_000
    assert judge.decide("late", DecideRequest("ship", "new", reason)).verdict.reason == reason
    assert champion(registry) == "1.0.1"


def test_a_flag_is_shipped_by_saying_so(begin, judge, registry):
    begin(name="flag", model="")
    decided = judge.decide("flag", DecideRequest("ship", "new"))
    assert decided.verdict.variant == "new"
    assert champion(registry) == "1.0.0"


# --- what fails on the way ---


def test_a_version_that_cannot_become_ready_leaves_everything_as_it_is(begin, judge, registry, store, database):
    begin()
    registry.transition("m:1.0.1", "rejected", reason="harmful")
    for dry_run in (True, False):
        with pytest.raises(RejectedVersionError):
            judge.decide("late", DecideRequest("ship", "new"), dry_run=dry_run)
    assert (champion(registry), store.find("late").status) == ("1.0.0", Status.RUNNING)


def test_a_process_that_cannot_load_it_leaves_everything_as_it_is(begin, registry, store, database):
    begin()
    fleet = Fleet(database, FAST.model_copy(update={"heartbeat_seconds": 0.05}))
    now = utc_now()
    fleet.report(ProcessStatus("a", "host", 7, now, now, 1, {}))  # and is never heard of again
    judge = Judge(store, database, AliasSwitch(registry, fleet, FAST))
    with pytest.raises(NotReadyError):
        judge.decide("late", DecideRequest("ship", "new"))
    assert (champion(registry), store.find("late").status) == ("1.0.0", Status.RUNNING)


def test_after_a_crash_between_moving_and_concluding_deciding_again_concludes(
    begin, judge, observe, registry, store, monkeypatch
):
    begin()
    observe(late=BETTER)
    conclude = store.conclude

    def killed(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "conclude", killed)
    with pytest.raises(KeyboardInterrupt):
        judge.decide("late", FROM_THE_ANALYSIS)
    assert (champion(registry), store.find("late").status) == ("1.0.1", Status.RUNNING)
    monkeypatch.setattr(store, "conclude", conclude)
    moves = len(registry.alias_history("m", "champion").items)
    assert judge.decide("late", FROM_THE_ANALYSIS).verdict.variant == "new"
    assert champion(registry) == "1.0.1"
    assert len(registry.alias_history("m", "champion").items) == moves, "it was moved once"


class WhileItLoads:
    """Readiness during which somebody does something."""

    def __init__(self, happens):
        self.happens = happens

    @contextlib.contextmanager
    def of(self, _target, _principal):
        self.happens()
        yield


@pytest.mark.parametrize("end", ["stop", "keep", "ship"])
def test_one_that_is_ended_while_a_version_is_loaded_keeps_its_end(
    begin, judge, registry, store, switch, monkeypatch, end
):
    begin()

    def happens():
        monkeypatch.undo()
        if end == "stop":
            store.stop("late", reason="no")
        else:
            judge.decide("late", DecideRequest(end, "old" if end == "ship" else "", "first"))

    monkeypatch.setattr(switch, "_readiness", WhileItLoads(happens))
    with pytest.raises(ExperimentConflictError, match="by somebody else meanwhile"):
        judge.decide("late", DecideRequest("ship", "new", "second"))
    assert champion(registry) == "1.0.0"
    found = store.find("late")
    assert found.status is (Status.STOPPED if end == "stop" else Status.DECIDED)
    assert found.reason == ("no" if end == "stop" else "first")


def test_it_has_ended_before_processes_are_waited_for(begin, judge, store, switch, monkeypatch):
    begin()
    seen = []
    monkeypatch.setattr(switch._fleet, "wait_revision", lambda *_: seen.append(store.find("late").status) or [])
    judge.decide("late", DecideRequest("ship", "new"))
    assert seen == [Status.DECIDED]


def test_another_decision_does_not_pass_for_the_first(begin, judge, store):
    begin()
    judge.decide("late", DecideRequest("keep", reason="first"), principal="ann")
    verdict = store.find("late").verdict
    assert store.conclude("late", verdict, principal="ann").verdict == verdict
    with pytest.raises(ExperimentConflictError, match="somebody else"):
        store.conclude("late", Verdict("ship", "new", "second", "ben"), principal="ben")
