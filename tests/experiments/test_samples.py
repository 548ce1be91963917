"""Cells of any shape and order mean the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.experiments.analysis import analyze
from crossfade.experiments.analysis_spec import AnalysisSpec
from crossfade.experiments.samples import accumulate, estimates, pair, periods, pooled, splits
from crossfade.ledger.evidence import Arrival, Evidence
from crossfade.ledger.metrics import MetricSpec
from crossfade.methods.stats.values import Estimate, NotEstimable
from tests.experiments.support import after, cells, day, evidence, question

MEAN = MetricSpec("m")
FIXED = AnalysisSpec(method="fixed", planned_units=10**6)


def of_weights(*splits):
    arrivals = [
        Arrival(revision + 1, variant, day(revision), 10, weight)
        for revision, split in enumerate(splits)
        for variant, weight in zip(("control", "treatment"), split, strict=True)
    ]
    return periods(arrivals, ("control", "treatment"))


def test_periods_are_what_has_the_same_split():
    assert of_weights((0.5, 0.5), (0.05, 0.05), (0.9, 0.1), (0.25, 0.25)) == {1: 0, 2: 0, 3: 1, 4: 0}


def test_a_revision_without_any_weight_is_its_own_period():
    assert of_weights((0.5, 0.5), (0.0, 0.0), (0.0, 0.0)) == {1: 0}  # `accumulate` gives the others one each


def test_who_got_nobody_has_the_weight_that_the_others_leave():
    came = [Arrival(1, "a", day(0), 10, 0.6), Arrival(1, "b", day(0), 3, 0.3), Arrival(2, "a", day(0), 4, 1.0)]
    assert splits(came, ("a", "b", "c")) == {1: pytest.approx((0.6, 0.3, 0.1)), 2: (1.0, 0.0, 0.0)}


def test_weights_of_a_bandit_are_the_same_when_they_agree_in_two_digits():
    splits = ((0.5, 0.5), (0.5021, 0.4979), (0.9912, 0.0088), (0.9913, 0.0087), (0.98, 0.02))
    arrivals = [
        Arrival(revision, variant, day(0), 10, weight)
        for revision, split in enumerate(splits)
        for variant, weight in zip(("control", "treatment"), split, strict=True)
    ]
    assert len(set(periods(arrivals, ("control", "treatment")).values())) == 5
    found = periods(arrivals, ("control", "treatment"), adaptive=True)
    assert found[0] == found[1]
    assert len(set(found.values())) == 4  # small weights keep their digits: 0.0087 and 0.0088 differ


def test_a_revision_that_nobody_arrived_under_is_its_own_period():
    made = cells("m", {"control": [1.0, 2.0], "treatment": [2.0, 4.0]}, revision=7)
    (samples,) = accumulate(made, {}, [day(0)])
    assert list(samples) == [-8]
    assert pair(samples, "control", "treatment", MEAN).contrast("absolute").value == pytest.approx(1.5)


def test_days_accumulate_in_their_order():
    made = cells("m", {"control": [1.0, 2.0, 3.0, 4.0]}, days=4)
    so_far = [pooled(samples, "control").n for samples in accumulate(made[::-1], {}, [day(n) for n in range(4)])]
    assert so_far == [1, 2, 3, 4]


def test_days_without_units_repeat_what_was_known():
    made = cells("m", {"control": [1.0, 2.0]})
    found = list(accumulate(made, {}, [day(0), day(1), day(2)]))
    assert [pooled(each, "control").n for each in found] == [2, 2, 2]


def test_what_was_known_does_not_change_when_more_becomes_known():
    made = cells("m", {"control": [1.0, 2.0, 3.0]}, days=3)
    first, *_ = list(accumulate(made, {}, [day(n) for n in range(3)]))
    assert pooled(first, "control").n == 1


values = st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=30)


@settings(max_examples=60, deadline=None)
@given(values, values, st.integers(1, 5), st.randoms(use_true_random=False))
def test_how_rows_are_spread_over_cells_does_not_matter(control, treatment, days, random):
    rows = {"control": control, "treatment": treatment}
    together, apart = (
        evidence({"m": rows}),
        list(evidence({"m": rows}, days=days).cells),
    )
    random.shuffle(apart)
    asked = question("m", analysis=FIXED, ends_at=after(5))
    whole = analyze(together, asked, after(5)).comparisons[0]
    parts = analyze(
        Evidence("late", tuple(apart), evidence({"m": rows}, days=days).arrivals), asked, after(5)
    ).comparisons[0]
    assert type(whole.absolute) is type(parts.absolute)
    if isinstance(whole.absolute, NotEstimable):
        return
    scale = max(map(abs, [*control, *treatment, 1e-9]))
    assert parts.absolute.effect == pytest.approx(whole.absolute.effect, abs=1e-9 * scale)
    assert parts.absolute.standard_error == pytest.approx(whole.absolute.standard_error, rel=1e-6, abs=1e-9 * scale)


@settings(max_examples=40, deadline=None)
@given(values, values)
def test_exchanging_the_variants_turns_the_effect_around(first, second):
    asked = question("m", analysis=FIXED, ends_at=after(1))
    one = analyze(evidence({"m": {"control": first, "treatment": second}}), asked, after(1)).comparisons[0]
    other = analyze(evidence({"m": {"control": second, "treatment": first}}), asked, after(1)).comparisons[0]
    if isinstance(one.absolute, NotEstimable):
        assert one.absolute == other.absolute
        return
    assert one.absolute.effect == -other.absolute.effect
    assert one.absolute.p_value == pytest.approx(other.absolute.p_value)
    turned = {"better": "worse", "worse": "better", "unclear": "unclear"}
    assert turned[one.reading] == other.reading


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.05, 0.95), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_a_day_that_is_good_for_all_is_no_effect_whatever_the_weights(shares, seed):
    """The same units, day by day moved together: the estimate within periods does not move at all."""
    random = np.random.default_rng(seed)
    still, moved = [], []
    for number, share in enumerate(shares):
        sizes = {"control": max(3, round(40 * share)), "treatment": max(3, round(40 * (1 - share)))}
        rows = {name: random.normal(size=size) for name, size in sizes.items()}
        still += cells("m", rows, revision=number + 1)
        moved += cells("m", {name: each + 5 * number for name, each in rows.items()}, revision=number + 1)
    revisions = {number + 1: number for number in range(len(shares))}
    found = [
        pair(next(accumulate(made, revisions, [day(0)])), "control", "treatment", MEAN).contrast("absolute")
        for made in (still, moved)
    ]
    assert found[1].value == pytest.approx(found[0].value, abs=1e-9)
    assert found[1].standard_error == pytest.approx(found[0].standard_error)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"control": [1.0, 2.0]}, "`treatment` has no units yet"),
        ({"control": [1.0, 2.0], "treatment": [1.0]}, "two units"),
        ({"control": [0.0, 0.0], "treatment": [0.0, 0.0]}, "do not vary"),
    ],
)
def test_what_cannot_be_estimated_says_why(rows, said):
    (samples,) = accumulate(cells("m", rows), {1: 0}, [day(0)])
    found = pair(samples, "control", "treatment", MEAN).contrast("absolute")
    assert said in found.reason


def test_a_covariate_is_adjusted_for_within_periods():
    """What the covariate explains between periods is not the treatment's, and its coefficient is that within them."""
    random = np.random.default_rng(5)
    made = []
    for number, sizes in enumerate(((400, 100), (250, 250))):
        rows = {}
        for name, size in zip(("control", "treatment"), sizes, strict=True):
            before = random.normal(5.0 * number, 1.0, size)
            rows[name] = np.stack([2.0 * before - 20.0 * number + random.normal(size=size), before], axis=1)
        made += cells("m", rows, revision=number + 1)
    (samples,) = accumulate(made, {1: 0, 2: 1}, [day(0)])
    plain = pair(samples, "control", "treatment", MEAN).contrast("absolute")
    adjusted = pair(samples, "control", "treatment", MetricSpec("m", covariate="before")).contrast("absolute")
    assert adjusted.standard_error < 0.55 * plain.standard_error
    assert abs(adjusted.value) < 4 * adjusted.standard_error


