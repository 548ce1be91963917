"""Decisions: who gets what and why, the same everywhere, with a fallback for whatever a request lacks."""

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from threading import Thread

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from crossfade.errors import ExperimentNotFoundError
from crossfade.traffic.allocation.allocations import Allocations
from crossfade.traffic.allocation.assignment import Assigner
from crossfade.traffic.allocation.decisions import Reason, Tally
from crossfade.traffic.allocation.hashing import seed_of, slot_of
from crossfade.traffic.allocation.segments import Segment
from crossfade.traffic.allocation.specs import AllocationSpec, LayerSpec, RampStep, VariantSpec
from tests.traffic.allocation.support import NOW, UNITS, assigner, spec, variants

DE = Segment({"country": "DE"})
HOUR = timedelta(hours=1)


def reasons(decide, units=UNITS):
    return Counter(decide(unit).reason for unit in units)


# ------------------------------------------------------------------------------------------------------------- the draw


def test_a_decision_says_who_why_and_how_probable():
    decision = assigner(spec(coverage=0.5)).decide("late", "unit-1")
    assert decision == assigner(spec(coverage=0.5)).decide("late", "unit-1")
    enrolled = next(d for d in (assigner(spec(coverage=0.5)).decide("late", u) for u in UNITS) if d.enrolled)
    assert (enrolled.experiment, enrolled.reason, enrolled.propensity, enrolled.revision) == ("late", "split", 0.5, 1)
    assert enrolled.words == f"the unit is among the 25.0000% that get `{enrolled.variant}`"


def test_units_follow_their_slots():
    decider = assigner(spec(weights={"a": 0.25, "b": 0.75}, salt="exp1"))
    seed = seed_of("exp1")
    for unit in UNITS[:500]:
        assert decider.decide("late", unit).variant == ("a" if slot_of(unit, seed) < 4096 else "b")


def test_weights_and_coverage_are_met():
    found = Counter(
        (d.variant, d.reason)
        for d in map(assigner(spec(weights={"a": 0.2, "b": 0.8}, coverage=0.5)).experiments["late"], UNITS)
    )
    expected = {("a", "split"): 0.1, ("b", "split"): 0.4, ("a", "not_covered"): 0.5}
    for key, share in expected.items():
        assert found[key] == pytest.approx(share * len(UNITS), abs=4 * (len(UNITS) * share * (1 - share)) ** 0.5)


def test_propensities_are_frequencies():
    decider = assigner(spec(weights={"a": 1 / 3, "b": 2 / 3}, coverage=0.3))
    decisions = [d for d in map(decider.experiments["late"], UNITS) if d.enrolled]
    observed = Counter(d.variant for d in decisions)
    expected = [len(decisions) * next(d.propensity for d in decisions if d.variant == name) for name in "ab"]
    assert stats.chisquare([observed["a"], observed["b"]], expected).pvalue > 1e-3


def test_one_variant_for_everybody_is_static_and_needs_no_unit():
    decision = assigner(spec(weights={"only": 1.0})).decide("late", None)
    assert (decision.variant, decision.reason, decision.enrolled, decision.propensity) == ("only", "static", True, 1.0)


def test_one_variant_for_a_segment_is_a_targeting_match():
    decider = assigner(spec(weights={"new": 1.0, "old": 0.0}, segment=DE, fallback="old"))
    inside, outside = (decider.decide("late", "u", {"country": country}) for country in ("DE", "FR"))
    assert (inside.variant, inside.reason, inside.enrolled) == ("new", Reason.TARGETING_MATCH, True)
    assert (outside.variant, outside.reason, outside.enrolled) == ("old", Reason.NOT_TARGETED, False)


def test_nobody_takes_part_at_no_coverage():
    assert reasons(assigner(spec(coverage=0.0)).experiments["late"]) == {Reason.NOT_COVERED: len(UNITS)}


def test_an_unknown_experiment_is_refused_with_a_suggestion():
    with pytest.raises(ExperimentNotFoundError) as refused:
        assigner(spec()).decide("lat", "u")
    assert "did you mean `late`?" in refused.value.hint


