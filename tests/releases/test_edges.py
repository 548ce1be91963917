"""What a rollout does when something around it is not as it should be: the page of that name, line by line."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from crossfade.errors import PrometheusUnavailableError, RolloutConflictError, StillReferencedError
from crossfade.ledger.gaps import Gap, note_gaps
from crossfade.ledger.metrics import MetricSpec
from crossfade.releases.checks.spec import ErrorRateCheck, MetricCheck, ThresholdCheck
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.serving.counters import Counters
from crossfade.serving.health import HealthReporter
from crossfade.telemetry.prometheus import Outcome, Reading
from crossfade.traffic.fleet import FAILED
from crossfade.traffic.health import Counts
from tests.releases.life import PLAN, SETTINGS, answered

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "rollouts-in-trouble.md"


def with_check(check, **limits):
    return RolloutPlan((Step(0.1, hold_seconds=5), Step(0.5, hold_seconds=5), Step(1.0)), checks=(check,), **limits)


def under_way(stage, plan=PLAN, **options):
    """Begin a rollout, and let it get its first step."""
    stage.begin(plan, **options)
    return stage.reach("progressing")


class Source:
    """A Prometheus that a test speaks for."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def read(self, _query):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def staged_with(stage, **parts):
    """Give the stage a controller that can ask others."""
    stage.controller.close()
    stage.controller = stage.new_controller(**parts)
    return stage


# --- no traffic ---


def test_without_traffic_it_waits_for_a_person(stage):
    under_way(stage, RolloutPlan((Step(0.1, minimum_units=50), Step(1.0)), no_traffic_seconds=20))
    paused = stage.reach("paused", old=90, new=0)
    assert (paused.state.waiting_for, paused.weight) == ("person", 0.1)
    assert "no request for version 1.0.1 came within" in paused.reason
    stage.store.resume("m")
    assert stage.reach("completed").weight == 1.0


def test_without_any_traffic_at_all_it_waits_for_a_person(stage):
    under_way(stage, RolloutPlan((Step(0.1, minimum_units=50), Step(1.0)), no_traffic_seconds=20))
    assert stage.reach("paused", old=0, new=0).state.waiting_for == "person"


def test_a_long_hold_is_no_silence(stage):
    under_way(stage, RolloutPlan((Step(0.1, hold_seconds=100), Step(1.0)), no_traffic_seconds=5))
    for _ in range(9):
        stage.clock.advance(9)
        assert stage.second(old=9, new=0).status.value == "progressing"


# --- where numbers come from ---

NO_NUMBERS = {
    "gone": PrometheusUnavailableError(problem="it does not answer"),
    "empty": Reading(Outcome.EMPTY, None, 0),
    "several": Reading(Outcome.SEVERAL, None, 3),
    "stale": Reading(Outcome.STALE, None, 1),
    "NaN": Reading(Outcome.NOT_A_NUMBER, None, 1),
    "infinite": Reading(Outcome.INFINITE, None, 1),
}


