"""How many replicas there shall be follows the load, and never swings with its noise."""

import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.serving.replicas.scaling import DOWN_SECONDS, UP_SECONDS, Scaler, desired_replicas

counts = st.integers(1, 20)
targets = st.floats(0.1, 1.0)
loads = st.floats(0.0, 20.0)
BOUNDS = {"least": 1, "most": 64}


@given(counts, st.floats(allow_nan=True, allow_infinity=True), targets, st.integers(1, 8), st.integers(0, 8))
def test_it_stays_within_its_bounds_whatever_is_measured(count, load, target, least, more):
    assert least <= desired_replicas(count, load, target, least, least + more) <= least + more


@given(counts, loads, targets)
def test_asking_again_changes_nothing(count, load, target):
    once = desired_replicas(count, load, target, **BOUNDS)
    assert desired_replicas(once, load, target, **BOUNDS) == once


@given(counts, loads, loads, targets)
def test_more_load_never_asks_for_fewer(count, load, more, target):
    low, high = sorted((load, more))
    assert desired_replicas(count, low, target, **BOUNDS) <= desired_replicas(count, high, target, **BOUNDS)


@given(counts, st.floats(0.05, 15.0), targets)
def test_what_it_asks_for_is_neither_too_busy_nor_too_idle(count, load, target):
    wanted = desired_replicas(count, load, target, **BOUNDS)
    assert wanted == BOUNDS["most"] or load / wanted <= 1.1 * target + 1e-9
    assert wanted == 1 or load / (wanted - 1) > 0.9 * target - 1e-9


@given(counts, st.floats(0.1, 15.0), targets, st.lists(st.floats(0.95, 1.05), min_size=5, max_size=60))
def test_a_load_that_swings_by_five_percent_settles_on_the_way_there(count, load, target, noise):
    """Once it went one way it never goes back: however long it lasts, the number changes in one direction only."""
    seen = [count]
    for factor in noise:
        seen.append(desired_replicas(seen[-1], factor * load, target, **BOUNDS))
    steps = [after - before for before, after in itertools.pairwise(seen) if after != before]
    assert all(step > 0 for step in steps) or all(step < 0 for step in steps)


@settings(max_examples=30)
@given(st.integers(1, 6), st.floats(0.1, 5.0), st.lists(st.floats(0.5, 1.5), min_size=400, max_size=400))
def test_even_half_of_it_as_noise_changes_the_number_rarely(count, load, noise):
    """Measured every second: changes are at least as far apart as measurements have to agree."""
    scaler, changed = Scaler(), []
    for second, factor in enumerate(noise):
        wanted = scaler.advise(float(second), count, load=factor * load, target=0.7, **BOUNDS)
        if wanted != count:
            changed.append((second, wanted - count))
            count = wanted
    for (first, _), (second, step) in itertools.pairwise(changed):
        assert second - first >= (UP_SECONDS if step > 0 else DOWN_SECONDS)


def advise(scaler, seconds, count, load, start=0):
    for second in range(start, start + seconds):
        count = scaler.advise(float(second), count, load=load, target=0.7, least=1, most=8)
    return count


def test_a_burst_of_a_few_seconds_starts_nothing():
    assert advise(Scaler(), int(UP_SECONDS), 1, load=1.0) == 1


def test_load_that_lasts_starts_more_and_quiet_that_lasts_ends_them():
    scaler = Scaler()
    assert advise(scaler, 12, 1, load=1.0) == 2
    assert advise(scaler, 100, 2, load=0.1, start=12) == 2
    assert advise(scaler, 30, 2, load=0.1, start=112) == 1


def test_one_busy_measurement_keeps_what_is_there():
    scaler = Scaler()
    assert advise(scaler, 100, 3, load=0.1) == 3
    assert advise(scaler, 1, 3, load=2.0, start=100) == 3
    assert advise(scaler, 100, 3, load=0.1, start=101) == 3


def test_other_bounds_count_at_once():
    scaler = Scaler()
    assert scaler.advise(0.0, 1, load=0.0, target=0.7, least=3, most=5) == 3
    assert scaler.advise(1.0, 8, load=9.0, target=0.7, least=3, most=5) == 5


def test_a_measurement_that_is_none_changes_nothing():
    scaler = Scaler()
    assert {advise(scaler, 20, 2, load=value) for value in (math.nan, math.inf)} == {2}
