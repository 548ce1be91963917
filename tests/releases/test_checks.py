"""What each kind of check says."""

import msgspec
import pytest

from crossfade.errors import InvalidPlanError, NotificationFailedError, PrometheusUnavailableError
from crossfade.experiments.requests import DecideRequest
from crossfade.ledger.metrics import MetricSpec
from crossfade.methods.stats.error_rate import ErrorRate
from crossfade.releases.checks import error_rate
from crossfade.releases.checks.measuring import Measurer
from crossfade.releases.checks.phase import CheckResult
from crossfade.releases.checks.questions import Questions
from crossfade.releases.checks.spec import ErrorRateCheck, ExperimentCheck, MetricCheck, ThresholdCheck, WebhookCheck
from crossfade.releases.checks.threshold import judge
from crossfade.releases.plan import RolloutPlan, Step
from crossfade.telemetry.prometheus import Outcome, Reading
from crossfade.traffic.fleet import READY
from crossfade.traffic.health import LATENCY_BOUNDS, Counts, HealthReport
from tests.experiments.life import open_store, plan
from tests.releases.life import ERRORS, Stage, answered
from tests.traffic.support import FAST

END = Step(1.0)


def with_check(stage, check, step=None):
    stage.begin(RolloutPlan((step or Step(0.1, hold_seconds=10), END), checks=(check,)))
    return stage.second()


def reports(*pairs, process="a"):
    return [HealthReport(process, number, {"1.0.0": old, "1.0.1": new}) for number, (old, new) in enumerate(pairs, 1)]


def gathered(rollout, *looks):
    for look in looks:
        evidence, requests = error_rate.gather(rollout, look)
        state = msgspec.structs.replace(rollout.state, requests=rollout.state.requests + requests)
        rollout = msgspec.structs.replace(rollout, evidence=evidence, state=state)
    return rollout


# --- error rates ---


def test_the_evidence_is_that_of_the_statistics(stage):
    check = ErrorRateCheck("errors", events=("errors",))
    rollout = gathered(with_check(stage, check), reports((answered(90, 2), answered(10, 3))))
    expected = ErrorRate.worse().observe(canary=10, baseline=90, bad_canary=3, bad_baseline=2)
    assert rollout.evidence.tests["errors"]["errors"] == expected
    assert rollout.evidence.counts["errors"] == (3, 10, 2, 90)


def test_a_window_waits_until_both_versions_were_asked(stage):
    """One request a second, a tenth of them for the new version: most seconds have one side only."""
    check = ErrorRateCheck("errors", events=("errors",))
    looks = [reports((answered(1), Counts())) for _ in range(9)] + [reports((Counts(), answered(1, 1)))]
    rollout = gathered(with_check(stage, check), *looks)
    expected = ErrorRate.worse().observe(canary=1, baseline=9, bad_canary=1, bad_baseline=0)
    assert rollout.evidence.tests["errors"]["errors"] == expected
    assert rollout.evidence.waiting == {}


def test_refused_requests_are_bad_and_shadows_are_compared_by_their_copies(stage):
    check = ErrorRateCheck("errors", events=("errors",))
    rollout = with_check(stage, check, Step(0.0, shadow=True))
    versions = {"1.0.0": answered(50), "1.0.1/shadow": Counts(requests=50, refused=20, latency={3: 30})}
    rollout = gathered(rollout, [HealthReport("a", 1, versions)])
    assert rollout.evidence.counts["errors"] == (20, 50, 0, 50)
    assert error_rate.measure(check, rollout).result is CheckResult.FAIL