@pytest.mark.parametrize("answer", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_without_a_number_it_neither_goes_on_nor_back(stage, answer):
    check = ThresholdCheck("lag", query="lag", interval_seconds=1, minimum=-1e9, maximum=1e9)
    staged_with(stage, prometheus=Source(answer))
    under_way(stage, with_check(check))
    paused = stage.reach("paused", seconds=7)
    assert (paused.weight, paused.state.checks["lag"].counts.errors) == (0.1, 5)
    assert "check `lag` decides nothing" in paused.reason


def test_a_source_that_is_away_for_a_moment_is_forgiven(stage):
    good = Reading(Outcome.VALUE, 0.5, 1)
    check = ThresholdCheck("lag", query="lag", interval_seconds=1, maximum=1.0)
    staged_with(stage, prometheus=Source(*[NO_NUMBERS["gone"]] * 4, good, *[NO_NUMBERS["stale"]] * 4, good))
    under_way(stage, with_check(check))
    assert stage.reach("completed").weight == 1.0


def test_a_source_that_comes_back_lets_a_person_go_on(stage):
    check = ThresholdCheck("lag", query="lag", interval_seconds=1, maximum=1.0)
    source = Source(NO_NUMBERS["gone"])
    staged_with(stage, prometheus=source)
    under_way(stage, with_check(check))
    stage.reach("paused")
    source.answers = [Reading(Outcome.VALUE, 0.5, 1)]
    stage.store.resume("m")
    assert stage.reach("completed").weight == 1.0


def test_without_a_source_a_failing_version_still_goes(stage):
    checks = (ThresholdCheck("lag", query="lag", interval_seconds=1, maximum=1.0), ErrorRateCheck("errors"))
    staged_with(stage, prometheus=Source(NO_NUMBERS["gone"]))
    under_way(stage, RolloutPlan((Step(0.1, hold_seconds=5), Step(1.0)), checks=checks))
    stage.reach("paused")
    assert stage.reach("rolled_back", old=90, new=10, new_bad=5).latched


def test_an_incomplete_ledger_decides_nothing(stage, clock):
    metric = MetricSpec("late", kind="proportion", direction="down", missing="skip")
    under_way(stage, with_check(MetricCheck("late", metric, interval_seconds=1, error_limit=2)))
    now_us = int(clock().timestamp() * 1e6)
    with stage.database.write() as connection:
        note_gaps(connection, "j", [Gap("m-1", "crash", 17)], now_us, now_us)
    paused = stage.reach("paused")
    assert "the ledger is incomplete: events are missing: 17 exposures were lost" in paused.reason


@pytest.mark.parametrize("limits", [{"maximum": 0.5}, {"minimum": 0.5}])
def test_a_window_without_answers_is_no_number(stage, limits):
    """Everybody who asked was refused: there is no latency, and no latency is not a good one."""
    stage.begin(with_check(ThresholdCheck("p99", series="p99_seconds", interval_seconds=1, error_limit=1, **limits)))
    stage.reach("progressing", old=90, new=0)
    for _ in range(3):
        stage.clock.advance(1)
        stage.serve(v0=answered(90), v1=Counts(requests=10, refused=10))
        stage.follow()
        stage.controller.turn()
    last = stage.store.find("m")
    assert last.status.value == "paused"
    assert "p99_seconds is no number" in last.reason


# --- plans ---


def test_a_plan_that_never_ends_waits_for_a_person_at_its_deadline(stage):
    under_way(stage, RolloutPlan((Step(0.1, minimum_units=10**9), Step(1.0)), deadline_seconds=30))
    stage.clock.advance(25)
    paused = stage.reach("paused")
    assert "it takes longer than the 30 seconds of its plan" in paused.reason
    stage.store.resume("m")
    assert stage.second(old=90, new=10).status.value == "progressing", "the deadline counts from the person's word"


def test_a_version_that_never_loads_ends_it(stage):
    stage.slots["m:1.0.1"] = ("loading", "")
    stage.begin()
    stage.clock.advance(119)
    assert stage.second().status.value == "preparing"
    assert "not ready everywhere within 120 seconds" in stage.reach("aborted").reason
    assert stage.champion == "1.0.0"


def test_a_version_that_cannot_load_ends_it(stage):
    stage.slots["m:1.0.1"] = (FAILED, "its golden answers differ")
    stage.begin()
    aborted = stage.reach("aborted")
    assert "its golden answers differ" in aborted.reason
    assert not aborted.latched


def test_units_that_never_come_are_waited_for_until_nobody_comes(stage):
    under_way(stage, RolloutPlan((Step(0.1, minimum_units=10**9), Step(1.0)), no_traffic_seconds=20))
    for _ in range(4):
        stage.clock.advance(15)
        assert stage.second(old=9, new=1).status.value == "progressing"
    assert stage.reach("paused", old=9, new=0).state.waiting_for == "person"


# --- what others do meanwhile ---


def test_a_second_rollout_of_a_subject_is_refused_in_whatever_status_the_first_is(stage):
    stage.begin()
    for _ in ("preparing", "progressing"):
        with pytest.raises(RolloutConflictError, match="`m-1` under way"):
            stage.begin(version="1.0.2")
        stage.second(old=9, new=1)
    stage.store.pause("m")
    with pytest.raises(RolloutConflictError, match="`m-1` under way"):
        stage.begin(version="1.0.2")


def test_a_version_that_is_rejected_while_it_is_paused_goes_all_the_same(stage):
    under_way(stage)
    stage.store.pause("m")
    stage.registry.transition("m:1.0.1", "rejected", reason="found something")
    assert stage.second(old=9, new=1).status.value == "rolled_back"


def test_the_old_version_cannot_be_rejected_while_it_has_the_traffic(stage):
    under_way(stage)
    with pytest.raises(StillReferencedError, match="champion"):
        stage.registry.transition("m:1.0.0", "rejected", reason="known to be bad")


# --- emergency ---


@pytest.mark.parametrize("when", ["preparing", "progressing"])
def test_an_emergency_holds_it_where_it_is(stage, when):
    stage.begin()
    weight = stage.reach("progressing").weight if when == "progressing" else 0.0
    stage.emergency = "the plant is on fire"
    paused = stage.second(old=90, new=10)
    assert (paused.status.value, paused.weight) == ("paused", weight)
    assert paused.reason == "emergency mode: the plant is on fire"
    stage.emergency = ""
    assert stage.second(old=90, new=10).status.value == "paused", "going on is a person's word"
    stage.store.resume("m")
    assert stage.reach("completed").weight == 1.0


def test_who_resumes_in_an_emergency_is_held_again(stage):
    under_way(stage)
    stage.emergency = "still"
    stage.second(old=90, new=10)
    stage.store.resume("m")
    assert stage.second(old=90, new=10).status.value == "paused"


def test_in_an_emergency_a_failing_version_goes(stage):
    under_way(stage)
    stage.emergency = "the plant is on fire"
    stage.second(old=90, new=10)
    assert stage.reach("rolled_back", old=90, new=10, new_bad=5).weight == 0.0


# --- processes ---


def test_a_process_that_restarts_counts_from_zero_and_nothing_twice(stage, clock):
    under_way(stage)
    before = stage.second(old=90, new=10).evidence.counts["errors"]
    after = before
    for life in range(3):  # each with an id of its own
        clock.advance(1)
        stage.serve(process=f"a{life}", v0=answered(9), v1=answered(1, bad=1))
        after = stage.second().evidence.counts["errors"]
        assert stage.second().evidence.counts["errors"] == after, "nothing is counted twice"
    assert [now - then for now, then in zip(after, before, strict=True)] == [3, 3, 0, 27]


class _Slot:
    name, version, waiting, size_bytes, cpu_seconds = "m", "1.0.1", 0, 0, 0.0

    def __init__(self, requests):
        self.counters, self.shadows, self.pinned = Counters(), Counters(), Counters()
        for _ in range(requests):
            self.counters.count_answer(1, 0.01, 0.0)


class _Slots(dict):
    all = dict.copy


def test_a_version_that_is_loaded_again_counts_from_zero_and_nothing_twice(stage, clock):
    slots = _Slots(a=_Slot(7))
    reporter = HealthReporter(slots, {}, stage.health, "a", clock)
    reporter.turn()
    slots["a"] = _Slot(2)  # fewer than before
    clock.advance(1)
    reporter.turn()
    assert stage.health.window(60, model="m", version="1.0.1").requests == 9


def test_a_process_that_follows_again_is_waited_for(stage):
    """It has restarted: until it answers by the present weight, the step is not over."""
    under_way(stage)
    for _ in range(12):
        stage.clock.advance(1)
        stage.ask()
        stage.follow()
        stage.follow("b", revision=0)
        stage.controller.turn()
    waiting = stage.store.find("m")
    assert (waiting.state.step, waiting.weight) == (0, 0.1)
    assert waiting.state.words == "1 of 2 processes have not followed yet"
    stage.follow("b")
    assert stage.reach("completed").weight == 1.0


def held(stage, *processes, seconds=1):
    """Let seconds pass in which these processes serve; returns what the step then waits for."""
    for _ in range(seconds):
        stage.clock.advance(1)
        for process in processes:
            stage.follow(process)
        stage.controller.turn()
    return stage.store.find("m").state.words


def test_a_hold_counts_anew_after_nobody_has_served(stage):
    stage.begin(RolloutPlan((Step(0.5, hold_seconds=60), Step(1.0))))
    assert held(stage, "a", seconds=32) == "step 1 holds for another 30 s"
    stage.clock.advance(20)
    assert held(stage, "b") == "step 1 holds for another 60 s"
    assert held(stage, "b", seconds=59) == "step 1 holds for another 1 s"
    assert stage.store.find("m").state.step == 0


def test_a_hold_goes_on_while_processes_and_controllers_take_turns(stage):
    stage.begin(RolloutPlan((Step(0.5, hold_seconds=60), Step(1.0))))
    assert held(stage, "a", seconds=12) == "step 1 holds for another 50 s"
    assert held(stage, "a", "b", seconds=5) == "step 1 holds for another 45 s"
    stage.clock.advance(SETTINGS.lease_seconds)
    stage.controller = stage.new_controller()
    assert held(stage, "b", seconds=4) == "step 1 holds for another 31 s"
    assert held(stage, "c") == "step 1 holds for another 30 s", "a moment is no gap"


def test_a_process_that_does_not_follow_keeps_nobody_from_going_back(stage):
    under_way(stage)
    for _ in range(20):
        stage.follow("b", revision=0)
        if stage.second(old=90, new=10, new_bad=5).status.value == "rolled_back":
            return
    raise AssertionError("it is still there")


def test_a_process_that_is_silent_is_waited_for_no_longer(stage):
    stage.follow("b", revision=0)
    stage.begin()
    assert stage.second(old=90, new=10).status.value == "preparing"
    assert stage.reach("completed").weight == 1.0, "three heartbeats later nobody relies on it"


def test_a_process_that_answers_and_does_not_report_is_missing_from_the_evidence_alone(stage):
    """What others report still counts; when nobody does, that is no traffic."""
    under_way(stage)
    stage.follow("b")
    rollout = stage.second(old=90, new=10)
    stage.follow("b")
    assert stage.second(old=90, new=10).evidence.counts["errors"][1] == rollout.evidence.counts["errors"][1] + 10


def test_reports_that_are_minutes_late_are_no_evidence(stage, clock):
    under_way(stage, RolloutPlan((Step(0.1, hold_seconds=600), Step(1.0)), checks=(ErrorRateCheck("errors"),)))
    for _ in range(5):
        clock.advance(39)
        stage.second(old=90, new=10)
    counted = stage.store.find("m").evidence.counts["errors"]
    late = int((clock() - timedelta(seconds=150)).timestamp() * 1e6)
    stage.health.write("late", late, {1: {"m": {"1.0.1": answered(500, bad=500)}}})
    assert stage.second().evidence.counts["errors"] == counted
    in_time = int((clock() - timedelta(seconds=100)).timestamp() * 1e6)
    stage.health.write("slow", in_time, {1: {"m": {"1.0.1": answered(5)}}})
    assert stage.second().evidence.counts["errors"][1] == counted[1] + 5


def test_another_controller_goes_on_with_the_same_evidence(stage, clock):
    under_way(stage, RolloutPlan((Step(0.1, hold_seconds=600), Step(1.0)), checks=(ErrorRateCheck("errors"),)))
    before = stage.second(old=90, new=10).evidence.counts["errors"]
    stage.controller = stage.new_controller()
    for _ in range(12):  # until the lease of the one that is gone has ended
        stage.second(old=9, new=1)
    after = stage.store.find("m").evidence.counts["errors"]
    assert [now - then for now, then in zip(after, before, strict=True)] == [0, 12, 0, 108]


def test_a_clock_that_is_ahead_does_not_blind_it(stage, clock):
    under_way(stage)
    ahead = int((clock() + timedelta(hours=1)).timestamp() * 1e6)
    stage.health.write("ahead", ahead, {1: {"m": {"1.0.0": answered(9), "1.0.1": answered(1)}}})
    stage.second(old=90, new=10)
    assert stage.reach("rolled_back", old=90, new=10, new_bad=5).latched


# --- the page ---


def test_the_page_and_the_tests_are_about_the_same():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    named = {word for row in rows for word in row.split("`") if word.startswith("test_")}
    known = {
        found
        for page in Path(__file__).parent.glob("test_*.py")
        for found in re.findall(r"^def (test_\w+)", page.read_text(), re.MULTILINE)
    }
    here = {name for name in globals() if name.startswith("test_")} - {"test_the_page_and_the_tests_are_about_the_same"}
    assert here <= named <= known