# ------------------------------------------------------------------------------------------------ what a request lacks


@pytest.mark.parametrize("unit", [None, "", "\ud800", 5, b"x", [], {}])
@pytest.mark.parametrize("fields", [{}, {"overrides": {"me": "treatment"}}, {"segment": DE}])
def test_without_a_unit_there_is_the_fallback_counted(unit, fields):
    tally = Tally()
    decide = assigner(spec(fallback="treatment", **fields), tally=tally).experiments["late"]
    if fields.get("overrides") and isinstance(unit, (list, dict)):
        return  # no JSON string: the type of the argument says so
    decision = decide(unit, {"country": "DE"}, None)
    assert (decision.variant, decision.reason, decision.enrolled) == ("treatment", Reason.MISSING_UNIT, False)
    assert tally.counts() == {("late", Reason.MISSING_UNIT): 1}


def test_without_a_context_there_is_the_fallback_counted():
    decider = assigner(spec(segment=DE))
    assert decider.decide("late", "u").reason == Reason.MISSING_CONTEXT
    assert decider.decide("late", "u", {}).reason == Reason.NOT_TARGETED
    assert decider.tally.counts() == {("late", Reason.MISSING_CONTEXT): 1}


def test_a_context_that_cannot_be_compared_is_an_error_counted():
    decider = assigner(spec(segment=Segment({"x": {"$gt": 1}, "y": {"$eq": [1]}})))
    hostile = {"x": 5, "y": [np.zeros(3)]}
    assert decider.decide("late", "u", hostile).reason == Reason.ERROR
    assert decider.tally.counts() == {("late", Reason.ERROR): 1}


def test_counts_outlive_what_was_compiled():
    tally = Tally()
    for _ in range(3):
        assigner(spec(), tally=tally).decide("late", None)
    assert tally.counts() == {("late", Reason.MISSING_UNIT): 3}


# -------------------------------------------------------------------------------------------------- units and requests


def test_the_unit_belongs_to_the_layer():
    decider = assigner(spec(layer="web", overrides={"s-9": "treatment"}), layers=[LayerSpec("web", unit="session")])
    by_session = {n: decider.decide("late", "anybody", {"session": f"s-{n}"}) for n in range(20)}
    assert {n: decider.decide("late", None, {"session": f"s-{n}"}) for n in range(20)} == by_session
    assert by_session[9].reason == Reason.OVERRIDE
    missing = decider.decide("late", "somebody", {})
    assert (missing.reason, missing.words) == (Reason.MISSING_UNIT, "the request does not say which `session` asks")
    assert missing.missing == "session"
    assert decider.decide("late", "somebody").reason == Reason.MISSING_UNIT


@pytest.mark.parametrize(("value", "as_text"), [(7, "7"), (-1, "-1"), ("7", "7")])
def test_a_whole_number_is_a_unit_too(value, as_text):
    decider = assigner(spec(layer="web"), layers=[LayerSpec("web", unit="n")])
    assert decider.decide("late", None, {"n": value}) == decider.decide("late", None, {"n": as_text})


@pytest.mark.parametrize("value", [True, 1.5, None, [], {}, ""])
def test_anything_else_is_none(value):
    decider = assigner(spec(layer="web"), layers=[LayerSpec("web", unit="n")])
    assert decider.decide("late", "u", {"n": value}).reason == Reason.MISSING_UNIT


def test_a_sticky_unit_keeps_its_variant_whatever_the_request():
    decide = assigner(spec()).experiments["late"]
    assert len({decide("unit-1", None, f"request-{n}") for n in range(50)}) == 1


def test_an_unsticky_experiment_draws_for_every_request():
    decider = assigner(spec(sticky=False))
    found = Counter(decider.decide("late", "unit-1", None, f"request-{n}").variant for n in range(2000))
    assert stats.binomtest(found["control"], 2000).pvalue > 1e-3
    assert decider.decide("late", "a", None, "r1") == decider.decide("late", None, None, "r1")
    assert decider.decide("late", "a").reason == Reason.MISSING_UNIT
    assert decider.decide("late", "a").words == "the request has no id to draw by"
    assert decider.decide("late", "a").missing == "request_id"