@pytest.mark.parametrize("place", [20, 200])
def test_how_fast_copies_are_answered_decides_nothing(stage, place):
    """A copy waits behind everybody, and is answered alone: that is neither proof nor harm."""
    check = ErrorRateCheck("errors", margin=0.5)
    rollout = with_check(stage, check, Step(0.0, shadow=True, minimum_units=20))
    versions = {"1.0.0": answered(1000), "1.0.1/shadow": answered(500, place=place)}
    rollout = gathered(rollout, [HealthReport("a", 1, versions)], [HealthReport("a", 2, versions)])
    assert rollout.evidence.slow_above == LATENCY_BOUNDS[50]
    assert "slow" not in rollout.evidence.counts
    assert "slow" not in rollout.evidence.tests["errors"]
    assert "slow" not in rollout.evidence.proofs["errors"]
    assert error_rate.measure(check, rollout).result is CheckResult.PASS


def test_slow_is_what_the_old_version_is_one_time_in_a_hundred(stage):
    check = ErrorRateCheck("errors", events=("slow",))
    quick = {40: 990, 60: 10}
    first = reports((Counts(requests=1000, latency=quick), Counts(requests=10, latency={40: 10})))
    rollout = gathered(with_check(stage, check), first)
    assert rollout.evidence.slow_above is not None
    slow = reports((Counts(requests=100, latency={40: 99, 60: 1}), Counts(requests=20, latency={90: 20})))
    rollout = gathered(rollout, slow)
    measurement = error_rate.measure(check, rollout)
    assert measurement.result is CheckResult.FAIL
    assert "slower than the old version's p99" in measurement.reason


def test_what_the_old_version_did_before_the_new_one_was_asked_is_not_meanwhile(stage):
    plan = RolloutPlan((Step(0.0, hold_seconds=20, checks=()), Step(0.1, hold_seconds=10), END), checks=(ERRORS,))
    stage.slots["m:1.0.1"] = ("loading", "")
    stage.begin(plan)
    for _ in range(10):
        stage.second(old=100, new=0, old_bad=50)
    stage.slots["m:1.0.1"] = (READY, "")
    while stage.store.find("m").state.step < 1:
        stage.second(old=100, new=0, old_bad=50)
    rollout = stage.second(old=90, new=10)
    assert rollout.evidence.counts["errors"] == (0, 10, 0, 90)
    assert rollout.evidence.tests["errors"]["errors"].log_evidence == 0
    assert (
        "0 of 10 requests of 1.0.1 failed or were refused, and 0 of 90 of 1.0.0 meanwhile"
        in rollout.state.checks["errors"].last.reason
    )


def test_until_it_is_known_what_is_slow_nothing_passes(stage):
    check = ErrorRateCheck("errors")
    rollout = with_check(stage, check, Step(0.1, hold_seconds=10, minimum_units=20))
    rollout = gathered(rollout, reports((answered(50), answered(30, place=200))))
    assert rollout.evidence.slow_above is None
    found = error_rate.measure(check, rollout)
    assert (found.result, found.reason) == (
        CheckResult.NO_TRAFFIC,
        "what is slow is not known yet: 50 of 100 answers of 1.0.0 have come",
    )
    rollout = gathered(rollout, reports((answered(50), Counts())), reports((answered(50), answered(5))))
    assert rollout.evidence.slow_above is not None
    found = error_rate.measure(check, rollout)
    assert (found.result, found.reason) == (
        CheckResult.NO_TRAFFIC,
        "how slow it is was seen of 5 of 20 answers of 1.0.1, with 1.0.0 beside",
    )
    assert (
        error_rate.measure(check, gathered(rollout, reports((answered(50), answered(15))))).result is CheckResult.PASS
    )


def test_what_is_slow_is_known_from_before_the_rollout(stage):
    """Six answers a minute for an hour: only the minutes of the log have enough."""
    for _ in range(60):
        stage.clock.advance(60)
        at_us = int(stage.clock().timestamp() * 1e6)
        stage.health.write("a", at_us, {1: {"m": {"1.0.0": answered(6)}}, 60: {"m": {"1.0.0": answered(6)}}})
    stage.clock.advance(700)
    stage.health.prune()
    rollout = with_check(stage, ErrorRateCheck("errors"))
    assert rollout.evidence.slow_above == LATENCY_BOUNDS[50]
    slow = {"v0": answered(12), "v1": answered(8, place=200)}
    while rollout.active:
        stage.clock.advance(1)
        stage.serve(**slow)
        stage.follow()
        stage.controller.turn()
        rollout = stage.store.find("m")
    assert "slower than the old version's p99" in rollout.reason


