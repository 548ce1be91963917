"""What keeps data from being trusted."""

import inspect
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from crossfade.experiments import health as of_arrivals
from crossfade.experiments import reported
from crossfade.experiments.health import health
from crossfade.experiments.report import HealthProblem
from crossfade.ledger.evidence import Arrival, Evidence
from tests.experiments.support import after, arrivals, day, question

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "analysis.md"

EVEN = {"control": 0.5, "treatment": 0.5}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def us(moment):
    return (moment - EPOCH) // timedelta(microseconds=1)


def examine(came=None, *, now=None, asked=None, **more):
    came = arrivals({"control": 500, "treatment": 500}, EVEN) if came is None else came
    found = Evidence("late", (), tuple(came), **({"last_us": us(after(1))} | more))
    return health(found, asked or question("latency_seconds"), now or after(1))


def codes(found):
    return [problem.code for problem in found.problems]


def test_all_is_well():
    found = examine()
    assert found.problems == ()
    assert found.total == 1000
    assert dict(found.units) == {"control": 500, "treatment": 500}
    assert dict(found.expected) == {"control": 500.0, "treatment": 500.0}
    assert found.sample_ratio_p == 1.0
    assert found.multiple_share == 0.0


def test_no_units_block_and_may_come():
    found = examine(())
    assert codes(found) == ["no_data"]
    assert found.problems[0].blocks
    assert found.problems[0].waits
    assert found.sample_ratio_p is None


def test_a_mismatch_blocks_and_does_not_pass_by_itself():
    found = examine(arrivals({"control": 5600, "treatment": 4400}, EVEN, days=4))
    (problem,) = found.blocking
    assert problem.code == "sample_ratio"
    assert not problem.waits
    assert "`control` 5,600" in problem.words
    assert found.sequential_sample_ratio_p < 0.001


def test_a_mismatch_is_seen_through_a_change_of_weights():
    """Together the revisions look as they should; each of them is wrong."""
    came = [
        *arrivals({"control": 800, "treatment": 1200}, EVEN, revision=1),
        *arrivals({"control": 1200, "treatment": 800}, EVEN, revision=2, first_day=1),
    ]
    found = examine(came)
    assert dict(found.units) == dict(found.expected)
    assert found.sample_ratio_p < 1e-10
    assert found.sequential_sample_ratio_p < 0.001


def test_a_change_of_weights_is_no_mismatch():
    came = [
        *arrivals({"control": 1800, "treatment": 200}, {"control": 0.9, "treatment": 0.1}, revision=1, days=3),
        *arrivals({"control": 1000, "treatment": 1000}, EVEN, revision=2, first_day=3, days=3),
    ]
    found = examine(came)
    assert codes(found) == []
    assert dict(found.expected) == {"control": pytest.approx(2800), "treatment": pytest.approx(1200)}


def test_a_variant_that_got_nobody_is_a_mismatch_although_nothing_arrived_to_say_its_weight():
    found = examine(arrivals({"control": 100}, {"control": 0.5}))
    assert codes(found.__class__(found.blocking, *(None,) * 6)) == ["sample_ratio"]
    assert found.sample_ratio_p < 1e-10


def test_a_shadow_gets_no_units_and_that_is_right():
    asked = question("m", variants=("champion", "challenger"), shadows=("challenger",))
    found = examine(arrivals({"champion": 400}, {"champion": 1.0}), asked=asked)
    assert codes(found) == []
    assert dict(found.units) == {"champion": 400, "challenger": 0}


def test_one_variant_has_no_ratio():
    found = examine(arrivals({"control": 9}, {"control": 1.0}), asked=question("m", variants=("control",)))
    assert (found.sample_ratio_p, found.sequential_sample_ratio_p) == (None, None)


def test_fewest_units_raise_no_alarm():
    assert codes(examine(arrivals({"control": 9, "treatment": 2}, EVEN))) == []


@pytest.mark.parametrize(("multiple", "blocks"), [(1, False), (10, False), (11, True), (10_000, True)])
def test_units_seen_in_several_variants_block_above_one_percent(multiple, blocks):
    found = examine(multiple=multiple)
    assert codes(found) == ["multiple_exposures"]
    assert bool(found.blocking) == blocks
    assert found.multiple_share == pytest.approx(multiple / (1000 + multiple))


def test_missing_events_block():
    found = examine(incomplete=("the journal of host-3 ends early",), awaited=("partition 7 is away",))
    assert codes(found) == ["incomplete", "awaited"]
    assert [problem.waits for problem in found.problems] == [False, True]
    assert all(problem.blocks for problem in found.problems)
    assert "host-3" in found.problems[0].words


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"orphans": 60, "outcomes": 940}, "orphans"),
        ({"early": 60, "outcomes": 940}, "early_outcomes"),
        ({"refused": (("not finite", 3), ("unknown name", 1))}, "refused_events"),
        ({"refused": (("conflicting_id", 3),)}, "conflicting_ids"),
    ],
)
def test_events_that_count_for_nothing_are_told_and_block_nothing(fields, code):
    found = examine(**fields)
    assert codes(found) == [code]
    assert found.blocking == ()