def test_an_unsticky_experiment_in_a_layer_stays_among_its_units():
    layers = [LayerSpec("checkout", holdout=0.5)]
    decide = assigner(spec(layer="checkout", share=0.5, sticky=False), layers=layers).experiments["late"]
    held = {unit for unit in UNITS[:300] if decide(unit, None, "r").reason == Reason.HOLDOUT}
    assert 100 < len(held) < 200
    assert all(decide(unit, None, f"r{n}").reason == Reason.HOLDOUT for unit in held for n in range(5))
    assert decide(None, None, "r").reason == Reason.MISSING_UNIT


# ------------------------------------------------------------------------------------------------------ before the draw


def test_an_override_beats_everything_and_does_not_count():
    layers = [LayerSpec("checkout", holdout=0.9)]
    fields = {
        "layer": "checkout",
        "share": 0.1,
        "segment": DE,
        "start_at": NOW + HOUR,
        "overrides": {"me": "treatment"},
    }
    decider = assigner(spec(**fields), layers=layers)
    decision = decider.decide("late", "me")
    assert (decision.variant, decision.reason, decision.enrolled) == ("treatment", Reason.OVERRIDE, False)
    assert decider.decide("late", "you").reason == Reason.SCHEDULE
    assert decider.decide_all("me") == [decision]


def test_the_schedule_is_compiled_in():
    timed = spec(start_at=NOW, end_at=NOW + HOUR)
    expected = [(-1, Reason.SCHEDULE, 0), (0, Reason.SPLIT, 1), (59, Reason.SPLIT, 1), (60, Reason.SCHEDULE, None)]
    for minutes, reason, hours_until in expected:
        decider = assigner(timed, at=NOW + timedelta(minutes=minutes))
        assert decider.decide("late", "u").reason == reason
        assert decider.due_at == (None if hours_until is None else NOW + hours_until * HOUR)
    assert "ended at 2026-03-01T13:00:00+00:00" in assigner(timed, at=NOW + HOUR).decide("late", "u").words


def test_a_ramp_is_compiled_in_and_only_adds():
    steps = tuple(RampStep(NOW + n * HOUR, coverage) for n, coverage in ((1, 0.1), (2, 0.5), (3, 1.0)))
    before: dict[str, str] = {}
    for hours in range(4):
        decider = assigner(spec(coverage=0.01, ramp=steps), at=NOW + hours * HOUR)
        enrolled = {unit: d.variant for unit in UNITS if (d := decider.decide("late", unit)).enrolled}
        assert enrolled.items() >= before.items()
        assert decider.due_at == (None if hours == 3 else NOW + (hours + 1) * HOUR)
        assert decider.decide("late", next(iter(enrolled))).revision == hours + 1
        before = enrolled
    assert len(before) == len(UNITS)


def shared(**fields):
    layers = [LayerSpec("checkout", holdout=0.1)]
    specs = [spec(f"e{n}", layer="checkout", share=share) for n, share in enumerate((0.3, 0.3, 0.2))]
    return assigner(*specs, layers=layers, **fields)


def test_experiments_of_a_layer_exclude_each_other():
    decider = shared()
    found = Counter()
    for unit in UNITS:
        decisions = decider.decide_all(unit)
        enrolled = [d.experiment for d in decisions if d.enrolled]
        assert len(enrolled) <= 1
        held = {d.reason == Reason.HOLDOUT for d in decisions}
        assert len(held) == 1
        found["holdout" if held == {True} else (enrolled or ["free"])[0]] += 1
    expected = {"holdout": 0.1, "e0": 0.3, "e1": 0.3, "e2": 0.2, "free": 0.1}
    observed = [found[name] for name in expected]
    assert stats.chisquare(observed, [share * len(UNITS) for share in expected.values()]).pvalue > 1e-3