def test_a_version_that_is_slow_from_the_first_request_does_not_pass(stage):
    """Nobody asked before, 18 answers a second of the old one and 12 of the new one: not known when it could go on."""
    plan = RolloutPlan((Step(0.4, minimum_units=20, hold_seconds=5), END), checks=(ErrorRateCheck("errors"),))
    stage.begin(plan)
    while (rollout := stage.store.find("m")).active:
        stage.clock.advance(1)
        stage.serve(v0=answered(18), v1=answered(12 if rollout.weight else 0, place=200))
        stage.follow()
        stage.controller.turn()
    assert rollout.status.value == "rolled_back"


def test_answers_beyond_the_last_bound_can_be_compared(stage):
    check = ErrorRateCheck("errors", events=("slow",))
    beyond = len(LATENCY_BOUNDS)
    rollout = gathered(with_check(stage, check), reports((answered(200, place=beyond), answered(20, place=beyond))))
    assert rollout.evidence.slow_above == LATENCY_BOUNDS[-1]


@pytest.mark.parametrize(
    ("event", "bad"),
    [
        ("unsafe", Counts(requests=30, unsafe=15, latency={50: 30})),
        ("unsafe", Counts(requests=30, unsafe=15, refused=30)),
        ("fallbacks", Counts(requests=30, fallbacks=15, latency={50: 15})),
    ],
)
def test_unsafe_answers_and_fallbacks_are_bad(stage, event, bad):
    check = ErrorRateCheck("errors", events=(event,))
    rollout = gathered(with_check(stage, check), reports((answered(270), bad)))
    assert error_rate.measure(check, rollout).result is CheckResult.FAIL


def test_unsafe_answers_that_are_refused_are_of_those_that_were_looked_at(stage):
    rollout = with_check(stage, ErrorRateCheck("errors", events=("unsafe",)))
    bad = Counts(requests=30, unsafe=20, refused=20, latency={50: 10})
    assert gathered(rollout, reports((answered(270), bad))).evidence.counts["unsafe"] == (20, 30, 0, 270)


FAILED = "0 of 30 requests of 1.0.1 failed or were refused, and 9 of 270 of 1.0.0 meanwhile"
UNSAFE = "1 of 30 requests of 1.0.1 were answered unsafely, and 0 of 261 of 1.0.0 meanwhile"


@pytest.mark.parametrize(
    ("events", "words"),
    [(("unsafe",), UNSAFE), (("errors",), FAILED), (("errors", "unsafe"), f"{FAILED}; {UNSAFE}")],
)
def test_the_words_are_about_the_events_that_are_checked(stage, events, words):
    check = ErrorRateCheck("errors", events=events)
    seen = reports((answered(270, 9), Counts(requests=30, unsafe=1, latency={50: 30})))
    measurement = error_rate.measure(check, gathered(with_check(stage, check), seen))
    assert measurement.reason == f"nothing speaks against it; {words}"


def test_nobody_asking_is_no_pass(stage):
    check = ErrorRateCheck("errors")
    assert error_rate.measure(check, with_check(stage, check)).result is CheckResult.NO_TRAFFIC


def test_where_it_has_to_be_shown_that_it_is_no_worse_it_takes_longer(stage):
    check = ErrorRateCheck("errors", events=("errors",), margin=1.0)
    rollout = with_check(stage, check)
    some = gathered(rollout, *[reports((answered(90, 1), answered(10)))] * 5)
    assert error_rate.measure(check, some).result is CheckResult.INCONCLUSIVE
    many = gathered(some, *[reports((answered(90, 1), answered(90, 1)))] * 60)
    assert error_rate.measure(check, many).result is CheckResult.PASS


