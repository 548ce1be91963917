"""Metrics that are not reported, or not of all variants alike, look like effects: who decides by them is told."""

import numpy as np
import pytest

from crossfade.experiments.analysis import analyze
from crossfade.experiments.analysis_spec import AnalysisSpec, DecisionSpec
from crossfade.experiments.health import health
from crossfade.ledger.evidence import Evidence
from crossfade.ledger.metrics import MetricSpec
from tests.experiments.support import after, arrivals, cells, evidence, question

EVEN = {"control": 0.5, "treatment": 0.5}
AT_ONCE = DecisionSpec(minimum_runtime_seconds=0.0)
BOUGHT = MetricSpec("bought", kind="proportion")
NOTHING = np.zeros(1000)


@pytest.fixture
def random():
    return np.random.default_rng(7)


@pytest.fixture
def bought(random):
    return lambda rate, units=1000: random.binomial(1, rate, units).astype(float)


def problems(found, *metrics, **asked):
    """What is wrong with the reports of metrics."""
    checked = health(found, question(*metrics, decision=AT_ONCE, **asked), after(1))
    return [(problem.code, problem.metric) for problem in checked.blocking]


def codes(rows, *metrics):
    """What is wrong, from rows of units."""
    return problems(evidence(rows), *metrics)


def skipping(known, units=1000, **asked):
    """What is wrong when so many of the units have a value, and the others are skipped."""
    came = arrivals({"control": units, "treatment": units}, EVEN)
    found = cells("bought", {name: np.arange(count) % 2 for name, count in known.items()})
    last = int(after(1).timestamp() * 1e6)
    return problems(Evidence("late", tuple(found), tuple(came), last_us=last), SKIP, **asked)


SKIP = MetricSpec("bought", missing="skip")


@pytest.mark.parametrize(
    "metric",
    [
        BOUGHT,
        MetricSpec("bought"),
        MetricSpec("bought", kind="count"),
        MetricSpec("bought", role="guardrail", margin=0.1, direction="down"),
    ],
)
def test_what_nobody_reports_decides_nothing(metric, bought):
    assert codes({"bought": {"control": NOTHING, "treatment": NOTHING}}, metric) == [("unreported", "bought")]
    assert codes({"bought": {"control": bought(0.2), "treatment": bought(0.1)}}, metric) == []


@pytest.mark.parametrize("silent", ["control", "treatment"])
@pytest.mark.parametrize("metric", [BOUGHT, MetricSpec("bought")])
def test_what_one_variant_does_not_report_is_no_effect(metric, silent, bought):
    rows = {name: NOTHING if name == silent else bought(0.3) for name in EVEN}
    assert codes({"bought": rows}, metric) == [("unreported", "bought")]
    found = analyze(evidence({"bought": rows}), question(metric, decision=AT_ONCE), after(1))
    assert found.decision.action == "continue"
    assert f"`{silent}` has no `bought`" in found.decision.reason


def test_what_is_rare_may_be_missing_by_chance():
    few = (np.arange(1000) < 3).astype(float)
    assert codes({"bought": {"control": few, "treatment": NOTHING}}, BOUGHT) == []
    many = (np.arange(1000) < 30).astype(float)
    assert codes({"bought": {"control": many, "treatment": NOTHING}}, BOUGHT) == [("unreported", "bought")]


def test_a_guardrail_that_nobody_reports_is_not_spotless(bought):
    rows = {"bought": {"control": bought(0.2), "treatment": bought(0.5)}}
    rows["returned"] = {"control": NOTHING, "treatment": NOTHING}
    guarded = question(BOUGHT, MetricSpec("returned", role="guardrail", direction="down"), decision=AT_ONCE)
    found = analyze(evidence(rows), guarded, after(1))
    assert (found.decision.action, found.decision.blocked_by) == ("continue", ("unreported",))
    assert analyze(evidence(rows), question(BOUGHT, decision=AT_ONCE), after(1)).decision.action == "ship"


def test_what_serving_measures_may_be_zero():
    error = MetricSpec("error", kind="proportion", role="guardrail", direction="down")
    assert codes({"error": {"control": NOTHING, "treatment": NOTHING}}, error) == []


def test_what_only_is_looked_at_blocks_nothing():
    assert codes({"x": {"control": NOTHING, "treatment": NOTHING}}, MetricSpec("x", role="secondary")) == []


def test_before_there_are_enough_units_nothing_is_missed():
    few = np.zeros(50)
    assert codes({"bought": {"control": few, "treatment": few}}, BOUGHT) == []


def test_a_ratio_is_reported_when_its_denominator_is():
    rows = np.stack([NOTHING, NOTHING + 1], axis=1)
    parts = {"control": rows, "treatment": rows}
    asked = MetricSpec("bought", kind="ratio")
    assert codes({"bought": parts}, asked) == []
    assert codes({"bought": parts}, MetricSpec("bought", kind="ratio", denominator="exposures")) == [
        ("unreported", "bought")
    ]


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"control": 900, "treatment": 900}, []),
        ({"control": 900, "treatment": 870}, []),
        ({"control": 900, "treatment": 500}, [("unequal_reports", "bought")]),
        ({"control": 900}, [("unequal_reports", "bought")]),
        ({}, [("unreported", "bought")]),
    ],
)
def test_units_that_are_skipped_are_skipped_in_all_variants_alike(known, expected):
    assert skipping(known) == expected


def test_with_weights_that_change_units_differ_in_age_and_so_in_what_is_known_of_them():
    assert skipping({"control": 900, "treatment": 500}, adaptive=True) == []


def test_alarms_are_rare_though_one_looks_often(random):
    alarms = 0
    for _ in range(300):
        known = random.random((2, 2000)) < 0.3
        for units in range(200, 2001, 200):
            counts = dict(zip(EVEN, known[:, :units].sum(axis=1).tolist(), strict=True))
            alarms += skipping(counts, units) != []
    assert alarms == 0


def test_at_the_end_a_person_looks(bought):
    rows = {"bought": {"control": NOTHING, "treatment": bought(0.3)}}
    asked = question(BOUGHT, decision=AT_ONCE, analysis=AnalysisSpec(planned_seconds=3600.0))
    assert analyze(evidence(rows), asked, after(1)).decision.action == "review"
