"""What is stored of a rollout, what people are shown, and what serving has to know."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.ledger.metrics import Measures, MetricSpec
from crossfade.releases.checks.error_rate import gather
from crossfade.releases.checks.units import units_of
from crossfade.releases.rollout import CANDIDATE, STABLE, Rollout, first_route, next_route
from crossfade.storage.tables import arrivals
from crossfade.traffic.health import HealthReport
from tests.releases.life import answered
from tests.releases.test_policy import rollout as under_way

NOTHING = Measures("r", STABLE, ())
LATER = 2**52
"""After everything that was reported before."""


def test_it_is_what_it_was_after_json(stage):
    rollout = stage.begin()
    assert msgspec.json.decode(msgspec.json.encode(rollout), type=Rollout) == rollout


def test_people_are_not_shown_the_inner_state_of_tests(stage):
    stage.begin()
    stage.reach("progressing")
    rollout = stage.second(old=90, new=10, old_bad=1)
    assert rollout.evidence.tests
    shown = rollout.shown()
    assert (shown.evidence.tests, shown.evidence.proofs) == ({}, {})
    assert shown.evidence.counts == rollout.evidence.counts
    assert len(msgspec.json.encode(shown)) < 5000


def test_at_first_everybody_gets_the_old_version(stage):
    route = first_route(stage.begin(), NOTHING)
    assert {variant.name: variant.weight for variant in route.allocation.spec.variants} == {STABLE: 1, CANDIDATE: 0}
    assert (route.model, route.versions) == ("m", {STABLE: "1.0.0", CANDIDATE: "1.0.1"})
    assert route.shadows == ()


def test_requests_are_written_down_only_where_something_reads_that(stage):
    measured = Measures("r", STABLE, (MetricSpec("late"),))
    model = stage.begin()
    config = msgspec.structs.replace(model, kind="config")
    recorded = [first_route(of, what).recorded for of in (model, config) for what in (NOTHING, measured)]
    assert recorded == [False, True, True, True]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6).map(sorted))
def test_slots_move_one_way_while_the_weight_grows(weights):
    route, before = first_route(under_way(), NOTHING), set()
    for weight in weights:
        route = next_route(route, weight)
        table = route.allocation.owners.table()
        place = list(route.allocation.owners.names).index(CANDIDATE) if weight > 1e-4 else -1
        now = {slot for slot, owner in enumerate(table) if owner == place}
        assert before <= now
        before = now


@pytest.mark.parametrize(("shadow", "processes"), [(True, ()), (False, ("a",))])
def test_shadows_and_processes_last_for_one_step(stage, shadow, processes):
    route = next_route(first_route(stage.begin(), NOTHING), 0.0, shadow=shadow, processes=processes)
    assert (bool(route.shadows), route.processes) == (shadow, processes)
    after = next_route(route, 0.5)
    assert (after.shadows, after.processes) == ((), ())


def test_counts_add_up_over_looks_whatever_they_are_divided_into(stage):
    stage.begin()
    rollout = stage.reach("progressing")
    versions = [{"1.0.0": answered(90, 3), "1.0.1": answered(10, number % 3)} for number in range(9)]
    reports = [HealthReport("a", at, found) for at, found in enumerate(versions, LATER)]
    at_once, _ = gather(rollout, reports)
    one_by_one = rollout
    for report in reports:
        evidence, _ = gather(one_by_one, [report])
        one_by_one = msgspec.structs.replace(one_by_one, evidence=evidence)
    assert at_once.counts["errors"] == one_by_one.evidence.counts["errors"]
    assert at_once.cursors == one_by_one.evidence.cursors == {"a": LATER + 8}


def test_units_of_both_sides_are_added_up_over_revisions_and_days(stage):
    rows = [("m-1", 1, STABLE, 5), ("m-1", 2, STABLE, 7), ("m-1", 2, CANDIDATE, 2), ("m-2", 1, CANDIDATE, 99)]
    with stage.database.write() as connection:
        for experiment, revision, variant, units in rows:
            values = {"experiment": experiment, "revision": revision, "variant": variant, "units": units}
            connection.execute(arrivals.insert().values(**values, day="2026-01-31", weight=0.5))
    assert units_of(stage.database, "m-1") == (2, 12)
    assert units_of(stage.database, "nothing") == (0, 0)