def test_alpha_is_shared_by_the_events():
    for events in (("errors",), ("errors", "slow"), ("unsafe", "fallbacks", "slow", "errors")):
        check = ErrorRateCheck("errors", events=events, alpha=0.04)
        assert sum(error_rate.alphas(check).values()) == pytest.approx(0.04)


# --- thresholds ---


def threshold(**options):
    return ThresholdCheck("limit", **options)


@pytest.mark.parametrize(
    ("limits", "value", "result"),
    [
        ({"maximum": 1.0}, 1.0, CheckResult.PASS),
        ({"maximum": 1.0}, 1.1, CheckResult.FAIL),
        ({"minimum": 1.0}, 0.9, CheckResult.FAIL),
        ({"minimum": 1.0, "maximum": 2.0}, 1.5, CheckResult.PASS),
        ({"maximum": 1.0}, float("nan"), CheckResult.ERROR),
        ({"maximum": 1.0}, None, CheckResult.ERROR),
        ({"maximum": 1.0}, float("inf"), CheckResult.FAIL),
        ({"minimum": 1.0}, float("-inf"), CheckResult.FAIL),
    ],
)
def test_a_number_within_its_limits(limits, value, result):
    assert judge(threshold(series="error_rate", **limits), value, "it").result is result


def test_a_threshold_reads_the_windows_of_the_new_version(stage):
    check = threshold(series="error_rate", maximum=0.05, window_seconds=30)
    rollout = with_check(stage, check)
    measurer = stage.controller._measurer
    assert measurer.measure(check, rollout, stage.clock()).result is CheckResult.NO_TRAFFIC
    stage.ask(old=90, new=10, old_bad=90)
    assert measurer.measure(check, rollout, stage.clock()).result is CheckResult.PASS
    stage.clock.advance(1)
    stage.ask(old=90, new=10, new_bad=5)
    assert measurer.measure(check, rollout, stage.clock()).result is CheckResult.FAIL