def test_all_at_once_is_the_same_as_one_by_one():
    layers = [
        LayerSpec("all", holdout=0.2),
        LayerSpec("checkout", holdout=0.1, root="all"),
        LayerSpec("web", unit="session", holdout=0.1),
        LayerSpec("empty"),
    ]
    decider = assigner(
        spec("one", layer="checkout", share=0.4, overrides={"unit-3": "treatment"}),
        spec("two", layer="checkout", share=0.3, segment=DE),
        spec("closed", layer="checkout", share=0.2, end_at=NOW),
        spec("session", layer="web", share=0.5, overrides={"s-4": "control"}),
        spec("requests", sticky=False),
        spec("alone", coverage=0.3),
        layers=layers,
    )
    seen = Counter()
    for number, unit in enumerate([*UNITS[:600], None, "", "\ud800"]):
        context = {"country": ["DE", "FR"][number % 2], "session": f"s-{number}"}
        decisions = {d.experiment: d for d in decider.decide_all(unit, context, f"r-{number}")}
        assert len(decisions) == 6
        assert decisions == {name: decide(unit, context, f"r-{number}") for name, decide in decider.experiments.items()}
        seen.update(d.reason for d in decisions.values())
    elsewhere = {Reason.STATIC, Reason.TARGETING_MATCH, Reason.MISSING_CONTEXT, Reason.ERROR}
    assert set(seen) == set(Reason) - elsewhere - {Reason.PAUSED, Reason.NOT_RUNNING}


def test_a_root_holds_units_out_of_all_its_layers():
    layers = [LayerSpec("all", holdout=0.2), *(LayerSpec(f"l{n}", root="all") for n in range(3))]
    decider = assigner(*(spec(f"e{n}", layer=f"l{n}") for n in range(3)), layers=layers)
    held = Counter(sum(d.reason == Reason.HOLDOUT for d in decider.decide_all(unit)) for unit in UNITS)
    assert set(held) == {0, 3}
    assert stats.binomtest(held[3], len(UNITS), 0.2).pvalue > 1e-3
    assert "held out of layer `all`" in next(
        d.words for unit in UNITS if (d := decider.decide("e0", unit)).reason == Reason.HOLDOUT
    )


def test_a_layer_and_its_experiment_draw_independently():
    # with the same salt, the half of a layer would be all control
    decide = assigner(spec(layer="checkout", share=0.5), layers=[LayerSpec("checkout")]).experiments["late"]
    found = Counter(d.variant for d in map(decide, UNITS) if d.enrolled)
    assert stats.binomtest(found["control"], sum(found.values())).pvalue > 1e-3


def test_experiments_are_independent_of_each_other():
    layers = [LayerSpec("l0"), LayerSpec("l1")]
    decider = assigner(spec("e0", layer="l0", share=0.8), spec("e1", layer="l1", share=0.8), spec("e2"), layers=layers)
    table = np.zeros((2, 2, 2))
    for unit in UNITS:
        chosen = [decider.decide(name, unit) for name in ("e0", "e1", "e2")]
        if all(d.enrolled for d in chosen):
            table[tuple(int(d.variant == "control") for d in chosen)] += 1
    assert table.sum() > 10_000
    assert stats.chisquare(table.ravel()).pvalue > 1e-3


def test_a_new_salt_draws_everybody_anew():
    one, other = (assigner(spec(salt=salt)).experiments["late"] for salt in ("first", "second"))
    table = np.zeros((2, 2))
    for unit in UNITS:
        table[int(one(unit).variant == "control"), int(other(unit).variant == "control")] += 1
    assert stats.chi2_contingency(table).pvalue > 1e-3


# --------------------------------------------------------------------------------- the same everywhere and at all times

PROGRAM = """
import json, sys
from datetime import datetime
from crossfade.traffic.allocation.allocations import Allocations
from crossfade.traffic.allocation.assignment import Assigner

assigner = Assigner(Allocations.decode(sys.stdin.buffer.read()), datetime.fromisoformat(sys.argv[1]))
units = [f"unit-{number}" for number in range(300)]
decided = [assigner.decide_all(unit, {}) for unit in units]
print(json.dumps([[(d.experiment, d.variant, d.reason, d.propensity) for d in decisions] for decisions in decided]))
"""


