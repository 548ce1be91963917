"""What is remembered of units is bounded, and the oldest goes first."""

import math

from hypothesis import given
from hypothesis import strategies as st

from crossfade.safety.memory import Changes, Recent
from crossfade.safety.specs import ChangeCheck


@given(st.lists(st.sampled_from("abcdef")), st.integers(1, 4))
def test_the_units_heard_of_last_are_kept(units, size):
    recent = Recent(size)
    for at, unit in enumerate(units):
        recent.put(unit, unit.upper(), float(at))
    newest = list(dict.fromkeys(reversed(units)))[:size]
    for unit in "abcdef":
        found = recent.find(unit)
        if unit in newest:
            assert found == (unit.upper(), float(len(units) - 1 - units[::-1].index(unit)))
        else:
            assert found is None


def test_what_is_put_again_is_the_newest():
    recent = Recent(2)
    for at, unit in enumerate("abac"):
        recent.put(unit, at, float(at))
    assert recent.find("b") is None
    assert recent.find("a") == (2, 2.0)


def changes(**options):
    return Changes(ChangeCheck(**({"name": "c", "output": "y", "maximum": 1.0} | options)), 100)


def test_the_first_number_of_a_unit_is_no_jump():
    memory = changes()
    assert not memory.jumps("a", 1e308, 0.0)
    assert not memory.jumps("b", -1e308, 0.0)


def test_a_difference_that_overflows_is_a_jump():
    memory = changes()
    memory.jumps("a", 1e308, 0.0)
    assert memory.jumps("a", -1e308, 0.0)


def test_what_is_not_finite_is_a_jump_and_not_remembered():
    memory = changes()
    for odd in (math.nan, math.inf, -math.inf):
        assert memory.jumps("a", odd, 0.0)
    assert not memory.jumps("a", 5.0, 0.0)
    assert memory.jumps("a", math.nan, 0.0)
    assert not memory.jumps("a", 6.0, 0.0)


def test_a_limit_of_nothing_allows_no_change():
    memory = changes(maximum=0.0)
    assert not memory.jumps("a", 1.0, 0.0)
    assert not memory.jumps("a", 1.0, 1.0)
    assert memory.jumps("a", math.nextafter(1.0, 2.0), 2.0)