class Prometheus:
    """Answers what a test says."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def read(self, query):
        self.asked.append(query)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (Reading(Outcome.VALUE, 0.5, 1), CheckResult.PASS),
        (Reading(Outcome.VALUE, 1.5, 1), CheckResult.FAIL),
        (Reading(Outcome.EMPTY, None, 0), CheckResult.ERROR),
        (Reading(Outcome.SEVERAL, None, 2), CheckResult.ERROR),
        (Reading(Outcome.STALE, None, 1), CheckResult.ERROR),
        (Reading(Outcome.NOT_A_NUMBER, None, 1), CheckResult.ERROR),
        (PrometheusUnavailableError(problem="gone"), CheckResult.ERROR),
    ],
)
def test_a_query_that_has_no_number_for_an_answer_is_an_error_and_no_failure(stage, answer, result):
    check = threshold(query='errors{model="{model}", version="{version}", rollout="{rollout}"}', maximum=1)
    rollout = with_check(stage, check)
    prometheus = Prometheus(answer)
    measurer = Measurer(stage.database, stage.health, open_store(stage.registry), prometheus)
    assert measurer.measure(check, rollout, stage.clock()).result is result
    assert prometheus.asked == ['errors{model="m", version="1.0.1", rollout="m-1"}']


def test_without_prometheus_a_query_is_an_error(stage):
    check = threshold(query="up", maximum=1)
    measurement = stage.controller._measurer.measure(check, with_check(stage, check), stage.clock())
    assert measurement.result is CheckResult.ERROR
    assert "CROSSFADE_TELEMETRY__PROMETHEUS_URL" in measurement.reason


# --- the others ---


def test_an_experiment_has_to_have_shipped_the_version(stage):
    from crossfade.experiments.judging import Judge
    from crossfade.traffic.fleet import Fleet
    from crossfade.traffic.switch import AliasSwitch

    check = ExperimentCheck("trial", "late")
    experiments = open_store(stage.registry)
    experiments.create(plan(model=""))
    rollout = with_check(stage, check)
    measurer = stage.controller._measurer
    gone = ExperimentCheck("trial", "gone")
    assert measurer.measure(gone, rollout, stage.clock()).result is CheckResult.ERROR
    experiments.start("late")
    assert measurer.measure(check, rollout, stage.clock()).result is CheckResult.PENDING
    switch = AliasSwitch(stage.registry, Fleet(stage.database, FAST), FAST)
    Judge(experiments, stage.database, switch).decide("late", DecideRequest("keep"))
    assert measurer.measure(check, rollout, stage.clock()).result is CheckResult.FAIL


def test_an_experiment_that_is_stopped_without_a_decision_waits_for_a_person(stage):
    check = ExperimentCheck("trial", "late", interval_seconds=1)
    experiments = open_store(stage.registry)
    experiments.create(plan(model=""))
    experiments.start("late")
    with_check(stage, check)
    experiments.stop("late", reason="too slow")
    paused = stage.reach("paused", seconds=5)
    assert "experiment `late` was stopped without a decision" in paused.reason
    stage.store.abort("m")
    with pytest.raises(InvalidPlanError, match="waits for the experiment `late`, which was stopped without a decision"):
        with_check(stage, check)


class Webhooks:
    """A service that answers what a test says."""

    def __init__(self, answer):
        self.answer = answer
        self.heard = []

    def ask(self, url, event):
        self.heard.append((url, event))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ({"result": "pass"}, CheckResult.PASS),
        ({"result": "fail", "reason": "no"}, CheckResult.FAIL),
        ({"result": "inconclusive"}, CheckResult.INCONCLUSIVE),
        ({"result": "maybe"}, CheckResult.ERROR),
        ({"result": ["pass"]}, CheckResult.ERROR),
        ({}, CheckResult.ERROR),
        (NotificationFailedError(channel="x", problem="gone"), CheckResult.ERROR),
        (RuntimeError("a bug"), CheckResult.ERROR),
    ],
)
def test_somebody_elses_service_may_agree(stage, answer, result):
    check = WebhookCheck("gate", "https://example.com/gate")
    rollout = with_check(stage, check)
    webhooks = Webhooks(answer)
    measurer = Measurer(stage.database, stage.health, open_store(stage.registry), None, webhooks)
    assert measurer.measure(check, rollout, stage.clock()).result is result
    ((url, event),) = webhooks.heard
    assert (url, event["candidate"], event["event"]) == ("https://example.com/gate", "1.0.1", "check.gate")


def test_whatever_the_words_of_a_failing_check_are_the_version_goes_back(any_registry, clock):
    """PostgreSQL keeps no NUL, and nobody keeps half of a surrogate pair: what cannot be written keeps its traffic."""
    stage = Stage(any_registry, clock)
    webhooks = Webhooks({"result": "fail", "reason": "bad\0 thing\n\ud800\x1b[2J"})
    stage.controller = stage.new_controller(webhooks=webhooks, questions=Questions(5.0))
    with_check(stage, WebhookCheck("gate", "https://example.com/gate"))
    back = stage.reach("rolled_back", seconds=10)
    assert "check `gate` failed: bad  thing   [2J" in back.reason
    assert stage.store.history("m")[-1].reason == back.reason


def test_without_a_secret_no_service_is_asked(stage):
    check = WebhookCheck("gate", "https://example.com/gate")
    measurement = stage.controller._measurer.measure(check, with_check(stage, check), stage.clock())
    assert measurement.result is CheckResult.ERROR


# --- metrics of the ledger ---

LATE = MetricSpec("late", kind="proportion", direction="down", margin=0.5, missing="skip")


def test_a_metric_without_units_is_no_traffic(stage):
    check = MetricCheck("late", LATE)
    measurement = stage.controller._measurer.measure(check, with_check(stage, check), stage.clock())
    assert measurement.result is CheckResult.NO_TRAFFIC