def test_a_single_outcome_of_a_decision_that_nobody_knows_is_told_to_no_experiment():
    assert codes(examine(orphans=1, unplaced=1)) == []
    assert codes(examine(orphans=2, unplaced=1)) == ["orphans"]
    (problem,) = examine(orphans=70, unplaced=60, outcomes=30).problems
    assert problem.words.startswith("70 outcomes belong to no exposure that is known (70%); 60 of them")
    assert "another experiment" in problem.words


@pytest.mark.parametrize("fields", [{"orphans": 40, "outcomes": 960}, {"early": 40, "outcomes": 960}, {"orphans": 0}])
def test_a_few_of_them_are_usual(fields):
    assert codes(examine(**fields)) == []


def test_old_data_block_while_the_experiment_runs():
    found = examine(now=after(3))
    assert codes(found) == ["stale"]
    assert found.problems[0].blocks
    assert found.problems[0].waits
    assert "48 hours" in found.problems[0].words
    assert codes(examine(now=after(2))) == []


def test_old_data_are_as_they_should_be_after_the_end():
    assert codes(examine(now=after(300), asked=question("latency_seconds", ends_at=after(1.5)))) == []
    assert codes(examine(now=after(300), asked=question("latency_seconds", ends_at=after(9)))) == ["stale"]


def test_variants_that_nobody_named_are_left_out_and_told():
    came = [*arrivals({"control": 50, "treatment": 50}, EVEN), Arrival(1, "ghost", day(0), 10, 0.0)]
    came += [Arrival(1, f"ghost{number}", day(0), 1, 0.0) for number in range(5)]
    found = examine(came)
    assert codes(found) == ["unknown_variants"]
    assert found.total == 100
    assert "and others" in found.problems[0].words


def test_what_blocks_comes_first():
    found = examine(multiple=1, refused=(("not finite", 1),), incomplete=("x",), now=after(9))
    assert [problem.blocks for problem in found.problems] == [True, True, False, False]


def test_units_that_a_change_of_weights_moved_on_did_arrive():
    """Those that come back leave the variant that shrank, and no other: that is no mismatch of arrivals."""
    came = [
        Arrival(1, "control", day(0), 300, 0.5),
        Arrival(1, "treatment", day(0), 120, 0.5, moved=180),
        Arrival(2, "control", day(1), 480, 0.8),
        Arrival(2, "treatment", day(1), 120, 0.2),
    ]
    found = examine(came, multiple=180)
    assert codes(found) == ["multiple_exposures"]
    assert "moves units that come back out of variants that shrink" in found.problems[0].words
    assert (dict(found.units)["treatment"], dict(found.arrived)["treatment"]) == (240, 420)
    assert dict(found.expected) == {"control": pytest.approx(780), "treatment": pytest.approx(420)}


def test_a_variant_that_is_gone_had_its_part_of_the_units():
    """Its weight is not that of a variant that came later."""
    came = [
        Arrival(1, "control", day(0), 500, 0.5),
        Arrival(1, "gone", day(0), 500, 0.5),
        Arrival(2, "control", day(1), 500, 0.5),
        Arrival(2, "treatment", day(1), 500, 0.5),
    ]
    found = examine(came)
    assert codes(found) == ["unknown_variants"]
    assert dict(found.expected) == {"control": pytest.approx(1000), "treatment": pytest.approx(500)}


def bandit(random, revisions, per_revision, *, tilt=0.0):
    """Weights that wander, a few units for each of them."""
    came = []
    for revision in range(revisions):
        share = float(np.clip(0.5 + 0.4 * np.sin(revision / 20) + random.normal() * 0.01, 0.05, 0.95))
        got = int(random.binomial(per_revision, share + tilt))
        for variant, count, weight in (("control", per_revision - got, 1 - share), ("treatment", got, share)):
            if count:
                came.append(Arrival(revision, variant, day(revision // 100), count, weight))
    return came


def test_the_ratio_of_a_bandit_is_tested_over_weights_that_are_nearly_the_same():
    asked = question("latency_seconds", adaptive=True)
    random = np.random.default_rng(3)
    for seed in range(20):
        assert codes(examine(bandit(np.random.default_rng(seed), 300, 6), asked=asked)) == []
    found = examine(bandit(random, 600, 20, tilt=0.04), asked=asked)
    assert codes(found) == ["sample_ratio"]


def test_a_variant_that_nobody_got_in_a_few_revisions_is_no_mismatch():
    weights = {"control": 0.9, "treatment": 0.1}
    came = [
        *arrivals({"control": 9, "treatment": 1}, weights, revision=1),
        *arrivals({"control": 8}, weights, revision=2),
    ]
    found = examine(came)
    assert codes(found) == []
    assert dict(found.expected) == {"control": pytest.approx(16.2), "treatment": pytest.approx(1.8)}


def test_every_problem_is_explained_with_what_to_do():
    source = "".join(Path(module.__file__).read_text() for module in (of_arrivals, reported))
    found = re.findall(r'HealthProblem\(\s*"(\w+)",', source)
    explained = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(explained) == sorted(set(found))
    assert set(re.findall(r"`(\w+)`", inspect.getdoc(HealthProblem).partition("words:")[0])) == set(found)
