"""How a rollout decides who answers a request."""

import pytest

from crossfade.core.clock import utc_now
from crossfade.traffic.allocation.allocation import Allocation
from crossfade.traffic.allocation.decisions import Reason
from crossfade.traffic.allocation.specs import AllocationSpec, VariantSpec
from crossfade.traffic.routing import Asker, ExperimentRoute, Router, Traffic

VERSIONS = {"stable": "1.0.0", "candidate": "1.1.0"}
UNITS = [f"unit-{number}" for number in range(4000)]


def route(weight, **options):
    variants = (VariantSpec("stable", 1 - weight), VariantSpec("candidate", weight))
    allocation = Allocation.create(AllocationSpec("churn-1", variants))
    return ExperimentRoute(allocation, model="churn", versions=VERSIONS, **options)


def router(*routes, process="", experiments=()):
    return Router(Traffic(experiments=experiments, rollouts=routes), utc_now(), process=process)


def share(made, askers):
    versions = [made.route("churn", asker).version for asker in askers]
    return versions.count("1.1.0") / len(versions)


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.5, 1.0])
def test_units_get_the_new_version_by_its_weight(weight):
    made = router(route(weight))
    assert share(made, [Asker(unit) for unit in UNITS]) == pytest.approx(weight, abs=0.03)


def test_a_unit_keeps_its_version():
    made = router(route(0.5))
    for unit in UNITS[:100]:
        assert len({made.route("churn", Asker(unit, request_id=str(again))).version for again in range(5)}) == 1


@pytest.mark.parametrize("unit", [None, "", "a\0b", "x" * 10_000])
def test_whoever_names_no_unit_is_drawn_by_the_request(unit):
    made = router(route(0.5))
    assert share(made, [Asker(unit, request_id=name) for name in UNITS]) == pytest.approx(0.5, abs=0.03)
    first, again = (made.route("churn", Asker(unit, request_id="request-1")).version for _ in range(2))
    assert first == again


def test_whoever_names_nothing_is_drawn_anew_each_time():
    made = router(route(0.5))
    assert share(made, [Asker()] * 2000) == pytest.approx(0.5, abs=0.05)


def test_growing_takes_no_unit_back():
    allocation, seen = route(0.0).allocation, set()
    for weight in (0.01, 0.05, 0.2, 0.5, 1.0):
        allocation = allocation.revise({"stable": 1 - weight, "candidate": weight})
        made = router(ExperimentRoute(allocation, model="churn", versions=VERSIONS))
        now = {unit for unit in UNITS if made.route("churn", Asker(unit)).version == "1.1.0"}
        assert seen <= now
        seen = now
    assert seen == set(UNITS)


def test_process_by_process_everybody_in_one_gets_the_same():
    made = {name: router(route(0.5, processes=("a", "b")), process=name) for name in "abc"}
    assert [share(made[name], [Asker(unit) for unit in UNITS[:50]]) for name in "abc"] == [1.0, 1.0, 0.0]
    decision = made["a"].route("churn", Asker("x")).decision
    assert (decision.variant, decision.reason, decision.enrolled) == ("candidate", Reason.SPLIT, True)
    assert decision.propensity == pytest.approx(0.5)


def test_everybody_takes_part_so_that_exposures_count():
    for weight in (0.0, 0.5, 1.0):
        assert router(route(weight)).route("churn", Asker("x")).decision.enrolled


def test_a_rollout_decides_alone():
    both = (VariantSpec("stable", 0.5), VariantSpec("candidate", 0.5))
    other = ExperimentRoute(Allocation.create(AllocationSpec("late", both)), model="churn", versions=VERSIONS)
    made = router(route(0.0), experiments=(other,))
    assert {made.route("churn", Asker(unit)).decision.experiment for unit in UNITS[:100]} == {"churn-1"}
    assert made.decide("late", "x").experiment == "late", "as a flag the experiment goes on"


def test_rollouts_are_no_flags():
    made = router(route(0.5))
    assert made.experiments == {}
    assert made.decide_all("x") == []
    assert set(made.models) == {"churn"}