def test_another_process_decides_the_same_after_a_restart():
    state = (
        Allocations()
        .add_layer(LayerSpec("checkout", holdout=0.1))
        .place(spec("one", layer="checkout", share=0.5))
        .place(spec("two", coverage=0.3, segment=Segment({"a": None})))
        .revise("two", {"control": 0.2, "treatment": 0.8}, coverage=0.6, at=NOW)
    )
    here = Assigner(Allocations.decode(state.encode()), NOW)
    for seed in ("0", "1"):  # Python's own hash is another one in every process
        command = [sys.executable, "-c", PROGRAM, NOW.isoformat()]
        answer = subprocess.run(
            command, input=state.encode(), capture_output=True, check=True, env=os.environ | {"PYTHONHASHSEED": seed}
        )
        there = json.loads(answer.stdout)
        assert there == [
            [[d.experiment, d.variant, d.reason, d.propensity] for d in here.decide_all(unit, {})]
            for unit in UNITS[:300]
        ]


WEIGHTS = st.sampled_from([(0.5, 0.5), (0.1, 0.9), (1 / 3, 2 / 3), (0.9, 0.1), (1.0, 0.0), (0.0, 1.0)])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(WEIGHTS, st.sampled_from([0.01, 0.1, 0.5, 0.5, 1.0])), min_size=1, max_size=8))
def test_no_unit_leaves_a_variant_that_does_not_shrink(revisions):
    state = Allocations().place(spec(coverage=0.05))
    decide = Assigner(state, NOW).experiments["late"]
    before = {unit: decide(unit) for unit in UNITS[:300]}
    shares = state.experiment("late").spec.shares()
    for weights, coverage in revisions:
        state = state.revise(
            "late", dict(zip(("control", "treatment"), weights, strict=True)), coverage=coverage, at=NOW
        )
        decide = Assigner(Allocations.decode(state.encode()), NOW).experiments["late"]
        after = {unit: decide(unit) for unit in before}
        grown = state.experiment("late").spec.shares()
        for unit, decision in before.items():
            if decision.enrolled and grown[decision.variant] >= shares[decision.variant]:
                assert after[unit].variant == decision.variant
                assert after[unit].enrolled
        before, shares = after, grown


def test_threads_share_one_assigner():
    decider = shared()
    expected = [decider.decide_all(unit) for unit in UNITS[:500]]
    found: list[list] = []
    threads = [Thread(target=lambda: found.append([decider.decide_all(u) for u in UNITS[:500]])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4
    losses = [Thread(target=lambda: [decider.decide("e0", None) for _ in range(500)]) for _ in range(4)]
    for thread in losses:
        thread.start()
    for thread in losses:
        thread.join()
    assert decider.tally.counts() == {("e0", Reason.MISSING_UNIT): 2000}


def test_decisions_cannot_be_changed_by_who_gets_them():
    decider = shared()
    decision = decider.decide("e0", "unit-1")
    with pytest.raises(AttributeError):
        decision.variant = "treatment"
    decisions = decider.decide_all("unit-1")
    decisions.clear()
    assert len(decider.decide_all("unit-1")) == 3


def test_values_travel_with_the_decision():
    both = (VariantSpec("old", 0.5, value="late:1.0.0"), VariantSpec("new", 0.5, value={"ref": "late:1.1.0"}))
    decide = assigner(AllocationSpec("late", both)).experiments["late"]
    assert {msgspec.json.encode(decide(unit).value) for unit in UNITS[:50]} == {
        b'"late:1.0.0"',
        b'{"ref":"late:1.1.0"}',
    }


def test_many_variants_are_all_reached():
    weights = dict.fromkeys((f"v{n}" for n in range(64)), 1 / 64)
    decide = assigner(AllocationSpec("late", variants(**weights))).experiments["late"]
    observed = Counter(decide(unit).variant for unit in UNITS)
    assert len(observed) == 64
    assert stats.chisquare(list(observed.values())).pvalue > 1e-3