def test_degrees_of_freedom_are_those_of_the_periods():
    random = np.random.default_rng(6)
    made = []
    for revision in range(1, 41):  # forty periods of two units each know little about their variance
        made += cells("m", {name: random.normal(size=2) for name in ("control", "treatment")}, revision=revision)
    periods_of = {revision: revision for revision in range(1, 41)}
    (samples,) = accumulate(made, periods_of, [day(0)])
    found, left_out = estimates(samples, ("control", "treatment"), MEAN)
    assert left_out == 0
    for each in found:
        assert isinstance(each, Estimate)
        assert 2 < each.df < 80
        assert each.variance > 1 / 80  # no period varies less than usual, and some do more


def test_of_one_period_nothing_is_lent():
    random = np.random.default_rng(7)
    rows = {"control": random.normal(size=40), "treatment": random.normal(0.0, 0.1, 40)}
    (samples,) = accumulate(cells("m", rows), {1: 0}, [day(0)])
    found = pair(samples, "control", "treatment", MEAN)
    assert found.treatment.variance == pytest.approx(rows["treatment"].var(ddof=1) / 40)
    plain, cautious = (found.contrast("absolute", cautious=each) for each in (False, True))
    assert cautious.standard_error == pytest.approx(plain.standard_error)  # as many units: there is no difference
